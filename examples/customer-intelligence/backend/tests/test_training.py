"""The trainings reach the published answers, repeat byte for byte, and refuse useless data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backend.core.tables import read_customers
from backend.tests.conftest import CDNOW, ROOT, TELCO
from backend.training import __main__ as all_of_them
from backend.training import churn, clv, segmentation
from backend.training.holdout import held_out

Train = Callable[[list[str]], int]


@pytest.fixture(name="trained", scope="module")
def fixture_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three models, trained once with the defaults."""
    out = tmp_path_factory.mktemp("models")
    assert all_of_them.main(["--data-dir", str(ROOT / "data"), "--out", str(out)]) == 0
    return out


def metrics(folder: Path) -> dict[str, Any]:
    """Return the metrics of a trained model."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"]
    return found


def test_churn_reaches_the_published_auc(trained: Path) -> None:
    """About 0.84 on held-out customers; its sampling error on 1,393 rows is 0.012."""
    found = metrics(trained / "churn")
    assert found["roc_auc"] == pytest.approx(0.84, abs=0.012)
    assert found["roc_auc_cross_validated"] == pytest.approx(0.845, abs=0.01)
    assert found["calibration_error"] < 0.05
    assert found["rows"] + found["training_rows"] == 7043
    assert sum(found["confusion"].values()) == found["rows"]
    assert set(found["by_contract"]) == {"Month-to-month", "One year", "Two year"}


def test_churn_export_predicts_as_scikit_learn_does() -> None:
    """The JSON model is the pipeline, not an approximation of it."""
    table = read_customers(TELCO)
    pipeline = churn.estimator(1.0).fit(table, table["Churn"])
    columns = {name: table[name].tolist() for name in table.columns}
    assert churn.export(pipeline).predict(columns) == pytest.approx(
        pipeline.predict_proba(table)[:, 1], abs=1e-12
    )


def test_held_out_customers_stay_held_out() -> None:
    """New rows do not move old ones between the parts; another seed does."""
    ids = pd.Series([f"id-{index}" for index in range(5000)])
    before = held_out(ids[:4000], 0.2, seed=1)
    after = held_out(ids, 0.2, seed=1)
    assert (before == after[:4000]).all()
    assert (after != held_out(ids, 0.2, seed=2)).any()
    assert after.mean() == pytest.approx(0.2, abs=0.02)


def test_holdout_table_gives_the_metrics(trained: Path) -> None:
    """A gate can resample it."""
    table = pd.read_csv(trained / "churn" / "holdout.csv")
    found = metrics(trained / "churn")
    assert len(table) == found["rows"]
    assert ((table["score"] - table["label"]) ** 2).mean() == pytest.approx(
        found["brier"], abs=1e-5
    )


def test_calibration_of_a_known_case() -> None:
    """Scores of 0.5 where everybody churns are off by 0.5."""
    error, bins = churn.calibration(np.ones(20, dtype=np.int64), np.full(20, 0.5))
    assert error == 0.5
    assert len(bins) == 10 and bins[0] == {"rows": 2.0, "score": 0.5, "rate": 1.0}


def test_a_group_of_one_class_has_no_auc() -> None:
    """It is null in the metrics, which is JSON, unlike NaN."""
    table = pd.DataFrame({"Churn": [0, 1, 0, 0], "Contract": ["m", "m", "y", "y"]})
    groups = churn.evaluate(table, np.array([0.1, 0.9, 0.2, 0.3]))["by_contract"]
    assert groups["m"]["roc_auc"] == 1.0
    assert groups["y"]["roc_auc"] is None


def test_clv_reproduces_the_papers(trained: Path) -> None:
    """Table 2 of Fader, Hardie and Lee (2005); Gamma-Gamma as in Fader and Hardie (2013)."""
    model = json.loads((trained / "clv" / "model.json").read_text("utf-8"))
    published = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}
    assert {name: round(value, 3) for name, value in model["bg_nbd"].items()} == published
    assert {name: round(value, 2) for name, value in model["gamma_gamma"].items()} == {
        "p": 6.25,
        "q": 3.74,
        "v": 15.44,
    }
    likelihood = metrics(trained / "clv")["log_likelihood"]["bg_nbd"]
    assert likelihood == pytest.approx(-9582.4, abs=0.05)


def test_clv_predicts_the_holdout_period(trained: Path) -> None:
    """Better than to predict each customer's past, or the mean for everybody."""
    table = pd.read_csv(trained / "clv" / "holdout.csv")
    found = metrics(trained / "clv")
    assert len(table) == found["customers"] == 2357
    assert found["mae"] < (table["label"] - table["label"].mean()).abs().mean()
    assert found["correlation"] > 0.6
    assert found["top_decile_capture"] > 0.4
    assert found["purchases_predicted"] == pytest.approx(found["purchases_actual"], rel=0.15)


def test_segments_are_stable_and_ordered(trained: Path) -> None:
    """Seeds hardly matter, and the names mean what they say."""
    found = metrics(trained / "segmentation")
    assert found["stability_min"] > 0.95
    assert found["silhouette"] > 0.35
    segments = found["segments"]
    assert segments["champions"]["frequency"] > segments["loyal"]["frequency"]
    assert segments["champions"]["recency_days"] < segments["dormant"]["recency_days"]
    assert sum(part["customers"] for part in segments.values()) == found["customers"]


def test_segments_are_judged_by_customers_held_out(trained: Path) -> None:
    """Who was held out moves neither the centroids nor the scale, and everybody has a segment."""
    found = metrics(trained / "segmentation")
    assert found["customers"] + found["training_customers"] == 2357
    table = pd.read_csv(trained / "segmentation" / "holdout.csv", dtype={"id": str})
    assert len(table) == found["customers"]
    assert held_out(table["id"], 0.25, seed=20240501).all()
    assert table["silhouette"].mean() == pytest.approx(found["silhouette"], abs=1e-5)
    assignments = json.loads((trained / "segmentation" / "assignments.json").read_text("utf-8"))
    assert len(assignments) == 2357


def test_what_was_held_out_does_not_move_the_segments(trained: Path, tmp_path: Path) -> None:
    """Ten times their money changes nothing but the metrics."""
    changed = []
    for line in CDNOW.read_text("utf-8").splitlines():
        customer, sample, day, quantity, value = line.split()
        if held_out(pd.Series([customer]), 0.25, seed=20240501)[0]:
            value = f"{10 * float(value):.2f}"
        changed.append(f" {customer} {sample} {day} {quantity} {value}")
    data = tmp_path / "changed.txt"
    data.write_text("\n".join(changed) + "\n", "utf-8")
    assert segmentation.main(["--data", str(data), "--out", str(tmp_path / "out")]) == 0
    before, after = (
        json.loads((folder / "model.json").read_text("utf-8"))
        for folder in (trained / "segmentation", tmp_path / "out")
    )
    assert {**after, "provenance": None} == {**before, "provenance": None}
    assert metrics(tmp_path / "out") != metrics(trained / "segmentation")


@pytest.mark.parametrize("name", ["churn", "clv", "segmentation"])
def test_champions_in_the_repository_are_what_training_gives(trained: Path, name: str) -> None:
    """The committed models are not out of step with code and data."""
    committed = json.loads((ROOT / "models" / name / "metrics.json").read_text("utf-8"))
    fresh = json.loads((trained / name / "metrics.json").read_text("utf-8"))
    assert fresh["provenance"]["parameters"] == committed["provenance"]["parameters"]
    assert fresh["provenance"]["data_sha256"] == committed["provenance"]["data_sha256"]
    # Another processor sums in another order, and the optimiser ends a hair's breadth away.
    expected = pytest.approx(numbers(committed["metrics"]), rel=1e-4, abs=1e-3)
    assert numbers(fresh["metrics"]) == expected


def numbers(value: Any, path: str = "") -> dict[str, float]:
    """Return the numbers of nested values by their path."""
    if isinstance(value, dict):
        parts = [numbers(item, f"{path}/{key}") for key, item in value.items()]
    elif isinstance(value, list):
        parts = [numbers(item, f"{path}/{index}") for index, item in enumerate(value)]
    else:
        return {path: value}
    return {key: item for part in parts for key, item in part.items()}


@pytest.mark.parametrize(
    ("train", "data", "name"),
    [(churn.main, TELCO, "churn"), (clv.main, CDNOW, "clv")],
)
def test_training_repeats_byte_for_byte(
    trained: Path, tmp_path: Path, train: Train, data: Path, name: str
) -> None:
    """Same data, code and seed: same files, wherever they are written."""
    assert train(["--data", str(data), "--out", str(tmp_path)]) == 0
    for path in (trained / name).iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_segmentation_repeats_and_takes_other_sizes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The metrics on stdout are the metrics in the file."""
    arguments = ["--data", str(CDNOW), "--stability-runs", "2"]
    assert segmentation.main([*arguments, "--out", str(tmp_path / "4")]) == 0
    same = (tmp_path / "4" / "assignments.json").read_bytes()
    assert same == (trained / "segmentation" / "assignments.json").read_bytes()
    capsys.readouterr()
    assert segmentation.main([*arguments, "--clusters", "3", "--out", str(tmp_path / "3")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == metrics(tmp_path / "3")
    assert set(printed["segments"]) == {"tier-1", "tier-2", "tier-3"}


def head(source: Path, target: Path, lines: int) -> Path:
    """Copy the first lines of a file."""
    text = source.read_text("utf-8").splitlines(keepends=True)[:lines]
    target.write_text("".join(text), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("train", "source", "extra", "reason"),
    [
        (churn.main, TELCO, [], "at least 100 are needed, with and without churn"),
        (clv.main, CDNOW, [], "at least 20 are needed"),
        (clv.main, CDNOW, ["--calibration-end", "1999-01-01"], "nothing is left to evaluate on"),
        (segmentation.main, CDNOW, [], "are too few for 4 clusters"),
        (segmentation.main, CDNOW, ["--clusters", "1"], "must be at least 2"),
    ],
)
def test_too_little_data_gives_no_model(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    train: Train,
    source: Path,
    extra: list[str],
    reason: str,
) -> None:
    """Status 1, a reason, and nothing written."""
    data = head(source, tmp_path / "head", 50)
    out = tmp_path / "out"
    # The handlers of the command replace pytest's; what it logs is taken from stderr's record.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backend.core.logs.configure", lambda level: None)
        assert train(["--data", str(data), "--out", str(out), *extra]) == 1
    assert reason in caplog.text
    assert not out.exists()


def test_charges_must_be_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One cell that is no number stops the training."""
    data = tmp_path / "broken.csv"
    data.write_text(TELCO.read_text("utf-8").replace(",29.85,29.85,", ",cheap,29.85,", 1), "utf-8")
    assert churn.main(["--data", str(data), "--out", str(tmp_path / "out")]) == 1
    assert "MonthlyCharges must hold finite numbers only" in capsys.readouterr().err


def test_one_failed_training_does_not_stop_the_others(tmp_path: Path) -> None:
    """The exit status tells, and what could be trained is there."""
    (tmp_path / "cdnow-sample.txt").write_bytes(CDNOW.read_bytes())
    out = tmp_path / "models"
    assert all_of_them.main(["--data-dir", str(tmp_path), "--out", str(out), "--seed", "3"]) == 1
    assert sorted(item.name for item in out.iterdir()) == ["clv", "segmentation"]


def test_a_likelihood_without_a_peak_is_an_error() -> None:
    """The search ends at its bounds, and says so."""
    options = clv.parser("", "data").parse_args(["--out", "x"])
    options.restarts = 0
    with pytest.raises(clv.TrainingError, match="growing does not converge"):
        clv.maximise("growing", lambda values: float(np.log(values).sum()), 2, options)


def test_the_model_is_not_kept_if_its_metrics_are_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics are written first, and NaN is refused there."""
    monkeypatch.setattr(churn, "calibration", lambda labels, scores: (float("nan"), []))
    with pytest.raises(ValueError, match="not JSON compliant"):
        churn.main(["--data", str(TELCO), "--out", str(tmp_path)])
    assert not (tmp_path / "model.json").exists()
