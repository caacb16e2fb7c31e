"""Statistics that compare two samples, and what is known of them when nothing has changed.

Logarithms are natural in PSI and to base 2 in the Jensen-Shannon distance, which so lies between
0 and 1. Both work on shares in which every bin has got half a row more than was counted, so that
an empty bin is neither infinite nor depends on an arbitrary small number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats: TypeAlias = NDArray[np.float64]

BINS = 10
"""Bins of a numeric column: the deciles of the reference."""
FILL = 0.5
"""Rows that are added to each bin."""
EXPECTED = 5.0
"""Rows that must be expected in a cell of a chi-squared test; what has less is pooled."""


@dataclass(frozen=True)
class Moved:
    """How far two samples of numbers lie apart."""

    ks: float
    p: float
    wasserstein: float


def compare_numbers(reference: Floats, current: Floats) -> Moved:
    """Return the two-sample KS statistic with its p-value, and the Wasserstein-1 distance.

    The p-value is Kolmogorov's limit with Stephens' correction for small samples; with ties it errs
    to the safe side. The distance is in the column's own unit.
    """
    n, m = len(reference), len(current)
    one, other = np.sort(reference, kind="stable"), np.sort(current, kind="stable")
    both = np.concatenate([one, other])
    both.sort(kind="stable")
    apart = np.abs(
        np.searchsorted(one, both, side="right") / n
        - np.searchsorted(other, both, side="right") / m
    )
    ks = float(apart.max())
    with np.errstate(over="ignore", invalid="ignore"):
        distance = float((apart[:-1] * np.diff(both)).sum())
    root = np.sqrt(n * m / (n + m))
    p = float(special.kolmogorov((root + 0.12 + 0.11 / root) * ks))
    return Moved(ks, p, distance)


def quantiles(ordered: Floats, points: Sequence[float] | Floats) -> Floats:
    """Return quantiles of values that are in order, as np.quantile does, only faster."""
    at = np.asarray(points, dtype=np.float64) * (len(ordered) - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, len(ordered) - 1)
    part = at - low
    return np.asarray(ordered[low] * (1 - part) + ordered[high] * part, dtype=np.float64)


def quantile_edges(reference: Floats, bins: int = BINS) -> Floats:
    """Return the inner edges of bins that hold equal shares of the reference, which is in order.

    Edges that coincide are merged, so a column with few values gets fewer bins. One with a single
    value gets three: below it, the value, and above it.
    """
    edges = quantiles(reference, np.arange(1, bins) / bins)
    edges = edges[np.append(True, edges[1:] > edges[:-1])]
    if len(edges) == 1:
        edges = np.array([edges[0], np.nextafter(edges[0], np.inf)])
    return np.asarray(edges, dtype=np.float64)


def bin_counts(edges: Floats, sample: Floats) -> Floats:
    """Return how many values lie in each bin; the outer bins are open."""
    at = np.searchsorted(edges, sample, side="right")
    return np.bincount(at, minlength=len(edges) + 1).astype(np.float64)


def shares(counts: Floats, fill: float = FILL) -> Floats:
    """Return the shares of the bins, each with so many rows more than were counted."""
    filled = counts + fill
    return np.asarray(filled / filled.sum(), dtype=np.float64)


def psi(reference: Floats, current: Floats) -> float:
    """Return the population stability index of two distributions, given as shares above 0."""
    return float(((current - reference) * np.log(current / reference)).sum())


def expected_psi(bins: int, n: int, m: int) -> float:
    """Return what PSI is on average when nothing has changed: (bins - 1)(1/n + 1/m).

    This is the mean of the chi-squared distribution that PSI, divided by 1/n + 1/m, then has
    (Yurdakul, Statistical properties of the population stability index, 2018).
    """
    return max(0, bins - 1) * (1 / n + 1 / m)


def jensen_shannon(reference: Floats, current: Floats) -> float:
    """Return the Jensen-Shannon distance of two distributions: 0 if equal, 1 if disjoint."""
    middle = (reference + current) / 2

    def divergence(part: Floats) -> float:
        held = part > 0
        return float((part[held] * np.log2(part[held] / middle[held])).sum())

    return float(np.sqrt(max(0.0, (divergence(reference) + divergence(current)) / 2)))


def total_variation(reference: Floats, current: Floats) -> float:
    """Return the share of rows that would have to move for two distributions to be equal."""
    return float(np.abs(reference - current).sum() / 2)


def pool_rare(reference: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Add up the cells of which too little is expected for a chi-squared test."""
    n, m = reference.sum(), current.sum()
    both = reference + current
    expected = both * min(n, m) / (n + m)
    order = np.argsort(expected, kind="stable")
    ascending = expected[order]
    # Pool all that are rare, and as many more as the pool needs to be large enough itself.
    pooled = int((ascending < EXPECTED).sum())
    if pooled:
        totals = np.cumsum(ascending)
        while pooled < len(order) and totals[pooled - 1] < EXPECTED:
            pooled += 1
    rest = order[pooled:]
    if not pooled:
        return reference[rest], current[rest]
    rare = order[:pooled]
    return (
        np.append(reference[rest], reference[rare].sum()),
        np.append(current[rest], current[rare].sum()),
    )


def chi_squared(reference: Floats, current: Floats) -> tuple[float, float]:
    """Return Pearson's chi-squared of two rows of counts, and its p-value; 0 and 1 for one cell."""
    reference, current = pool_rare(reference, current)
    if len(reference) < 2:
        return 0.0, 1.0
    n, m = reference.sum(), current.sum()
    both = (reference + current) / (n + m)
    statistic = float(
        ((reference - n * both) ** 2 / (n * both)).sum()
        + ((current - m * both) ** 2 / (m * both)).sum()
    )
    return statistic, float(special.chdtrc(len(reference) - 1, statistic))


def compare_shares(before: int, n: int, after: int, m: int) -> float:
    """Return the p-value of so many of n rows against so many of m: Fisher's exact test.

    Where more than 50 rows are expected in each cell, the chi-squared test with Yates' correction
    takes its place, which agrees there and takes no time.
    """
    hit, rest = before + after, n + m - before - after
    if hit == 0 or rest == 0:
        return 1.0
    expected = np.array([[hit, rest]]) * np.array([[n], [m]]) / (n + m)
    if expected.min() > 50:
        seen = np.array([[before, n - before], [after, m - after]])
        apart = np.maximum(np.abs(seen - expected) - 0.5, 0)
        return float(special.chdtrc(1, (apart**2 / expected).sum()))
    # Of all ways to share out the hits, those that are no more likely than what was seen.
    possible = np.arange(max(0, hit - m), min(hit, n) + 1, dtype=np.float64)
    likely = _log_choose(n, possible) + _log_choose(m, hit - possible) - _log_choose(n + m, hit)
    seen_at = before - int(possible[0])
    return float(min(1.0, np.exp(likely[likely <= likely[seen_at] + 1e-7]).sum()))


def _log_choose(n: int, k: Floats | int) -> Floats:
    """Return the logarithm of the number of ways to choose k of n."""
    logarithm = special.gammaln(n + 1) - special.gammaln(np.add(k, 1)) - special.gammaln(n - k + 1)
    return np.asarray(logarithm, dtype=np.float64)


def unseen_rate(counts: Floats) -> float:
    """Return the share of rows that new categories may have although nothing has changed.

    Good and Turing's estimate, the share of categories seen once, on the safe side by two standard
    errors and one row.
    """
    once = float((counts == 1).sum())
    return float(min(1.0, (once + 2 * np.sqrt(once) + 1) / max(1.0, counts.sum())))


def at_least(rows: float, n: float, rate: float) -> float:
    """Return the chance of so many rows or more, of n, if each has the chance rate."""
    return float(special.bdtrc(rows - 1, int(n), rate)) if rows > 0 else 1.0


def adjust(p_values: Sequence[float], method: str) -> Floats:
    """Return p-values corrected for their number: bh (Benjamini and Hochberg), holm, or none."""
    p = np.asarray(p_values, dtype=np.float64)
    if method == "none" or len(p) == 0:
        return p
    order = np.argsort(p, kind="stable")
    ranks = np.arange(1, len(p) + 1)
    if method == "bh":
        ascending = np.minimum.accumulate((p[order] * len(p) / ranks)[::-1])[::-1]
    elif method == "holm":
        ascending = np.maximum.accumulate(p[order] * (len(p) - ranks + 1))
    else:
        raise ValueError(f"unknown correction {method!r}: use bh, holm or none")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(ascending, 1.0)
    return adjusted


def roc_auc(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and its variance (DeLong, DeLong and Clarke-Pearson).

    Both classes must be there twice at least.
    """
    high, low = scores[positive], scores[~positive]
    p, n = len(high), len(low)
    everywhere = stats.rankdata(np.concatenate([high, low]))
    wins = (everywhere[:p] - stats.rankdata(high)) / n
    losses = 1 - (everywhere[p:] - stats.rankdata(low)) / p
    return float(wins.mean()), float(wins.var(ddof=1) / p + losses.var(ddof=1) / n)
