"""Batch scoring of whole tables, clean and dirty."""

import json
from pathlib import Path

import pandas as pd
import pytest

from backend.batch import score
from backend.batch.__main__ import main
from backend.core import churn
from backend.core.tables import purchase_summary, read_customers, read_transactions, rfm
from backend.tests.conftest import CDNOW, ROOT, TELCO

MODELS = ["--models", str(ROOT / "models")]
CLV_HEADER = "customer_id,frequency,recency,age,monetary\n"


def arguments(job: str, source: Path, target: Path, *more: str) -> list[str]:
    """Return the command line of a job."""
    return [job, "--input", str(source), "--output", str(target), *MODELS, *more]


def test_churn_scores_the_whole_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Chunks make no difference, and the scores are the model's."""
    target = tmp_path / "scores.csv"
    assert main(arguments("churn", TELCO, target, "--chunk-rows", "1000")) == 0
    assert json.loads(capsys.readouterr().out) == {"scored": 7043, "rejected": 0}
    table = read_customers(TELCO)
    scores = pd.read_csv(target)
    assert scores["customerID"].tolist() == table["customerID"].tolist()
    expected = churn.load(ROOT / "models").predict(
        {name: table[name].tolist() for name in table.columns}
    )
    assert scores["churn_probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    left = scores.loc[table["Churn"] == 1, "churn_probability"].mean()
    assert left > 2 * scores.loc[table["Churn"] == 0, "churn_probability"].mean()


def test_clv_scores(tmp_path: Path) -> None:
    """Purchases and value of all CDNOW customers."""
    source, target = tmp_path / "summary.csv", tmp_path / "out" / "clv.csv"
    summary = purchase_summary(read_transactions(CDNOW), pd.Timestamp("1997-09-30"))
    summary.to_csv(source)
    assert main(arguments("clv", source, target, "--weeks", "39")) == 0
    scores = pd.read_csv(target, dtype={"customer_id": str}).set_index("customer_id")
    assert scores.loc["00004", "expected_purchases"] == pytest.approx(1.226, abs=0.001)
    assert len(scores) == 2357 and scores.notna().all().all()


def test_segments(tmp_path: Path) -> None:
    """Batch and training put customers in the same segments."""
    source, target = tmp_path / "rfm.csv", tmp_path / "segments.csv"
    transactions = read_transactions(CDNOW)
    rfm(transactions, transactions["date"].max()).to_csv(source)
    assert main(arguments("segment", source, target)) == 0
    scores = pd.read_csv(target, dtype=str)
    assigned = json.loads(
        (ROOT / "models" / "segmentation" / "assignments.json").read_text("utf-8")
    )
    assert dict(zip(scores["customer_id"], scores["segment"], strict=True)) == assigned


def test_bad_rows_are_refused_with_a_reason(tmp_path: Path) -> None:
    """The good ones are scored all the same."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(
        CLV_HEADER + "good,2,30,39,22\nlate,2,50,39,22\nnan,2,NaN,39,22\n"
        "ghost,0,5,39,0\nbelow,-1,0,39,0\nnew,0,0,39,0\n",
        encoding="utf-8",
    )
    assert main(arguments("clv", source, target, "--max-rejected", "0.9")) == 0
    assert pd.read_csv(target)["customer_id"].tolist() == ["good", "new"]
    reasons = pd.read_csv(tmp_path / "out.rejects.csv", keep_default_na=False).set_index(
        "customer_id"
    )["reason"]
    assert reasons.to_dict() == {
        "late": "recency exceeds age",
        "nan": "recency is no number from 0 up: 'NaN'",
        "ghost": "recency without frequency",
        "below": "frequency is no number from 0 up: '-1'",
    }


def test_unknown_categories_are_refused(tmp_path: Path) -> None:
    """Every row has one, so there are too many: status 1, and both tables are written."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    rejects = tmp_path / "refused.csv"
    text = "".join(TELCO.read_text("utf-8").splitlines(keepends=True)[:11])
    source.write_text(text.replace("check", "cheque"), encoding="utf-8")
    assert main(arguments("churn", source, target, "--rejects", str(rejects))) == 1
    refused = pd.read_csv(rejects)["reason"]
    assert refused.iloc[0] == "unknown PaymentMethod 'Electronic cheque'"
    assert len(pd.read_csv(target)) + len(refused) == 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "does not exist"),
        ("", "cannot be read"),
        (CLV_HEADER, "has no rows"),
        ("customer_id,frequency\n1,2\n", "lacks the columns recency, age, monetary"),
    ],
)
def test_unusable_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, reason: str
) -> None:
    """Status 1, a reason, and no output at all."""
    source, target = tmp_path / "in.csv", tmp_path / "out" / "scores.csv"
    if text is not None:
        source.write_text(text, encoding="utf-8")
    assert main(arguments("clv", source, target)) == 1
    assert reason in capsys.readouterr().err
    assert not list(target.parent.iterdir())


def test_a_run_that_dies_keeps_the_old_scores(tmp_path: Path) -> None:
    """The second chunk lacks its columns' values: what was there before stays."""
    source, target = tmp_path / "in.csv", tmp_path / "scores.csv"
    target.write_text("old", encoding="utf-8")
    source.write_text(CLV_HEADER + "a,0,0,9,0\nb,0,0,9,0,7,7\n", encoding="utf-8")
    assert main(arguments("clv", source, target, "--chunk-rows", "1")) == 1
    assert target.read_text("utf-8") == "old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in.csv", "scores.csv"]


def test_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what to do."""
    command = ["segment", "--input", str(TELCO), "--output", str(tmp_path / "o.csv")]
    assert main([*command, "--models", str(tmp_path)]) == 1
    assert "does not exist: train the model" in capsys.readouterr().err


def test_chunks_are_bounded(tmp_path: Path) -> None:
    """No more rows are in memory at once than were asked for."""
    source = tmp_path / "in.csv"
    source.write_text(CLV_HEADER + "a,0,0,9,0\n" * 25, encoding="utf-8")
    job = score.clv_job(ROOT / "models", weeks=1, annual_discount=0.1)
    assert [len(chunk) for chunk in score.read(source, job, 10)] == [10, 10, 5]
