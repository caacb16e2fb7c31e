"""What is an alert: no chance, not too small, not only once, not where it hardly matters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace_drift import bench
from millrace_drift.config import ColumnConfig, Config, load
from millrace_drift.judge import entry_of, judge
from tests.tables import alerts, column, columns, found


def shifted(by: float, seed: int = 2, n: int = 1_000) -> dict[str, Any]:
    """Draw a table whose ages are so many standard deviations higher."""
    return columns(seed, n) | {"age": columns(seed, n)["age"] + 10 * by}


def test_half_a_standard_deviation_alerts_at_once(tmp_path: Path) -> None:
    """It is critical, and severe."""
    result = found(tmp_path, columns(1), shifted(0.5))
    assert alerts(result) == {"age": "critical"}
    assert result["alerts"][0]["severe"]
    assert "median value 4" in column(result, "age")["tests"][0]["said"]


def test_a_change_that_is_sure_and_small_is_none(tmp_path: Path) -> None:
    """With enough rows any change is sure; one of 0.1 standard deviations does not matter."""
    result = found(tmp_path, columns(1, 20_000), shifted(0.1, 2, 20_000))
    assert column(result, "age")["tests"][0]["q"] < 1e-6
    assert alerts(result) == {}


def days(*levels: str, reference: str = "r") -> list[dict[str, Any]]:
    """Return a history in which age stood so."""
    return [
        {
            "time": f"2026-02-0{i + 1}T06:00:00+00:00",
            "reference": reference,
            "current": f"day {i}",
            "subjects": {} if level == "ok" else {"age": {"level": level}},
        }
        for i, level in enumerate(levels)
    ]


def measured(p: float, effect: float) -> dict[str, Any]:
    """Return a measurement of one column with one test."""
    test = {"name": "distribution", "method": "KS", "p": p, "effect": effect, "said": "moved"}
    return {
        "status": "measured",
        "tables": {"reference": {"sha256": "r"}, "current": {"sha256": "today"}},
        "problems": [],
        "performance": None,
        "columns": [{"name": "age", "role": "feature", "tests": [test]}],
    }


@pytest.mark.parametrize(
    ("p", "effect", "history", "level", "alert"),
    [
        (1e-3, 0.12, (), "warn", "ok"),
        (1e-3, 0.12, ("ok", "warn"), "warn", "warn"),
        (1e-3, 0.12, ("warn", "ok"), "warn", "warn"),
        (1e-3, 0.12, ("warn", "ok", "ok"), "warn", "ok"),
        (1e-3, 0.20, (), "critical", "ok"),
        (1e-3, 0.20, ("warn",), "critical", "warn"),
        (1e-3, 0.20, ("critical",), "critical", "critical"),
        (1e-5, 0.20, (), "critical", "critical"),
        (1e-5, 0.12, (), "warn", "ok"),
        (0.02, 0.50, ("critical", "critical"), "ok", "ok"),
        (1e-9, 0.09, ("critical", "critical"), "ok", "ok"),
    ],
)
def test_persistence(
    p: float, effect: float, history: tuple[str, ...], level: str, alert: str
) -> None:
    """An alert needs two of the last three runs, unless it is severe."""
    result = judge(measured(p, effect), Config(), days(*history))
    assert (result["columns"][0]["level"], result["columns"][0]["alert"]) == (level, alert)
    assert result["severity"] == alert


def test_since_when() -> None:
    """It is the first of the runs in a row that saw the change."""
    history = days("warn", "ok", "warn", "critical", "warn")
    result = judge(measured(1e-5, 0.3), Config(), history)
    assert result["alerts"][0]["since"] == "2026-02-03T06:00:00+00:00"


def test_runs_that_do_not_count() -> None:
    """One on the same table is no second sign, nor one against another reference."""
    history = days("warn")
    history[0]["current"] = "today"
    assert judge(measured(1e-3, 0.12), Config(), history)["severity"] == "ok"
    history = days("warn", reference="another")
    assert judge(measured(1e-3, 0.12), Config(), history)["severity"] == "ok"


def test_persistence_can_be_turned_off() -> None:
    """One of one run."""
    result = judge(measured(1e-3, 0.12), Config(runs=1, needed=1), [])
    assert result["severity"] == "warn"


def test_what_does_not_matter_to_the_model_warns(tmp_path: Path) -> None:
    """By its weight, by the importances, and not if neither is known."""
    importances = {"age": 0.004, "amount": -0.5, "plan": 0.2, "active": 0.1, "signup": 0.0, "id": 0}
    for config in (
        Config(columns={"age": ColumnConfig(weight=0.05)}),
        Config(importances=importances),
    ):
        result = found(tmp_path, columns(1), shifted(0.5), config)
        assert alerts(result) == {"age": "warn"}
        assert result["alerts"][0]["minor"]
    config = Config(importances=importances, columns={"age": ColumnConfig(weight=1, owner="crm")})
    result = found(tmp_path, columns(1), shifted(0.5), config)
    assert alerts(result) == {"age": "critical"}
    assert result["alerts"][0]["owner"] == "crm"


def test_prediction_drift_is_critical_whatever_the_weights(tmp_path: Path) -> None:
    """It is the model's own output."""
    config = Config(prediction="age", importances={"amount": 1.0})
    result = found(tmp_path, columns(1), shifted(0.5), config)
    assert alerts(result) == {"age": "critical"}
    assert result["alerts"][0]["kind"] == "prediction"


def test_entry_is_what_the_next_run_needs(tmp_path: Path) -> None:
    """Two runs in a row on other tables alert, by the first one's entry alone."""
    weak = {"age": columns(2)["age"] + 2.7}
    first = found(tmp_path, columns(1), columns(2) | weak)
    assert (column(first, "age")["level"], alerts(first)) == ("warn", {})
    entry = entry_of(first, "2026-03-01T06:00:00+00:00")
    assert entry["subjects"]["age"]["level"] == "warn"
    again = found(tmp_path, columns(1), columns(3) | {"age": columns(3)["age"] + 2.7})
    again = judge(again, Config(), [entry])
    assert alerts(again) == {"age": "warn"}
    assert again["alerts"][0]["since"] == "2026-03-01T06:00:00+00:00"


def test_configuration_has_defaults() -> None:
    """What is left out, or null, has its default; effects are replaced one by one."""
    config = load(
        {"alpha": None, "effects": {"missing": [0.3, 0.6]}, "columns": {"a": {"weight": 1}}}
    )
    assert config.alpha == Config().alpha
    assert config.effects["missing"] == (0.3, 0.6)
    assert config.effects["shape"] == Config().effects["shape"]
    assert config.columns["a"] == ColumnConfig(weight=1)


def test_it_does_not_cry_wolf() -> None:
    """A part of the published table: see bench, which has enough days for a figure."""
    for n in (100, 1_000):
        assert bench.clean(n, 60)[0] <= 0.05
    ours, _, _, second = bench.shifted(1_000, 20)
    assert ours >= 0.95 and second >= 0.95


def test_measurement_and_judgement_are_reproducible(tmp_path: Path) -> None:
    """The same tables give the same result."""
    before, after = columns(1), shifted(0.3)
    assert found(tmp_path, before, after) == found(tmp_path, before, after)
    assert np.isfinite(found(tmp_path, before, after)["score"])
