"""Tables for the tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from millrace_drift.config import Config
from millrace_drift.judge import judge
from millrace_drift.measure import measure

NOW = 1_772_323_200.0  # 2026-03-01

Columns = dict[str, Any]


def columns(seed: int, n: int = 1_000) -> Columns:
    """Draw a table with a column of each kind."""
    random = np.random.default_rng(seed)
    days = random.integers(0, 300, n).astype("timedelta64[D]") + np.datetime64("2025-03-01")
    return {
        "id": [f"customer {i}" for i in range(n)],
        "amount": random.lognormal(size=n).round(4),
        "age": random.normal(40, 10, n).round(1),
        "plan": random.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1]),
        "active": random.integers(0, 2, n),
        "signup": days.astype(str),
    }


def save(path: Path, held: Columns) -> Path:
    """Write a table as CSV or Parquet, by the name."""
    table = pa.table({name: pa.array(values) for name, values in held.items()})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.csv.write_csv(table, path)
    return path


def found(
    folder: Path, before: Columns, after: Columns, config: Config | None = None, **options: Any
) -> dict[str, Any]:
    """Write two tables, measure and judge them."""
    config = config or Config(**options)
    one, other = save(folder / "reference.csv", before), save(folder / "current.csv", after)
    return judge(measure(one, other, config, NOW), config, [])


def column(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what was found of one column."""
    return next(held for held in result["columns"] if held["name"] == name)


def alerts(result: dict[str, Any]) -> dict[str, str]:
    """Return the levels of the alerts by subject."""
    return {alert["subject"]: alert["level"] for alert in result["alerts"]}


def problems(result: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with the tables: the text by the problem's name."""
    return {problem["name"]: problem["said"] for problem in result["problems"]}
