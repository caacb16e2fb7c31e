"""Train the lifetime value model: python -m backend.training.clv --data TABLE --out FOLDER."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln

from backend.core.clv import BetaGeometric, ClvModel, GammaGamma
from backend.core.tables import purchase_days, purchase_summary, read_transactions
from backend.training.output import Trained, TrainingError, parser, run

LOG = logging.getLogger("training.clv")
MIN_REPEAT_BUYERS = 20
LOG_BOUND = 10.0
CLV_COLUMNS = ("frequency", "recency", "age", "monetary")

Floats: TypeAlias = NDArray[np.float64]


def purchase_log_likelihood(
    model: BetaGeometric, frequency: Floats, recency: Floats, age: Floats
) -> Floats:
    """Return the BG/NBD log-likelihood of each customer (equation 6 of the paper)."""
    r, alpha, a, b, x = model.r, model.alpha, model.a, model.b, frequency
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    common += gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    alive = -(r + x) * np.log(alpha + age)
    dropped = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + recency)
    return np.asarray(common + np.logaddexp(alive, np.where(x > 0, dropped, -np.inf)))


def spend_log_likelihood(model: GammaGamma, frequency: Floats, monetary: Floats) -> Floats:
    """Return the Gamma-Gamma log-likelihood of each customer with a repeat purchase."""
    p, q, v, x = model.p, model.q, model.v, frequency
    common = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(v)
    return np.asarray(
        common
        + (p * x - 1) * np.log(monetary)
        + p * x * np.log(x)
        - (p * x + q) * np.log(v + x * monetary)
    )


def maximise(
    name: str, objective: Callable[[Floats], float], size: int, options: argparse.Namespace
) -> tuple[list[float], float]:
    """Find the positive parameters of the greatest log-likelihood, from several starts.

    Parameters are searched as logarithms, which keeps them positive without constraints.
    """
    random = np.random.default_rng(options.seed)
    starts = [np.zeros(size), *(random.normal(0, 0.5, size) for _ in range(options.restarts))]
    found = [
        minimize(
            lambda logs: -objective(np.exp(logs)),
            start,
            method="L-BFGS-B",
            bounds=[(-LOG_BOUND, LOG_BOUND)] * size,
            options={"ftol": 1e-13, "gtol": 1e-7},
        )
        for start in starts
    ]
    best = min(found, key=lambda result: float(np.nan_to_num(result.fun, nan=np.inf)))
    if not np.isfinite(best.fun) or bool((np.abs(best.x) > LOG_BOUND - 0.01).any()):
        raise TrainingError(f"{name} does not converge on this table: its likelihood has no peak")
    return [float(value) for value in np.exp(best.x)], -float(best.fun)


def fit(summary: pd.DataFrame, options: argparse.Namespace) -> tuple[ClvModel, dict[str, float]]:
    """Fit both models to a purchase summary; return them with their log-likelihoods."""
    frequency, recency, age, monetary = (
        summary[name].to_numpy(dtype=np.float64) for name in CLV_COLUMNS
    )
    repeat = (frequency > 0) & (monetary > 0)
    if repeat.sum() < MIN_REPEAT_BUYERS:
        raise TrainingError(
            f"{options.data}: {int(repeat.sum())} customers with a repeat purchase up to"
            f" {options.calibration_end}; at least {MIN_REPEAT_BUYERS} are needed"
        )
    LOG.info("fitting", extra={"fields": {"customers": len(summary), "repeat": int(repeat.sum())}})

    def purchases(values: Floats) -> float:
        return float(purchase_log_likelihood(BetaGeometric(*values), frequency, recency, age).sum())

    def spend(values: Floats) -> float:
        return float(
            spend_log_likelihood(GammaGamma(*values), frequency[repeat], monetary[repeat]).sum()
        )

    bought, bought_likelihood = maximise("BG/NBD", purchases, 4, options)
    spent, spent_likelihood = maximise("Gamma-Gamma", spend, 3, options)
    return ClvModel(BetaGeometric(*bought), GammaGamma(*spent)), {
        "bg_nbd": bought_likelihood,
        "gamma_gamma": spent_likelihood,
    }


def evaluate(summary: pd.DataFrame, predicted: Floats, actual: Floats) -> dict[str, Any]:
    """Compare predicted with actual purchases of the hold-out period, in all and by frequency."""
    error = predicted - actual
    top = np.argsort(-predicted, kind="stable")[: max(1, len(predicted) // 10)]
    groups: dict[str, Any] = {}
    frequency = summary["frequency"].to_numpy()
    for name, rows in (
        ("0", frequency == 0),
        ("1-2", (frequency >= 1) & (frequency <= 2)),
        ("3+", frequency >= 3),
    ):
        if rows.any():
            groups[name] = {
                "customers": int(rows.sum()),
                "predicted": float(predicted[rows].mean()),
                "actual": float(actual[rows].mean()),
            }
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "correlation": float(np.corrcoef(predicted, actual)[0, 1]),
        "purchases_predicted": float(predicted.sum()),
        "purchases_actual": float(actual.sum()),
        "top_decile_capture": float(actual[top].sum() / actual.sum()),
        "by_frequency": groups,
    }


def train(options: argparse.Namespace) -> Trained:
    """Fit on the calibration period, evaluate on the purchases that came after it."""
    transactions = read_transactions(options.data)
    end, last = pd.Timestamp(options.calibration_end), transactions["date"].max()
    if last <= end:
        raise TrainingError(
            f"{options.data} ends on {last.date()}: nothing is left to evaluate on after"
            f" the calibration period, which ends on {end.date()}"
        )
    summary = purchase_summary(transactions, end)
    model, likelihoods = fit(summary, options)
    weeks = (last - end).days / 7
    history = (summary["frequency"], summary["recency"], summary["age"])
    predicted = model.purchases.expected_purchases(weeks, *history)
    value = predicted * model.spend.expected_spend(summary["frequency"], summary["monetary"])
    later = purchase_days(transactions[transactions["date"] > end]).groupby("customer_id")
    actual = pd.DataFrame({"purchases": later["date"].count(), "value": later["value"].sum()})
    actual = actual.reindex(summary.index, fill_value=0)
    metrics: dict[str, Any] = {
        "customers": len(summary),
        "repeat_customers": int((summary["frequency"] > 0).sum()),
        "holdout_weeks": weeks,
        "log_likelihood": likelihoods,
        "value_predicted": float(value.sum()),
        "value_actual": float(actual["value"].sum()),
        **evaluate(summary, predicted, actual["purchases"].to_numpy(dtype=np.float64)),
    }
    LOG.info("evaluated", extra={"fields": {"mae": round(metrics["mae"], 4)}})
    holdout = pd.DataFrame(
        {
            "id": summary.index,
            "label": actual["purchases"].to_numpy(),
            "score": predicted.round(6),
            "value_actual": actual["value"].to_numpy().round(2),
            "value_predicted": value.round(2),
        }
    )
    return Trained(model.document(), metrics, holdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser("Train the lifetime value model.", "data/cdnow-sample.txt")
    arguments.add_argument(
        "--calibration-end",
        type=date.fromisoformat,
        default=date(1997, 9, 30),
        help="last day of the calibration period (1997-09-30)",
    )
    arguments.add_argument("--restarts", type=int, default=2, help="further starts of the search")
    return run(arguments, argv, train)


if __name__ == "__main__":
    sys.exit(main())
