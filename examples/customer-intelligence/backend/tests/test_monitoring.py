"""Drift statistics against known answers, and the report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from backend.monitoring.__main__ import main
from backend.monitoring.drift import DriftError, Thresholds, compare, compare_column
from backend.monitoring.statistics import categorical, kolmogorov_smirnov, psi, psi_of_shares
from backend.tests.conftest import TELCO

LIMITS = Thresholds()


def normal(size: int, shift: float, seed: int) -> np.ndarray:
    """Return a sample of a normal distribution."""
    return np.random.default_rng(seed).normal(shift, 1, size)


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5])
def test_known_answers_for_shifted_normals(shift: float) -> None:
    """KS tends to 2*Phi(d/2)-1; PSI to d squared, less what ten bins lose."""
    before, after = normal(200_000, 0, 1), normal(200_000, shift, 2)
    assert kolmogorov_smirnov(before, after)[0] == pytest.approx(
        2 * norm.cdf(shift / 2) - 1, abs=0.005
    )
    assert psi(before, after) == pytest.approx(shift**2, rel=0.12)


def test_psi_by_hand() -> None:
    """Natural logarithm; an empty bin counts as 0.0001."""
    found = psi_of_shares(np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    assert found == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))
    empty = psi_of_shares(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert empty == pytest.approx(0.5 * np.log(2) + 0.4999 * np.log(5000))


def test_psi_of_a_constant_column() -> None:
    """No change is 0; a new value on either side is seen."""
    constant = np.full(100, 3.0)
    assert psi(constant, constant) == 0
    assert psi(constant, np.full(100, 2.0)) > 1
    assert psi(constant, np.full(100, 4.0)) > 1


def test_categorical_by_hand() -> None:
    """Chi-squared of [[50, 50], [30, 70]] without correction is 8.333."""
    before, after = ["a"] * 50 + ["b"] * 50, ["a"] * 30 + ["b"] * 70
    _, statistic, p_value, new = categorical(before, after)
    assert statistic == pytest.approx(25 / 3)
    assert p_value == pytest.approx(0.00389, abs=1e-5)
    assert not new


def test_categorical_with_one_category() -> None:
    """There is nothing to test."""
    assert categorical(["a", "a"], ["a"]) == (0.0, 0.0, 1.0, [])


def test_equal_samples_do_not_drift() -> None:
    """Over 200 pairs of samples of one distribution none is critical."""
    severities = [
        compare_column(
            pd.Series(normal(500, 0, seed)), pd.Series(normal(500, 0, 1000 + seed)), LIMITS
        )["severity"]
        for seed in range(200)
    ]
    assert severities.count("critical") == 0
    assert severities.count("warning") <= 2


def test_a_large_shift_is_critical() -> None:
    """PSI and test agree."""
    found = compare_column(pd.Series(normal(500, 0, 1)), pd.Series(normal(500, 1, 2)), LIMITS)
    assert found["severity"] == "critical"
    assert found["psi"] > 0.25 and found["p_value"] < 0.01


def test_a_small_table_warns_only() -> None:
    """With 30 rows PSI is large by chance: without a test that agrees it is no alarm."""
    found = compare_column(pd.Series(normal(30, 0, 5)), pd.Series(normal(30, 0, 6)), LIMITS)
    assert found["psi"] > 0.25
    assert found["severity"] == "warning"


def test_new_categories_warn() -> None:
    """They are named."""
    before = pd.Series(["a", "b"] * 500)
    found = compare_column(before, pd.concat([before, pd.Series(["c"])]), LIMITS)
    assert found["severity"] == "warning"
    assert found["reasons"] == ["new categories: c"]


def test_missing_values_warn() -> None:
    """A tenth of the column is gone."""
    before, after = pd.Series(normal(1000, 0, 1)), pd.Series(normal(1000, 0, 2))
    after[:100] = np.nan
    found = compare_column(before, after, LIMITS)
    assert found["severity"] == "warning"
    assert found["reasons"] == ["10.0% missing, 0.0% in the reference"]


def test_an_emptied_column_is_critical() -> None:
    """There is nothing left to compare."""
    before, empty = pd.Series([1.0, 2.0]), pd.Series([np.nan, np.nan])
    assert compare_column(before, empty, LIMITS)["severity"] == "critical"
    assert compare_column(empty, empty, LIMITS)["severity"] == "ok"


def test_columns_that_come_and_go() -> None:
    """A lost one is critical, a new one is only told."""
    before = pd.DataFrame({"a": [1, 2], "b": [1, 2]})
    report = compare(before, before.rename(columns={"b": "c"}), LIMITS)
    assert report["severity"] == "critical"
    assert report["columns"]["b"]["reasons"] == ["the column is missing"]
    assert (report["drifted"], report["added_columns"]) == (["b"], ["c"])


def test_nothing_to_compare() -> None:
    """All columns ignored is a mistake, not health."""
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(DriftError, match="no column is left"):
        compare(table, table, LIMITS, ("a",))


@pytest.fixture(name="drifted")
def fixture_drifted(tmp_path: Path) -> Path:
    """The telco table after prices rose by half."""
    table = pd.read_csv(TELCO)
    table["MonthlyCharges"] *= 1.5
    path = tmp_path / "drifted.csv"
    table.to_csv(path, index=False)
    return path


def command(reference: Path, current: Path, out: Path, *more: str) -> list[str]:
    """Return the command line."""
    return ["--reference", str(reference), "--current", str(current), "--out", str(out), *more]


def test_no_drift_on_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All is well, in 20 columns; the id is left out."""
    out = tmp_path / "report.json"
    assert main(command(TELCO, TELCO, out, "--fail-on", "warning")) == 0
    assert json.loads(capsys.readouterr().out) == {"severity": "ok", "drifted": []}
    report = json.loads(out.read_text("utf-8"))
    assert len(report["columns"]) == 20
    assert report["columns"]["TotalCharges"]["kind"] == "numeric"
    assert report["rows"] == {"reference": 7043, "current": 7043}


@pytest.mark.parametrize(("fail_on", "status"), [(None, 0), ("warning", 1), ("critical", 1)])
def test_drift_is_found(tmp_path: Path, drifted: Path, fail_on: str | None, status: int) -> None:
    """The column that moved is named; the exit status is up to the caller."""
    out = tmp_path / "report.json"
    more = ["--fail-on", fail_on] if fail_on else []
    assert main(command(TELCO, drifted, out, *more)) == status
    report = json.loads(out.read_text("utf-8"))
    assert (report["severity"], report["drifted"]) == ("critical", ["MonthlyCharges"])
    assert report["data_sha256"]["reference"] != report["data_sha256"]["current"]


def test_thresholds_can_be_set(tmp_path: Path, drifted: Path) -> None:
    """What is critical by default is a warning here."""
    out = tmp_path / "report.json"
    assert main(command(TELCO, drifted, out, "--psi-critical", "9", "--fail-on", "critical")) == 0
    assert json.loads(out.read_text("utf-8"))["severity"] == "warning"


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "does not exist"), ("", "cannot be read"), ("a\n1\n", "has 1 rows; at least 30")],
)
def test_unusable_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, reason: str
) -> None:
    """Status 3: neither drift nor its absence was shown."""
    current, out = tmp_path / "current.csv", tmp_path / "report.json"
    if text is not None:
        current.write_text(text, encoding="utf-8")
    assert main(command(TELCO, current, out)) == 3
    assert reason in capsys.readouterr().err
    assert not out.exists()
