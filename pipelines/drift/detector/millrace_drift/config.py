"""What the detection is told: roles and weights of columns, thresholds, persistence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EFFECTS: Mapping[str, tuple[float, float]] = {
    # By test: the size from which a change is a warning, and the one from which it is critical.
    "distribution": (0.10, 0.15),
    "shape": (0.10, 0.25),
    "missing": (0.05, 0.20),
    "invalid": (0.01, 0.10),
    "new-categories": (0.01, 0.10),
    # A fall in the unit of the metric for what is better when it is higher, else a relative rise.
    "roc_auc": (0.02, 0.05),
    "accuracy": (0.02, 0.05),
    "brier": (0.10, 0.20),
    "mae": (0.10, 0.20),
}
KINDS = ("number", "category", "text", "time")


@dataclass(frozen=True)
class ColumnConfig:
    """What is said of one column."""

    weight: float | None = None
    owner: str = ""
    ignore: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Config:
    """What the detection is told; everything has a default."""

    columns: Mapping[str, ColumnConfig] = field(default_factory=dict)
    prediction: str = ""
    target: str = ""
    positive: str = ""
    alpha: float = 0.01
    severe: float = 1e-4
    correction: str = "bh"
    effects: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(EFFECTS))
    runs: int = 3
    needed: int = 2
    minor: float = 0.1
    min_rows: int = 50
    sample: int = 200_000
    importances: Mapping[str, float] = field(default_factory=dict)

    def weight(self, name: str) -> float:
        """Return how much a column matters, from 0 to 1.

        That is its weight, or else its importance to the model as a share of the largest one.
        """
        said = self.columns.get(name, ColumnConfig()).weight
        if said is not None:
            return said
        if not self.importances:
            return 1.0
        largest = max(abs(value) for value in self.importances.values())
        return abs(self.importances.get(name, 0.0)) / largest if largest > 0 else 1.0

    def role(self, name: str) -> str:
        """Return what a column is to the model: prediction, target or feature."""
        return {self.prediction: "prediction", self.target: "target"}.get(name, "feature")


def load(document: Mapping[str, Any]) -> Config:
    """Read a configuration from JSON; what it leaves out has its default."""
    said = {key: value for key, value in document.items() if value is not None}
    columns = {name: ColumnConfig(**value) for name, value in said.pop("columns", {}).items()}
    effects = dict(EFFECTS)
    for name, (warn, critical) in said.pop("effects", {}).items():
        effects[name] = (float(warn), float(critical))
    return Config(columns=columns, effects=effects, **said)
