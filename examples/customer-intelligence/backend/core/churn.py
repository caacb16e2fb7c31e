"""The churn model: a logistic regression over one-hot and standardised columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.artifacts import ModelError, read_model

SCHEMA = "customer-intelligence/churn/v1"
NAME = "churn"

NUMERIC = ("tenure", "MonthlyCharges", "TotalCharges")
CATEGORICAL = (
    "gender",
    "SeniorCitizen",
    "Partner",
    "Dependents",
    "PhoneService",
    "MultipleLines",
    "InternetService",
    "OnlineSecurity",
    "OnlineBackup",
    "DeviceProtection",
    "TechSupport",
    "StreamingTV",
    "StreamingMovies",
    "Contract",
    "PaperlessBilling",
    "PaymentMethod",
)


@dataclass(frozen=True)
class NumericTerm:
    """One numeric column: (value - mean) / scale, times weight, goes into the log-odds."""

    mean: float
    scale: float
    weight: float


@dataclass(frozen=True)
class ChurnModel:
    """Log-odds of churn as a sum of terms, each of which can be shown to a person."""

    intercept: float
    numeric: Mapping[str, NumericTerm]
    categorical: Mapping[str, Mapping[str, float]]

    def contributions(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Return each column's part of the log-odds; an unknown category counts as 0."""
        parts = {
            name: (float(record[name]) - term.mean) / term.scale * term.weight
            for name, term in self.numeric.items()
        }
        for name, weights in self.categorical.items():
            parts[name] = weights.get(str(record[name]), 0.0)
        return parts

    def predict(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Return the probability of churn for each row of equally long columns."""
        size = len(columns[next(iter(self.numeric))])
        logit = np.full(size, self.intercept, dtype=np.float64)
        for name, term in self.numeric.items():
            values = np.asarray(columns[name], dtype=np.float64)
            logit += (values - term.mean) / term.scale * term.weight
        for name, weights in self.categorical.items():
            logit += np.array([weights.get(str(value), 0.0) for value in columns[name]])
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)

    def unknown_categories(self, record: Mapping[str, Any]) -> list[str]:
        """Return "column=value" for each category that training has not seen."""
        return [
            f"{name}={record[name]}"
            for name, weights in self.categorical.items()
            if str(record[name]) not in weights
        ]

    def document(self) -> dict[str, Any]:
        """Return the model as a JSON document, without its provenance."""
        return {
            "schema": SCHEMA,
            "intercept": self.intercept,
            "numeric": {
                name: {"mean": term.mean, "scale": term.scale, "weight": term.weight}
                for name, term in self.numeric.items()
            },
            "categorical": {name: dict(weights) for name, weights in self.categorical.items()},
        }


def load(directory: Path) -> ChurnModel:
    """Load the model from `<directory>/churn`; ModelError says what is wrong with it."""
    document = read_model(directory / NAME, SCHEMA)
    try:
        return ChurnModel(
            intercept=float(document["intercept"]),
            numeric={name: NumericTerm(**term) for name, term in document["numeric"].items()},
            categorical={
                name: {str(value): float(weight) for value, weight in weights.items()}
                for name, weights in document["categorical"].items()
            },
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the churn model in {directory} is malformed: {error!r}") from error
