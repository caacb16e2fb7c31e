"""Models in memory: loaded at start, asked for by the routes."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.core import churn, clv, segmentation
from backend.core.artifacts import MODEL_FILE, ModelError, digest

LOG = logging.getLogger("api.store")

LOADERS: dict[str, Callable[[Path], Any]] = {
    churn.NAME: churn.load,
    clv.NAME: clv.load,
    segmentation.NAME: segmentation.load,
}


class NotReady(Exception):
    """A model that a request needs is not loaded; the message says why."""


@dataclass
class ModelStore:
    """Holds what could be loaded, and for the rest the reason why not.

    A model that is missing does not stop the API: the others are served, and readiness tells
    what is wrong. Missing models are looked for again whenever readiness is asked, so a volume
    that is filled later needs no restart. Loaded models stay: an update is a new rollout.
    """

    directory: Path
    models: dict[str, Any] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        """Try to load each model that is not loaded yet."""
        with self._lock:
            for name, loader in LOADERS.items():
                if name in self.models:
                    continue
                try:
                    model = loader(self.directory)
                    self.digests[name] = digest(self.directory / name / MODEL_FILE)
                except (ModelError, OSError) as error:
                    if self.problems.get(name) != str(error):
                        LOG.warning("not loaded", extra={"fields": {"reason": str(error)}})
                    self.problems[name] = str(error)
                    continue
                self.models[name] = model
                self.problems.pop(name, None)
                LOG.info("loaded", extra={"fields": {"model": name, "sha256": self.digests[name]}})

    def _get(self, name: str) -> Any:
        if name not in self.models:
            raise NotReady(self.problems.get(name, f"the {name} model is not loaded yet"))
        return self.models[name]

    @property
    def churn(self) -> churn.ChurnModel:
        """The churn model; NotReady if it is not loaded."""
        model: churn.ChurnModel = self._get(churn.NAME)
        return model

    @property
    def clv(self) -> clv.ClvModel:
        """The lifetime value model; NotReady if it is not loaded."""
        model: clv.ClvModel = self._get(clv.NAME)
        return model

    @property
    def segmentation(self) -> segmentation.SegmentationModel:
        """The segmentation; NotReady if it is not loaded."""
        model: segmentation.SegmentationModel = self._get(segmentation.NAME)
        return model
