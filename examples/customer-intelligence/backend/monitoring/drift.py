"""Compare a current table with a reference, column by column."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backend.monitoring.statistics import categorical, kolmogorov_smirnov, psi

MIN_ROWS = 30
SCHEMA = "customer-intelligence/drift/v1"


class DriftError(Exception):
    """The tables cannot be compared; the message says why."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as drift: PSI alone warns, PSI and a test that agrees are critical.

    PSI grows as samples shrink and p-values shrink as samples grow: each alone cries wolf, the
    one on small tables, the other on large ones.
    """

    psi_warning: float = 0.1
    psi_critical: float = 0.25
    p_value: float = 0.01
    missing_points: float = 0.05


def read(path: Path) -> pd.DataFrame:
    """Read a CSV table with guessed types; DriftError if there is nothing to compare."""
    try:
        table = pd.read_csv(path, na_values=[" "])
    except FileNotFoundError:
        raise DriftError(f"{path} does not exist") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DriftError(f"{path} cannot be read: {error}") from error
    if len(table) < MIN_ROWS:
        raise DriftError(f"{path} has {len(table)} rows; at least {MIN_ROWS} are needed")
    return table


def compare_column(reference: pd.Series, current: pd.Series, limits: Thresholds) -> dict[str, Any]:
    """Return a column's statistics and its severity: ok, warning or critical."""
    missing = [float(column.isna().mean()) for column in (reference, current)]
    before, after = reference.dropna(), current.dropna()
    numeric = all(pd.api.types.is_numeric_dtype(column) for column in (reference, current))
    found: dict[str, Any] = {
        "kind": "numeric" if numeric else "categorical",
        "missing_reference": missing[0],
        "missing_current": missing[1],
    }
    reasons: list[str] = []
    if missing[1] - missing[0] > limits.missing_points:
        reasons.append(f"{missing[1]:.1%} missing, {missing[0]:.1%} in the reference")
    if before.empty or after.empty:
        gone = after.empty and not before.empty
        return {**found, "severity": "critical" if gone else "ok", "reasons": reasons}
    if numeric:
        one, other = (np.asarray(column, dtype=np.float64) for column in (before, after))
        found["psi"] = psi(one, other)
        found["ks"], found["p_value"] = kolmogorov_smirnov(one, other)
    else:
        texts = (before.astype(str).tolist(), after.astype(str).tolist())
        found["psi"], found["chi_squared"], found["p_value"], new = categorical(*texts)
        found["new_categories"] = new
        if new:
            reasons.append(f"new categories: {', '.join(new[:5])}")
    severity = "warning" if reasons else "ok"
    if found["psi"] >= limits.psi_warning:
        severity = "warning"
        reasons.append(f"PSI {found['psi']:.3f}")
        if found["psi"] >= limits.psi_critical and found["p_value"] < limits.p_value:
            severity = "critical"
    return {**found, "severity": severity, "reasons": reasons}


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    limits: Thresholds,
    ignore: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Compare all columns of the reference; one that the current table lacks is critical."""
    columns: dict[str, Any] = {}
    for name in reference.columns:
        if name in ignore:
            continue
        if name in current.columns:
            columns[str(name)] = compare_column(reference[name], current[name], limits)
        else:
            columns[str(name)] = {"severity": "critical", "reasons": ["the column is missing"]}
    if not columns:
        raise DriftError("no column is left to compare")
    severities = [column["severity"] for column in columns.values()]
    overall = next(name for name in ("critical", "warning", "ok") if name in severities)
    return {
        "schema": SCHEMA,
        "severity": overall,
        "rows": {"reference": len(reference), "current": len(current)},
        "drifted": sorted(name for name, column in columns.items() if column["severity"] != "ok"),
        "added_columns": sorted(set(map(str, current.columns)) - set(map(str, reference.columns))),
        "columns": columns,
    }
