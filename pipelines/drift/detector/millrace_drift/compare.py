"""Compare a column, or a model's performance, then and now: statistics, tests, pictures."""

from typing import Any

import numpy as np

from millrace_drift import statistics
from millrace_drift.statistics import Floats
from millrace_drift.tables import Column

BARS = 24
NAMED = 12

Test = dict[str, Any]


def test(name: str, method: str, p: float, effect: float, said: str) -> Test:
    """Return a test's outcome; effect is in the unit of config.EFFECTS, said is for people."""
    return {"name": name, "method": method, "p": p, "effect": effect, "said": said}


def compare_columns(before: Column, after: Column, reading: bool = True) -> dict[str, Any]:
    """Return all that is known of how a column has changed; reading adds what only people need."""
    found: dict[str, Any] = {"kind": before.kind, "tests": [], "statistics": {}}
    one, other = before.present, after.present
    if before.kind == "category":
        _categories(found, before, after)
    elif before.kind in ("number", "text") and len(one) and len(other):
        _numbers(found, one, other, before.kind)
    found["tests"] += _absences(before, after)
    if reading:
        found["reference"], found["current"] = _summary(before), _summary(after)
        if before.kind == "category":
            found["plot"] = _bars(before, after)
        elif before.kind != "time" and len(one) and len(other):
            found["plot"] = _histogram(one, other)
    return found


def _numbers(found: dict[str, Any], one: Floats, other: Floats, kind: str) -> None:
    n, m = len(one), len(other)
    one, other = np.sort(one), np.sort(other)
    moved = statistics.compare_numbers(one, other)
    edges = statistics.quantile_edges(one)
    counts = [statistics.bin_counts(edges, sample) for sample in (one, other)]
    chi, p = statistics.chi_squared(*counts)
    shares = [statistics.shares(c) for c in counts]
    psi = statistics.psi(*shares)
    noise = statistics.expected_psi(len(counts[0]), n, m)
    spread = float(one.std(ddof=1)) if n > 1 else 0.0
    found["statistics"] = {
        "ks": moved.ks,
        "chi_squared": chi,
        "psi": psi,
        "psi_without_change": noise,
        "wasserstein": moved.wasserstein,
        "wasserstein_in_sd": moved.wasserstein / spread if spread > 0 else None,
        "jensen_shannon": statistics.jensen_shannon(*shares),
    }
    what = "length" if kind == "text" else "value"
    low, middle, high = statistics.quantiles(one, [0.25, 0.5, 0.75])
    low_now, middle_now, high_now = statistics.quantiles(other, [0.25, 0.5, 0.75])
    half = f"middle half of the {what}s {number(low_now)} to {number(high_now)}"
    found["tests"] = [
        test(
            "distribution",
            "KS",
            moved.p,
            moved.ks,
            f"median {what} {number(middle_now)}, was {number(middle)}",
        ),
        test(
            "shape",
            "PSI",
            p,
            max(0.0, psi - noise),
            f"{half}, was {number(low)} to {number(high)}",
        ),
    ]


def number(value: float) -> str:
    """Write a number for people: four digits that count."""
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"


def _counts(before: Column, after: Column) -> tuple[list[str], Floats, Floats]:
    """Return both columns' counts over the categories of either."""
    names = list(before.categories)
    known = set(names)
    names += [name for name in after.categories if name not in known]
    one, other = dict(zip(before.categories, before.counts)), dict(
        zip(after.categories, after.counts)
    )
    return (
        names,
        np.array([one.get(name, 0.0) for name in names], dtype=np.float64),
        np.array([other.get(name, 0.0) for name in names], dtype=np.float64),
    )


def _categories(found: dict[str, Any], before: Column, after: Column) -> None:
    names, one, other = _counts(before, after)
    n, m = float(one.sum()), float(other.sum())
    if not n or not m:
        return
    chi, p = statistics.chi_squared(one, other)
    shares = [statistics.shares(one), statistics.shares(other)]
    new = one == 0
    found["statistics"] = {
        "chi_squared": chi,
        "psi": statistics.psi(*shares),
        "psi_without_change": statistics.expected_psi(len(names), int(n), int(m)),
        "total_variation": statistics.total_variation(one / n, other / m),
        "jensen_shannon": statistics.jensen_shannon(*shares),
    }
    most = int(np.argmax(np.abs(one / n - other / m)))
    said = f"{names[most]!r} {other[most] / m:.1%}, was {one[most] / n:.1%}"
    found["tests"] = [
        test("distribution", "chi-squared", p, found["statistics"]["total_variation"], said)
    ]
    if new.any():
        rows = float(other[new].sum())
        shown = [names[i] for i in np.flatnonzero(new)[np.argsort(-other[new])]]
        found["new_categories"] = [
            {"name": name[:80], "rows": int(other[names.index(name)])} for name in shown[:NAMED]
        ]
        sf = statistics.at_least(rows, m, statistics.unseen_rate(one))
        said = f"{len(shown)} new: {', '.join(map(repr, shown[:3]))}, {rows / m:.1%} of the rows"
        found["tests"].append(test("new-categories", "Good-Turing", sf, rows / m, said))


def _absences(before: Column, after: Column) -> list[Test]:
    tests = []
    for name, word, one, other in (
        ("missing", "missing", before.missing, after.missing),
        ("invalid", "infinite or not of the type", before.invalid, after.invalid),
    ):
        if one == other == 0 or not before.rows or not after.rows:
            continue
        p = statistics.compare_shares(one, before.rows, other, after.rows)
        was, is_ = one / before.rows, other / after.rows
        said = f"{is_:.1%} {word}, was {was:.1%}"
        if name == "invalid" and after.examples:
            said += f", such as {', '.join(map(repr, after.examples[:3]))}"
        tests.append(test(name, "Fisher", p, abs(is_ - was), said))
    return tests


def _summary(column: Column) -> dict[str, Any]:
    """Describe one column of one table."""
    got: dict[str, Any] = {
        "rows": column.rows,
        "missing": column.missing,
        "invalid": column.invalid,
    }
    if column.examples:
        got["invalid_examples"] = column.examples
    held = column.present
    if column.kind in ("number", "text") and len(held):
        got["mean"], got["sd"] = float(held.mean()), float(held.std())
        points = np.quantile(held, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
        names = ("min", "p05", "p25", "median", "p75", "p95", "max")
        got |= {name: float(value) for name, value in zip(names, points)}
    if column.kind == "category":
        got["categories"] = len(column.categories)
    if column.kind == "time" and np.isfinite(column.latest):
        got["latest"] = column.latest
        got["in_the_future"] = column.future
    return got


def _histogram(one: Floats, other: Floats) -> dict[str, Any]:
    """Return shares over bars of one width; the outer bars hold what lies beyond them too."""
    ends = np.quantile(np.concatenate([one, other]), [0.005, 0.995])
    low, high = (float(end) for end in ends)
    if low == high:
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1)
    counted = [statistics.bin_counts(edges[1:-1], sample) / len(sample) for sample in (one, other)]
    return {
        "edges": [float(edge) for edge in edges],
        "reference": [float(share) for share in counted[0]],
        "current": [float(share) for share in counted[1]],
    }


def _bars(before: Column, after: Column) -> dict[str, Any]:
    """Return the shares of the largest categories, and of all others together."""
    names, one, other = _counts(before, after)
    one, other = one / max(1.0, one.sum()), other / max(1.0, other.sum())
    order = np.argsort(-(one + other), kind="stable")
    shown, rest = order[:NAMED], order[NAMED:]
    plot = {
        "labels": [names[i][:60] for i in shown],
        "reference": [float(one[i]) for i in shown],
        "current": [float(other[i]) for i in shown],
    }
    if len(rest):
        plot["labels"].append(f"{len(rest)} others")
        plot["reference"].append(float(one[rest].sum()))
        plot["current"].append(float(other[rest].sum()))
    return plot
