"""The statistics against what is known of them, and against scipy."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from millrace_drift import statistics as own

N = 400_000


@pytest.mark.parametrize("d", [0.1, 0.25, 0.5, 1.0])
def test_known_answers_for_shifted_normals(d: float) -> None:
    """For N(0,1) against N(d,1): KS is 2*Phi(d/2)-1, Wasserstein d, PSI d squared."""
    random = np.random.default_rng(7)
    one, other = random.normal(size=N), random.normal(size=N) + d
    moved = own.compare_numbers(one, other)
    assert moved.ks == pytest.approx(2 * stats.norm.cdf(d / 2) - 1, abs=0.005)
    assert moved.wasserstein == pytest.approx(d, abs=0.01)
    # PSI is d squared in the limit of many bins; the deciles see a little less of it.
    fine = own.quantile_edges(np.sort(one), 400)
    shares = [own.shares(own.bin_counts(fine, sample)) for sample in (one, other)]
    assert own.psi(*shares) == pytest.approx(d * d, rel=0.03, abs=0.002)
    deciles = own.quantile_edges(np.sort(one))
    shares = [own.shares(own.bin_counts(deciles, sample)) for sample in (one, other)]
    assert 0.85 * d * d < own.psi(*shares) <= 1.01 * d * d


@pytest.mark.parametrize(("n", "m"), [(30, 30), (100, 1_000), (5_000, 700)])
def test_ks_and_wasserstein_agree_with_scipy(n: int, m: int) -> None:
    """Statistic and distance are scipy's, the p-value is near scipy's exact one."""
    random = np.random.default_rng(n)
    one, other = random.lognormal(size=n), random.lognormal(size=m) * 1.2
    moved = own.compare_numbers(one, other)
    expected = stats.ks_2samp(one, other)
    assert moved.ks == pytest.approx(expected.statistic, rel=1e-12)
    assert moved.p == pytest.approx(expected.pvalue, rel=0.15, abs=1e-6)
    assert moved.wasserstein == pytest.approx(stats.wasserstein_distance(one, other), rel=1e-9)


def test_p_values_are_uniform_when_nothing_has_changed() -> None:
    """Of p-values below x there are no more than x, give or take what chance does."""
    random = np.random.default_rng(3)
    found = [
        own.compare_numbers(random.normal(size=300), random.normal(size=500)).p
        for _ in range(2_000)
    ]
    for x in (0.01, 0.05, 0.2):
        error = 3 * np.sqrt(x * (1 - x) / len(found))
        assert x - 2 * error < np.mean(np.array(found) < x) < x + error


def test_chi_squared_agrees_with_scipy_where_counts_are_large() -> None:
    """It is the test of homogeneity: the reference is a sample too."""
    one, other = np.array([300.0, 200.0, 80.0]), np.array([250.0, 260.0, 60.0])
    expected = stats.chi2_contingency([one, other], correction=False)
    found = own.chi_squared(one, other)
    assert found == pytest.approx((expected.statistic, expected.pvalue))


def test_rare_cells_are_pooled() -> None:
    """Every cell that is left has five rows expected, in both samples, and none is lost."""
    one = np.array([100.0, 3.0, 2.0, 1.0, 0.0, 50.0])
    other = np.array([90.0, 1.0, 0.0, 2.0, 1.0, 60.0])
    pooled = own.pool_rare(one, other)
    assert [part.sum() for part in pooled] == [one.sum(), other.sum()]
    both = pooled[0] + pooled[1]
    assert (both * min(one.sum(), other.sum()) / (one.sum() + other.sum())).min() >= own.EXPECTED
    assert own.chi_squared(np.array([9.0]), np.array([7.0])) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("before", "n", "after", "m"),
    [(3, 100, 12, 120), (0, 50, 6, 50), (40, 90, 10, 80), (1, 9, 0, 7)],
)
def test_shares_agree_with_fishers_exact_test(before: int, n: int, after: int, m: int) -> None:
    """The p-value is scipy's."""
    table = [[before, n - before], [after, m - after]]
    expected = stats.fisher_exact(table).pvalue
    assert own.compare_shares(before, n, after, m) == pytest.approx(expected)


def test_shares_of_large_samples() -> None:
    """The chi-squared test takes over where it agrees with the exact one."""
    expected = stats.fisher_exact([[500, 9_500], [590, 9_410]]).pvalue
    assert own.compare_shares(500, 10_000, 590, 10_000) == pytest.approx(expected, rel=0.1)
    assert own.compare_shares(0, 10, 0, 10) == own.compare_shares(10, 10, 10, 10) == 1.0


def test_quantiles_are_numpys() -> None:
    """On values in order."""
    values = np.sort(np.random.default_rng(1).normal(size=37))
    points = [0.0, 0.1, 0.5, 0.77, 1.0]
    np.testing.assert_allclose(own.quantiles(values, points), np.quantile(values, points))


def test_bins_of_odd_columns() -> None:
    """Coinciding edges are merged, and a constant has three bins: below, the value, above."""
    edges = own.quantile_edges(np.full(50, 4.0))
    assert own.bin_counts(edges, np.array([3.0, 4.0, 4.0, 5.0])).tolist() == [1, 2, 1]
    edges = own.quantile_edges(np.array([0.0] * 80 + [1.0] * 20))
    assert len(edges) <= 3 and (np.diff(edges) > 0).all()


def test_jensen_shannon_is_scipys_to_base_2() -> None:
    """0 for the same distribution, 1 for disjoint ones."""
    one, other = np.array([0.1, 0.4, 0.5]), np.array([0.3, 0.3, 0.4])
    assert own.jensen_shannon(one, other) == pytest.approx(distance.jensenshannon(one, other, 2))
    assert own.jensen_shannon(one, one) == 0.0
    assert own.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)


def test_psi_of_noise_is_what_is_expected() -> None:
    """The mean of PSI without a change is what is taken off it."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(300):
        one, other = np.sort(random.normal(size=400)), random.normal(size=300)
        edges = own.quantile_edges(one)
        found.append(own.psi(*(own.shares(own.bin_counts(edges, s)) for s in (one, other))))
    assert np.mean(found) == pytest.approx(own.expected_psi(10, 400, 300), rel=0.12)


def test_corrections() -> None:
    """The example of Benjamini and Hochberg's paper: four are found at 5 %, three by Holm."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    assert (own.adjust(p, "bh") <= 0.05).sum() == 4
    assert (own.adjust(p, "holm") <= 0.05).sum() == 3
    assert own.adjust(p, "none").tolist() == p
    assert own.adjust([], "bh").tolist() == []
    np.testing.assert_allclose(own.adjust(p, "bh"), stats.false_discovery_control(p))
    with pytest.raises(ValueError, match="bonferoni"):
        own.adjust(p, "bonferoni")


def test_roc_auc() -> None:
    """The area is the share of pairs in order, its variance near that of a bootstrap."""
    random = np.random.default_rng(2)
    positive = random.random(600) < 0.3
    scores = random.normal(size=600) + positive
    area, variance = own.roc_auc(scores, positive)
    wins = scores[positive][:, None] > scores[~positive][None, :]
    assert area == pytest.approx(wins.mean())
    again = []
    for _ in range(400):
        at = random.integers(0, 600, 600)
        again.append(own.roc_auc(scores[at], positive[at])[0])
    assert np.sqrt(variance) == pytest.approx(np.std(again), rel=0.15)


def test_unseen_rate() -> None:
    """A reference in which each category was seen often leaves no room for new ones."""
    assert own.unseen_rate(np.array([500.0, 500.0])) == pytest.approx(0.001)
    assert own.unseen_rate(np.array([1.0] * 100)) == 1.0
    assert own.at_least(0, 100, 0.01) == 1.0
    assert own.at_least(10, 1_000, 0.001) == pytest.approx(stats.binom.sf(9, 1_000, 0.001))
