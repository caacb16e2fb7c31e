"""Train the churn model: python -m backend.training.churn --data TABLE --out FOLDER."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from backend.core.churn import CATEGORICAL, NUMERIC, ChurnModel, NumericTerm
from backend.core.tables import CHURN_ID, CHURN_LABEL, read_customers
from backend.training.holdout import held_out
from backend.training.output import Trained, TrainingError, parser, run

LOG = logging.getLogger("training.churn")
MIN_ROWS = 100
CALIBRATION_BINS = 10
FOLDS = 5
SEGMENT_COLUMN = "Contract"


def estimator(regularisation: float) -> Pipeline:
    """Return the unfitted logistic regression with its preprocessing."""
    return Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("numeric", StandardScaler(), list(NUMERIC)),
                        ("categorical", OneHotEncoder(handle_unknown="ignore"), list(CATEGORICAL)),
                    ]
                ),
            ),
            ("regression", LogisticRegression(C=regularisation, max_iter=2000, tol=1e-8)),
        ]
    )


def export(pipeline: Pipeline) -> ChurnModel:
    """Return a fitted pipeline as our model."""
    columns, regression = pipeline.named_steps["columns"], pipeline.named_steps["regression"]
    scaler = columns.named_transformers_["numeric"]
    encoder = columns.named_transformers_["categorical"]
    weights = iter(float(weight) for weight in regression.coef_[0])
    numeric = {
        name: NumericTerm(mean=float(mean), scale=float(scale), weight=next(weights))
        for name, mean, scale in zip(NUMERIC, scaler.mean_, scaler.scale_, strict=True)
    }
    categorical = {
        name: {str(value): next(weights) for value in values}
        for name, values in zip(CATEGORICAL, encoder.categories_, strict=True)
    }
    return ChurnModel(float(regression.intercept_[0]), numeric, categorical)


def calibration(
    labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[float, list[dict[str, float]]]:
    """Return the expected calibration error, and mean score and churn rate by tenth of scores."""
    order = np.argsort(scores, kind="stable")
    bins = [
        {
            "rows": float(len(part)),
            "score": float(scores[part].mean()),
            "rate": float(labels[part].mean()),
        }
        for part in np.array_split(order, CALIBRATION_BINS)
        if len(part)
    ]
    error = sum(item["rows"] * abs(item["score"] - item["rate"]) for item in bins) / len(labels)
    return error, bins


def evaluate(table: pd.DataFrame, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Compute the metrics of scores on labelled rows, in all and by kind of contract."""
    labels = table[CHURN_LABEL].to_numpy(dtype=np.int64)
    negative, positive = confusion_matrix(labels, scores >= 0.5, labels=[0, 1])
    error, bins = calibration(labels, scores)
    groups: dict[str, Any] = {}
    for name in sorted(table[SEGMENT_COLUMN].unique()):
        rows = (table[SEGMENT_COLUMN] == name).to_numpy()
        # A group in which nobody churned, or everybody did, has no ROC curve.
        two_classes = len(np.unique(labels[rows])) == 2
        groups[str(name)] = {
            "rows": int(rows.sum()),
            "churn_rate": float(labels[rows].mean()),
            "roc_auc": float(roc_auc_score(labels[rows], scores[rows])) if two_classes else None,
        }
    return {
        "rows": len(labels),
        "churn_rate": float(labels.mean()),
        "roc_auc": float(roc_auc_score(labels, scores)),
        "pr_auc": float(average_precision_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores, labels=[0, 1])),
        "brier": float(brier_score_loss(labels, scores)),
        "calibration_error": error,
        "calibration": bins,
        "confusion": {
            "true_negative": int(negative[0]),
            "false_positive": int(negative[1]),
            "false_negative": int(positive[0]),
            "true_positive": int(positive[1]),
        },
        "by_contract": groups,
    }


def train(options: argparse.Namespace) -> Trained:
    """Read the table, hold rows out, fit on the rest, evaluate on what was held out."""
    table = read_customers(options.data)
    bad = [name for name in NUMERIC if not np.isfinite(table[name]).all()]
    if bad:
        raise TrainingError(f"{options.data}: {', '.join(bad)} must hold finite numbers only")
    mask = held_out(table[CHURN_ID], options.test_size, options.seed)
    seen, unseen = table[~mask], table[mask]
    for name, part in (("training", seen), ("held-out", unseen)):
        if len(part) < MIN_ROWS or part[CHURN_LABEL].nunique() < 2:
            raise TrainingError(
                f"{options.data}: {len(part)} {name} rows; at least {MIN_ROWS} are needed,"
                " with and without churn"
            )
    LOG.info("fitting", extra={"fields": {"rows": len(seen), "held_out": len(unseen)}})
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=options.seed)
    pipeline = estimator(options.regularisation)
    validated = cross_val_score(pipeline, seen, seen[CHURN_LABEL], cv=folds, scoring="roc_auc")
    model = export(pipeline.fit(seen, seen[CHURN_LABEL]))
    scores = model.predict({name: unseen[name].tolist() for name in (*NUMERIC, *CATEGORICAL)})
    metrics = {
        **evaluate(unseen, scores),
        "training_rows": len(seen),
        "roc_auc_cross_validated": float(validated.mean()),
        "roc_auc_cross_validated_sd": float(validated.std(ddof=1)),
    }
    LOG.info("evaluated", extra={"fields": {"roc_auc": round(metrics["roc_auc"], 4)}})
    holdout = pd.DataFrame(
        {
            "id": unseen[CHURN_ID],
            "label": unseen[CHURN_LABEL],
            "score": scores.round(6),
            "segment": unseen[SEGMENT_COLUMN],
        }
    )
    return Trained(model.document(), metrics, holdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser("Train the churn model.", "data/telco-customer-churn.csv")
    arguments.add_argument("--test-size", type=float, default=0.2, help="fraction held out")
    arguments.add_argument(
        "--regularisation", type=float, default=1.0, help="inverse strength of the L2 penalty"
    )
    return run(arguments, argv, train)


if __name__ == "__main__":
    sys.exit(main())
