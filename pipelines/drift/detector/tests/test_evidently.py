"""Evidently is the field's reference: the same statistics on the example's tables.

Where the definitions differ, ours is brought to Evidently's: it takes Sturges' bins over both
samples, fills only empty ones, takes the natural logarithm in the Jensen-Shannon distance, and the
reference's shares as certain in chi-squared.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evidently.legacy.calculations.stattests import (
    chi_stat_test,
    jensenshannon_stat_test,
    ks_stat_test,
    psi_stat_test,
    wasserstein_stat_test,
)
from evidently.legacy.calculations.stattests.registry import get_stattest
from evidently.legacy.core import ColumnType

from millrace_drift import statistics as own
from millrace_drift.config import Config
from millrace_drift.measure import measure
from tests.tables import NOW

TABLE = Path(__file__).parents[1] / "data" / "telco-customer-churn.csv"
NUMBERS = ("tenure", "MonthlyCharges", "TotalCharges")
CATEGORIES = ("Contract", "InternetService", "PaymentMethod", "gender", "Churn")


@pytest.fixture(name="halves", scope="module", params=["as it is", "moved"])
def fixture_halves(request: pytest.FixtureRequest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table in two parts, of which the second one may be moved."""
    table = pd.read_csv(TABLE, na_values=[" "]).sample(frac=1, random_state=1)
    before, after = table[:3_000].copy(), table[3_000:].copy()
    if request.param == "moved":
        after["MonthlyCharges"] *= 1.2
        after["tenure"] = (after["tenure"] * 0.8).round()
        after.loc[after.index[::7], "Contract"] = "One year"
    return before, after


@pytest.fixture(name="ours", scope="module")
def fixture_ours(
    halves: tuple[pd.DataFrame, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Return what the detector says of the two parts, by column."""
    folder = tmp_path_factory.mktemp("telco")
    paths = [folder / "reference.csv", folder / "current.csv"]
    for table, path in zip(halves, paths):
        table.to_csv(path, index=False)
    document = measure(paths[0], paths[1], Config(), NOW)
    return {column["name"]: column for column in document["columns"]}


def evidently(test: Any, before: pd.Series, after: pd.Series, kind: ColumnType) -> float:
    """Return Evidently's figure."""
    compare = get_stattest(before, after, kind, test)
    return float(compare(before, after, kind, 0.1).drift_score)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(
    name: str, halves: tuple[pd.DataFrame, pd.DataFrame], ours: dict[str, Any]
) -> None:
    """KS p-value, Wasserstein distance, PSI and Jensen-Shannon distance."""
    before, after = (table[name].dropna() for table in halves)
    kind = ColumnType.Numerical
    expected = evidently(ks_stat_test, before, after, kind)
    assert ours[name]["tests"][0]["p"] == pytest.approx(expected, rel=0.15, abs=1e-12)
    expected = evidently(wasserstein_stat_test, before, after, kind) * float(np.std(before))
    assert ours[name]["statistics"]["wasserstein"] == pytest.approx(expected, rel=1e-9)
    # Over the same bins, and without a fill where none is empty, PSI is the same.
    one, other = before.to_numpy(float), after.to_numpy(float)
    edges = np.histogram_bin_edges(np.concatenate([one, other]), bins="sturges")
    counts = [np.histogram(sample, edges)[0].astype(float) for sample in (one, other)]
    shares = [own.shares(count, fill=0) for count in counts]
    expected = evidently(jensenshannon_stat_test, before, after, kind)
    assert own.jensen_shannon(*shares) * np.sqrt(np.log(2)) == pytest.approx(expected, rel=1e-9)
    filled = [np.where(share == 0, 1e-4, share) for share in shares]
    expected = evidently(psi_stat_test, before, after, kind)
    assert own.psi(*filled) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories(
    name: str, halves: tuple[pd.DataFrame, pd.DataFrame], ours: dict[str, Any]
) -> None:
    """PSI and Jensen-Shannon distance; chi-squared is the smaller by the reference's own noise."""
    before, after = (table[name] for table in halves)
    kind, found = ColumnType.Categorical, ours[name]["statistics"]
    expected = evidently(psi_stat_test, before, after, kind)
    # Half a row more in each category makes no more difference than this.
    assert found["psi"] == pytest.approx(expected, rel=0.02, abs=1e-5)
    expected = evidently(jensenshannon_stat_test, before, after, kind) / np.sqrt(np.log(2))
    assert found["jensen_shannon"] == pytest.approx(expected, rel=0.02, abs=1e-5)
    p = evidently(chi_stat_test, before, after, kind)
    assert ours[name]["tests"][0]["p"] >= p
