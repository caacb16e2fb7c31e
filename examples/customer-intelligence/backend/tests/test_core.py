"""Model formats, their mathematics, the table readers, the logging."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backend.core import churn, clv, segmentation
from backend.core.artifacts import ModelError, read_model, rounded, write_json, write_text
from backend.core.logs import JsonFormatter
from backend.core.tables import (
    TableError,
    purchase_summary,
    read_customers,
    read_transactions,
    rfm,
)
from backend.tests.conftest import CDNOW, ROOT, TELCO

PAPER = clv.BetaGeometric(r=0.243, alpha=4.414, a=0.793, b=2.426)


def test_written_json_is_canonical(tmp_path: Path) -> None:
    """Equal values give equal bytes."""
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.5]})
    write_json(tmp_path / "b.json", {"a": [0.5], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_written(tmp_path: Path, value: float) -> None:
    """A metric that is no number must not pass for one."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"auc": value})
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A reader never sees half a file, and no temporary file stays."""
    path = tmp_path / "model.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["model.json"]


def test_rounded_goes_into_nested_values() -> None:
    """Only floats change."""
    assert rounded({"a": [1.23456789, (2, "x")], "b": None}, 3) == {
        "a": [1.235, [2, "x"]],
        "b": None,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "cannot be read"),
        ("[]", "has schema None"),
        ('{"schema": "other/v9"}', "has schema 'other/v9', expected 'mine/v1'"),
    ],
)
def test_unusable_models_are_explained(tmp_path: Path, text: str, reason: str) -> None:
    """The message names the file and what is wrong with it."""
    (tmp_path / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=reason):
        read_model(tmp_path, "mine/v1")


@pytest.mark.parametrize("module", [churn, clv, segmentation])
def test_malformed_models_are_explained(module: Any, models: Path) -> None:
    """A document of the right schema can still lack its content."""
    path = models / module.NAME / "model.json"
    path.write_text(json.dumps({"schema": module.SCHEMA}), encoding="utf-8")
    with pytest.raises(ModelError, match="malformed"):
        module.load(models)


def test_segments_need_a_name_each(models: Path) -> None:
    """A centroid without a name would fail at the first customer near it."""
    path = models / "segmentation" / "model.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["names"].pop()
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match="3 names for 4 centroids"):
        segmentation.load(models)


@pytest.mark.parametrize("module", [churn, clv, segmentation])
def test_documents_round_trip(module: Any) -> None:
    """What is written is what was loaded."""
    document = json.loads((ROOT / "models" / module.NAME / "model.json").read_text("utf-8"))
    del document["provenance"]
    assert module.load(ROOT / "models").document() == document


def test_churn_is_the_sum_of_its_contributions(customer: dict[str, Any]) -> None:
    """The explanation adds up to the prediction."""
    model = churn.load(ROOT / "models")
    logit = model.intercept + sum(model.contributions(customer).values())
    assert model.predict({name: [value] for name, value in customer.items()})[0] == pytest.approx(
        1 / (1 + np.exp(-logit))
    )


def test_unknown_categories_count_as_nothing(customer: dict[str, Any]) -> None:
    """They are reported, and do not move the score."""
    model = churn.load(ROOT / "models")
    customer["Contract"] = "Weekly"
    assert model.unknown_categories(customer) == ["Contract=Weekly"]
    assert model.contributions(customer)["Contract"] == 0


def test_expected_purchases_match_simulation() -> None:
    """The closed form agrees with 200,000 customers who act as the model says."""
    random, size, weeks = np.random.default_rng(7), 200_000, 52.0
    rates = random.gamma(PAPER.r, 1 / PAPER.alpha, size)
    leaving = random.beta(PAPER.a, PAPER.b, size)
    bought, now = np.zeros(size), np.zeros(size)
    alive = np.ones(size, dtype=bool)
    while alive.any():
        now[alive] += random.exponential(1 / np.maximum(rates[alive], 1e-12))
        alive &= now <= weeks
        bought += alive
        alive &= random.random(size) >= leaving
    expected = float(PAPER.expected_purchases(weeks, 0, 0, 0))
    assert expected == pytest.approx(bought.mean(), rel=0.02)


def test_purchases_where_the_closed_form_is_singular() -> None:
    """At a = 1 the formula divides 0 by 0; the value lies between its neighbours'."""
    low, middle, high = (
        float(clv.BetaGeometric(0.3, 4.0, a, 2.5).expected_purchases(20, 2, 10, 30))
        for a in (0.99, 1.0, 1.01)
    )
    assert min(low, high) < middle < max(low, high)


def test_alive_probability() -> None:
    """One who never came back has not dropped out; silence makes drop-out likely."""
    assert PAPER.probability_alive(0, 0, 30) == 1
    recent, silent = PAPER.probability_alive([5, 5], [29, 5], [30, 30])
    assert 0 < silent < 0.1 < 0.8 < recent < 1


def test_spend_is_drawn_to_the_mean() -> None:
    """One purchase says little, a hundred say nearly all."""
    model = clv.GammaGamma(p=6.25, q=3.74, v=15.44)
    none, one, many = model.expected_spend([0, 1, 100], [0, 100, 100])
    assert none == pytest.approx(6.25 * 15.44 / 2.74)
    assert none < one < many < 100


def test_telco_table() -> None:
    """Row count and churn rate are the published ones; blank charges belong to new customers."""
    table = read_customers(TELCO)
    assert len(table) == 7043
    assert table["Churn"].sum() == 1869
    assert (table.loc[table["tenure"] == 0, "TotalCharges"] == 0).sum() == 11
    assert table["TotalCharges"].notna().all()


def test_cdnow_table() -> None:
    """The counts are the paper's: 2,357 customers, 946 of whom came back in 39 weeks."""
    transactions = read_transactions(CDNOW)
    assert len(transactions) == 6919
    summary = purchase_summary(transactions, pd.Timestamp("1997-09-30"))
    assert (len(summary), int((summary["frequency"] > 0).sum())) == (2357, 946)
    assert summary.loc["00004"].tolist() == pytest.approx([2, 30.428571, 38.857143, 22.345])


def test_days_are_counted_not_baskets(tmp_path: Path) -> None:
    """Two purchases on one day are one; the master table's four fields are read too."""
    path = tmp_path / "master.txt"
    path.write_text(
        " customer_id  date number_of_cds  dollar_value\n"
        " 1 19970101 1 10.00\n 1 19970108 1 5.00\n 1 19970108 2 7.00\n",
        encoding="utf-8",
    )
    table = read_transactions(path)
    summary = purchase_summary(table, pd.Timestamp("1997-01-15"))
    assert summary.loc["1"].tolist() == [1, 1, 2, 12]
    assert rfm(table, pd.Timestamp("1997-01-15")).loc["1"].tolist() == [7, 2, 11]


@pytest.mark.parametrize("summarise", [purchase_summary, rfm])
def test_a_period_before_all_purchases(summarise: Any) -> None:
    """There is nothing to sum up."""
    with pytest.raises(TableError, match="no purchase up to 1990-01-01"):
        summarise(read_transactions(CDNOW), pd.Timestamp("1990-01-01"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("1 19970101\n", "2 fields a row"),
        (" customer_id date number_of_cds dollar_value\n", "no rows"),
        ("1 19971301 1 2.0\n", "malformed row"),
        ("1 19970101 1 cheap\n", "malformed row"),
    ],
)
def test_bad_transactions(tmp_path: Path, text: str, reason: str) -> None:
    """The message says what is wrong."""
    path = tmp_path / "t.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=reason):
        read_transactions(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("customerID,Churn\n", "no rows"),
        ("customerID,Churn\n1,Yes\n", "lacks the columns tenure"),
    ],
)
def test_bad_customers(tmp_path: Path, text: str, reason: str) -> None:
    """The message says what is wrong."""
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=reason):
        read_customers(path)


def test_labels_are_yes_or_no(tmp_path: Path) -> None:
    """Any other label is an error, not a silent No."""
    path = tmp_path / "t.csv"
    path.write_text(TELCO.read_text("utf-8").replace(",Yes\n", ",Maybe\n"), encoding="utf-8")
    with pytest.raises(TableError, match="Churn must be Yes or No, not 'Maybe'"):
        read_customers(path)


@pytest.mark.parametrize("read", [read_transactions, read_customers])
def test_missing_tables(tmp_path: Path, read: Any) -> None:
    """The message names the file."""
    with pytest.raises(TableError, match="nowhere.csv does not exist"):
        read(tmp_path / "nowhere.csv")


def test_log_lines_are_json() -> None:
    """Fields and exceptions are part of the line."""
    cause = ValueError("cause")
    record = logging.LogRecord("x", logging.INFO, "", 0, "n %d", (3,), (ValueError, cause, None))
    record.fields = {"rows": 3}
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["rows"], line["level"]) == ("n 3", 3, "info")
    assert "ValueError: cause" in line["exception"]
