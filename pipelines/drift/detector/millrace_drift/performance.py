"""How well the model does on rows whose labels have arrived, then and now."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from millrace_drift.compare import number, test
from millrace_drift.config import Config
from millrace_drift.statistics import Floats, roc_auc
from millrace_drift.tables import Table

POSITIVE = ("1", "true", "True", "TRUE", "yes", "Yes", "YES", "Y", "y")


class NotComparable(Exception):
    """Performance cannot be measured; the message says why, and what to do."""


@dataclass(frozen=True)
class Figure:
    """A metric on one table: its value, the variance of that, and the rows it was measured on."""

    value: float
    variance: float
    rows: int


def measure(reference: Table, current: Table, config: Config) -> dict[str, Any] | None:
    """Return the metrics, and a test a metric for a fall; None if no columns for it are named.

    The status is measured, waiting (too few labels yet) or impossible, with the reason.
    """
    if not config.prediction or not config.target:
        return None
    try:
        before, after = _figures(reference, config), _figures(current, config)
    except NotComparable as error:
        return {"status": "impossible", "reason": str(error), "metrics": [], "tests": []}
    rows = [figures[0] for figures in (before, after)]
    for what, n in zip(("the reference", "the current table"), rows):
        if n < config.min_rows:
            reason = f"{what} has {n} rows with label and prediction; {config.min_rows} are needed"
            return {"status": "waiting", "reason": reason, "metrics": [], "tests": []}
    metrics, tests = [], []
    for name, was in before[1].items():
        now = after[1].get(name)
        if now is None:
            continue
        metrics.append(
            {"name": name, "reference": _interval(was), "current": _interval(now), "rows": now.rows}
        )
        tests.append(_fall(name, was, now))
    if not tests:
        reason = "the labels of one table are all the same, which no metric can be measured on"
        return {"status": "waiting", "reason": reason, "metrics": [], "tests": []}
    return {"status": "measured", "reason": "", "metrics": metrics, "tests": tests}


def _interval(figure: Figure) -> dict[str, float]:
    """Return a metric with its 95 % interval."""
    half = 1.96 * float(np.sqrt(figure.variance))
    return {"value": figure.value, "low": figure.value - half, "high": figure.value + half}


def _fall(name: str, was: Figure, now: Figure) -> dict[str, Any]:
    """Test whether a metric has become worse, one-sided, by the normal approximation."""
    higher_is_better = name in ("roc_auc", "accuracy")
    worse = was.value - now.value if higher_is_better else now.value - was.value
    error = float(np.sqrt(was.variance + now.variance))
    if error > 0:
        p = float(stats.norm.sf(worse / error))
    else:
        p = 0.0 if worse > 0 else 1.0
    effect = worse if higher_is_better else worse / was.value if was.value > 0 else float(worse > 0)
    said = f"{name} {number(now.value)} on {now.rows} rows, was {number(was.value)}"
    method = "DeLong" if name == "roc_auc" else "Welch"
    return test(name, method, p, max(0.0, effect), said)


def _figures(table: Table, config: Config) -> tuple[int, dict[str, Figure]]:
    """Return how many rows have label and prediction, and the metrics on them."""
    for name in (config.prediction, config.target):
        if name not in table.columns:
            raise NotComparable(f"there is no column {name!r}")
    prediction, target = table.columns[config.prediction], table.columns[config.target]
    there = ~np.isnan(prediction.values) & ~np.isnan(target.values)
    guess, truth = prediction.values[there], target.values[there]
    kinds = (prediction.kind, target.kind)
    if kinds == ("number", "number"):
        return len(guess), {"mae": _mean(np.abs(guess - truth))}
    if kinds == ("category", "category"):
        said, held = prediction.categories, target.categories
        place = {name: i for i, name in enumerate(held)}
        same = np.array([place.get(name, -1) for name in said], dtype=np.float64)
        hits = same[guess.astype(int)] == truth if len(guess) else np.zeros(0, dtype=bool)
        return len(guess), {"accuracy": _mean(hits.astype(np.float64))}
    if kinds == ("number", "category"):
        return len(guess), _binary(guess, truth, target.categories, config)
    raise NotComparable(
        f"{config.prediction} holds {_plural(kinds[0])} and {config.target} {_plural(kinds[1])}: "
        "set the kind of one of them"
    )


def _plural(kind: str) -> str:
    return "categories" if kind == "category" else kind + "s"


def _binary(guess: Floats, truth: Floats, names: list[str], config: Config) -> dict[str, Figure]:
    if len(guess) and (guess.min() < 0 or guess.max() > 1):
        raise NotComparable(f"{config.prediction} is no probability: it leaves the range 0 to 1")
    positive = config.positive
    if not positive:
        likely = [name for name in names if name in POSITIVE]
        if len(likely) != 1:
            raise NotComparable(
                f"{config.target} holds {', '.join(map(repr, names[:4]))}: "
                "name the one that is predicted, with the key positive"
            )
        positive = likely[0]
    hit = truth == (names.index(positive) if positive in names else -1)
    metrics = {"brier": _mean((guess - hit) ** 2)}
    if min(hit.sum(), (~hit).sum()) >= 2:
        metrics["roc_auc"] = Figure(*roc_auc(guess, hit), len(guess))
    return metrics


def _mean(losses: Floats) -> Figure:
    n = len(losses)
    if n < 2:
        return Figure(float("nan"), 0.0, n)
    return Figure(float(losses.mean()), float(losses.var(ddof=1) / n), n)
