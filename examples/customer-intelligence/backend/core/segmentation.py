"""Segments of customers by recency, frequency and monetary value (RFM)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backend.core.artifacts import ModelError, read_model

SCHEMA = "customer-intelligence/segmentation/v1"
NAME = "segmentation"
ASSIGNMENTS_FILE = "assignments.json"
FEATURES = ("recency_days", "frequency", "monetary")


def transform(features: ArrayLike) -> NDArray[np.float64]:
    """Return log(1 + value): all three features have long right tails."""
    return np.log1p(np.asarray(features, dtype=np.float64))


@dataclass(frozen=True)
class SegmentationModel:
    """K-means centroids in the space of standardised logarithms, with a name for each."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]
    assignments: Mapping[str, str] = field(default_factory=dict)

    def assign(self, features: ArrayLike) -> list[str]:
        """Return the segment's name for each row of (recency_days, frequency, monetary)."""
        rows = np.atleast_2d(np.asarray(features, dtype=np.float64))
        points = (transform(rows) - np.array(self.mean)) / np.array(self.scale)
        distances = ((points[:, None, :] - np.array(self.centroids)[None, :, :]) ** 2).sum(axis=2)
        return [self.names[index] for index in distances.argmin(axis=1)]

    def document(self) -> dict[str, Any]:
        """Return the model as a JSON document, without its provenance and assignments."""
        return {
            "schema": SCHEMA,
            "features": list(FEATURES),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "centroids": [list(centroid) for centroid in self.centroids],
            "names": list(self.names),
        }


def load(directory: Path) -> SegmentationModel:
    """Load the model from `<directory>/segmentation`; ModelError says what is wrong with it."""
    document = read_model(directory / NAME, SCHEMA)
    path = directory / NAME / ASSIGNMENTS_FILE
    try:
        assignments = json.loads(path.read_text(encoding="utf-8"))
        model = SegmentationModel(
            mean=tuple(map(float, document["mean"])),
            scale=tuple(map(float, document["scale"])),
            centroids=tuple(tuple(map(float, row)) for row in document["centroids"]),
            names=tuple(map(str, document["names"])),
            assignments={str(key): str(value) for key, value in assignments.items()},
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"the segmentation in {directory} is malformed: {error!r}") from error
    if len(model.names) != len(model.centroids):
        raise ModelError(
            f"the segmentation in {directory} has {len(model.names)} names"
            f" for {len(model.centroids)} centroids"
        )
    return model
