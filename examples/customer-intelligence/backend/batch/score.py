"""Score tables in chunks, so that memory is bounded whatever the table's length."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from backend.core import churn, clv, segmentation

LOG = logging.getLogger("batch")
REASON = "reason"

Scorer = Callable[[pd.DataFrame], pd.DataFrame]
Checker = Callable[[pd.DataFrame], pd.Series]


class BatchError(Exception):
    """A table cannot be scored; the message says why."""


@dataclass(frozen=True)
class Job:
    """One kind of scoring: the columns it reads, which rows it refuses, what it adds."""

    id_column: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    refuse: Checker
    score: Scorer


@dataclass(frozen=True)
class Outcome:
    """Rows scored and rows refused."""

    scored: int
    rejected: int


def churn_job(models: Path) -> Job:
    """Return the job that adds `churn_probability` to the telco table."""
    model = churn.load(models)
    columns = (*churn.NUMERIC, *churn.CATEGORICAL)

    def refuse(table: pd.DataFrame) -> pd.Series:
        reason = pd.Series("", index=table.index)
        for name, weights in model.categorical.items():
            unknown = ~table[name].isin(list(weights)) & (reason == "")
            reason[unknown] = "unknown " + name + " " + table.loc[unknown, name].map(repr)
        return reason

    def score(table: pd.DataFrame) -> pd.DataFrame:
        scores = model.predict({name: table[name].tolist() for name in columns})
        return pd.DataFrame({"churn_probability": scores.round(6)}, index=table.index)

    return Job("customerID", churn.NUMERIC, churn.CATEGORICAL, refuse, score)


def clv_job(models: Path, *, weeks: int, annual_discount: float) -> Job:
    """Return the job that adds purchases and value; it reads frequency, recency, age, monetary."""
    model = clv.load(models)

    def refuse(table: pd.DataFrame) -> pd.Series:
        reason = pd.Series("", index=table.index)
        reason[table["recency"] > table["age"]] = "recency exceeds age"
        reason[(table["frequency"] == 0) != (table["recency"] == 0)] = "recency without frequency"
        return reason

    def score(table: pd.DataFrame) -> pd.DataFrame:
        x, t_x, t, mean = (table[name] for name in ("frequency", "recency", "age", "monetary"))
        value = model.value(x, t_x, t, mean, weeks=weeks, annual_discount=annual_discount)
        return pd.DataFrame(
            {
                "probability_alive": model.purchases.probability_alive(x, t_x, t).round(6),
                "expected_purchases": model.purchases.expected_purchases(weeks, x, t_x, t).round(6),
                "value": value.round(2),
            },
            index=table.index,
        )

    return Job("customer_id", ("frequency", "recency", "age", "monetary"), (), refuse, score)


def segment_job(models: Path) -> Job:
    """Return the job that adds `segment` to a table of recency_days, frequency, monetary."""
    model = segmentation.load(models)

    def refuse(table: pd.DataFrame) -> pd.Series:
        return pd.Series("", index=table.index)

    def score(table: pd.DataFrame) -> pd.DataFrame:
        names = model.assign(table[list(segmentation.FEATURES)].to_numpy())
        return pd.DataFrame({"segment": names}, index=table.index)

    return Job("customer_id", segmentation.FEATURES, (), refuse, score)


def read(path: Path, job: Job, chunk_rows: int) -> Iterator[pd.DataFrame]:
    """Yield the table in chunks of text; BatchError if columns are missing."""
    wanted = [job.id_column, *job.numeric, *job.categorical]
    try:
        for chunk in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=chunk_rows):
            missing = [name for name in wanted if name not in chunk.columns]
            if missing:
                raise BatchError(f"{path} lacks the columns {', '.join(missing)}")
            yield chunk[wanted].copy()
    except FileNotFoundError:
        raise BatchError(f"{path} does not exist") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise BatchError(f"{path} cannot be read: {error}") from error


def split(chunk: pd.DataFrame, job: Job) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide a chunk into rows that can be scored and rows that cannot, with the reason."""
    typed = chunk.copy()
    reason = pd.Series("", index=chunk.index)
    for name in job.numeric:
        text = chunk[name].str.strip()
        if name == "TotalCharges":
            # Blank in the source for customers who have not been billed yet.
            text = text.mask(text == "", "0")
        values = pd.to_numeric(text, errors="coerce").astype("float64")
        bad = (~np.isfinite(values) | (values < 0)) & (reason == "")
        reason[bad] = f"{name} is no number from 0 up: " + chunk.loc[bad, name].map(repr)
        typed[name] = values
    good = reason == ""
    reason[good] = job.refuse(typed[good])
    good = reason == ""
    rejected = chunk.loc[~good, [job.id_column]].assign(**{REASON: reason[~good]})
    return typed[good], rejected


def run(job: Job, source: Path, target: Path, rejects: Path, *, chunk_rows: int) -> Outcome:
    """Score `source` into `target`, with refused rows in `rejects`.

    Both are written beside their final name and moved there at the end, so that a run that dies
    leaves no half table behind.
    """
    scored = rejected = 0
    outputs = {path: path.with_name(f".{path.name}.part") for path in (target, rejects)}
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for number, chunk in enumerate(read(source, job, chunk_rows)):
            rows, refused = split(chunk, job)
            result = pd.concat([rows[[job.id_column]], job.score(rows)], axis=1)
            for path, table in ((target, result), (rejects, refused)):
                mode = "a" if number else "w"
                table.to_csv(outputs[path], mode=mode, header=number == 0, index=False)
            scored, rejected = scored + len(rows), rejected + len(refused)
            LOG.info("chunk", extra={"fields": {"scored": scored, "rejected": rejected}})
        if scored + rejected == 0:
            raise BatchError(f"{source} has no rows")
        for path, part in outputs.items():
            part.replace(path)
    finally:
        for part in outputs.values():
            part.unlink(missing_ok=True)
    return Outcome(scored, rejected)
