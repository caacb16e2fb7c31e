"""A uniform sample of a table's rows that is drawn while the rows go by."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]

SEED = 20_260_301


class Sampler:
    """Draws a sample without replacement: the rows with the smallest of random keys.

    The same table gives the same sample. Up to twice the size is held at a time.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seen = 0
        self._random = np.random.default_rng(SEED)
        self._bound = 1.0
        self._keys: list[NDArray[np.float64]] = []
        self._parts: list[dict[str, Values]] = []
        self._held = 0

    def choose(self, rows: int) -> NDArray[np.intp]:
        """Return which of the next rows may be in the sample; hand their values to add."""
        keys = self._random.random(rows)
        chosen = np.flatnonzero(keys < self._bound)
        self._keys.append(keys[chosen])
        self.seen += rows
        return chosen

    def add(self, part: dict[str, Values]) -> None:
        """Take the values of the rows that choose returned last, by column."""
        self._parts.append(part)
        self._held += len(self._keys[-1])
        if self._held > 2 * self.size:
            self._shrink()

    def _shrink(self) -> None:
        keys = np.concatenate(self._keys)
        kept = np.sort(np.argpartition(keys, self.size - 1)[: self.size])
        self._parts = [self._joined(kept)]
        self._keys = [keys[kept]]
        self._bound, self._held = float(keys[kept].max()), self.size

    def _joined(self, rows: NDArray[np.intp] | slice = slice(None)) -> dict[str, Values]:
        """Return the rows as one part: a column at a time, so that nothing is there twice."""
        whole: dict[str, Values] = {}
        for name in list(self._parts[0]) if self._parts else ():
            whole[name] = np.concatenate([part.pop(name) for part in self._parts])[rows]
        return whole

    def columns(self) -> dict[str, Values]:
        """Return the sampled rows, in the table's order, by column. The sampler is empty then."""
        if self._held > self.size:
            self._shrink()
        return self._joined()
