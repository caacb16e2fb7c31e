"""A model that has become worse, also where its input has not moved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace_drift.config import Config
from tests.tables import alerts, columns, found


def sea(seed: int, threshold: float, n: int = 2_000) -> dict[str, Any]:
    """Draw from the SEA generator of concept drift.

    Street and Kim, A streaming ensemble algorithm (SEA) for large-scale classification, KDD 2001:
    three attributes, uniform on 0 to 10, of which the third is irrelevant; the class is whether the
    first two add up to a threshold or less; it is wrong in 10 % of the rows. The concepts have the
    thresholds 8, 9, 7 and 9.5. The prediction is that of a model which has learnt the first one.
    """
    random = np.random.default_rng(seed)
    x = random.uniform(0, 10, (n, 3))
    total = x[:, 0] + x[:, 1]
    label = (total <= threshold) ^ (random.random(n) < 0.1)
    held: dict[str, Any] = {f"x{i + 1}": x[:, i].round(6) for i in range(3)}
    chance = 1 / (1 + np.exp(2 * (total - 8)))
    return held | {
        "prediction": np.where(total <= 8, "yes", "no"),
        "probability": chance.round(6),
        "label": np.where(label, "yes", "no"),
    }


@pytest.mark.parametrize("prediction", ["prediction", "probability"])
def test_concept_drift_is_found_when_labels_arrive(tmp_path: Path, prediction: str) -> None:
    """The input has not moved, and the performance has: critical."""
    config = Config(prediction=prediction, target="label")
    assert alerts(found(tmp_path, sea(1, 8.0), sea(2, 8.0), config)) == {}
    result = found(tmp_path, sea(1, 8.0), sea(3, 9.5), config)
    assert alerts(result)["(performance)"] == "critical"
    assert not {"x1", "x2", "x3", prediction} & set(alerts(result))


def test_without_labels_nothing_is_said_of_it(tmp_path: Path) -> None:
    """Neither an alert for the labels that are missing nor for the performance."""
    config = Config(prediction="prediction", target="label")
    late = sea(3, 9.5)
    late["label"] = [None] * len(late["label"])
    result = found(tmp_path, sea(1, 8.0), late, config)
    assert result["severity"] == "ok"
    assert result["performance"]["status"] == "waiting"
    assert result["performance"]["reason"] == (
        "the current table has 0 rows with label and prediction; 50 are needed"
    )
    del late["label"]
    result = found(tmp_path, sea(1, 8.0), late, config)
    assert result["severity"] == "ok"
    assert result["performance"]["status"] == "impossible"


def test_labels_that_have_arrived_for_some(tmp_path: Path) -> None:
    """Those count."""
    late = sea(3, 9.5)
    late["label"] = [label if i % 3 == 0 else None for i, label in enumerate(late["label"])]
    result = found(tmp_path, sea(1, 8.0), late, Config(prediction="prediction", target="label"))
    assert alerts(result)["(performance)"] == "critical"
    assert result["performance"]["metrics"][0]["rows"] == 667


def test_regression(tmp_path: Path) -> None:
    """The mean absolute error, relative to what it was."""

    def held(seed: int, error: float) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        truth = random.normal(100, 20, 1_500)
        return {"truth": truth, "guess": truth + random.normal(0, error, 1_500)}

    config = Config(prediction="guess", target="truth")
    assert alerts(found(tmp_path, held(1, 5), held(2, 5), config)) == {}
    result = found(tmp_path, held(1, 5), held(2, 8), config)
    assert alerts(result)["(performance)"] == "critical"
    assert "mae" in result["alerts"][0]["said"]


@pytest.mark.parametrize(
    ("after", "config", "said"),
    [
        ({"p": [0.5, 2.0] * 500, "label": ["yes", "no"] * 500}, {}, "no probability"),
        ({"p": [0.25, 0.75] * 500, "label": ["a", "b"] * 500}, {}, "name the one"),
    ],
)
def test_what_can_not_be_measured(
    tmp_path: Path, after: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    """It says why, and what to do."""
    held = {"p": np.linspace(0, after["p"][1], 1_000), "label": after["label"]}
    held |= {"age": columns(1)["age"]}
    result = found(tmp_path, held, held, Config(prediction="p", target="label", **config))
    assert result["performance"]["status"] == "impossible"
    assert said in result["performance"]["reason"]


def test_one_class_only(tmp_path: Path) -> None:
    """There is no ROC AUC, and the Brier score is measured all the same."""
    result = found(
        tmp_path,
        sea(1, 8.0),
        sea(2, 8.0) | {"label": ["no"] * 2_000},
        Config(prediction="probability", target="label"),
    )
    assert [metric["name"] for metric in result["performance"]["metrics"]] == ["brier"]
