"""Statistics that compare two samples of one column."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

BINS = 10
FILL = 1e-4

Floats: TypeAlias = NDArray[np.float64]


def psi_of_shares(reference: Floats, current: Floats) -> float:
    """Return the population stability index of two distributions over the same bins.

    Natural logarithm. An empty bin counts as a share of 0.0001: a smaller fill lets one empty
    bin outweigh everything else.
    """
    expected, actual = np.maximum(reference, FILL), np.maximum(current, FILL)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def psi(reference: Floats, current: Floats, bins: int = BINS) -> float:
    """Return the PSI of two numeric samples over quantile bins of the reference.

    Quantiles that coincide are merged, so a column with few distinct values gets fewer bins; one
    with a single value gets three: below it, it, and above it.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    if len(edges) == 1:
        edges = np.array([edges[0], np.nextafter(edges[0], np.inf)])
    size = len(edges) + 1

    def shares(sample: Floats) -> Floats:
        counts = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=size)
        return np.asarray(counts / len(sample), dtype=np.float64)

    return psi_of_shares(shares(reference), shares(current))


def kolmogorov_smirnov(reference: Floats, current: Floats) -> tuple[float, float]:
    """Return the two-sample KS statistic and its asymptotic p-value."""
    result = ks_2samp(reference, current, method="asymp")
    return float(result.statistic), float(result.pvalue)


def categorical(
    reference: Sequence[str], current: Sequence[str]
) -> tuple[float, float, float, list[str]]:
    """Return PSI, chi-squared, its p-value, and the categories that are new.

    Where both samples hold one and the same category there is nothing to test: 0, 0 and 1.
    """
    before, after = Counter(reference), Counter(current)
    names = sorted(set(before) | set(after))
    table = np.array([[counts[name] for name in names] for counts in (before, after)], dtype=float)
    shares = table / table.sum(axis=1, keepdims=True)
    statistic, p_value = 0.0, 1.0
    if len(names) > 1:
        test = chi2_contingency(table, correction=False)
        statistic, p_value = float(test.statistic), float(test.pvalue)
    new = sorted(set(after) - set(before))
    return psi_of_shares(shares[0], shares[1]), statistic, p_value, new
