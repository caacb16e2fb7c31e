"""Measure how a table differs from a reference; judging is done apart, see judge."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from millrace_drift import performance
from millrace_drift.compare import compare_columns
from millrace_drift.config import Config
from millrace_drift.tables import Column, Reading, Table, Unusable, kolmogorov_error, read

SCHEMA = "millrace/drift-measurement/v1"
MALFORMED = 0.05
"""Share of lines with the wrong number of fields from which on a table is unusable."""
OTHER_TYPE = 0.5
"""Share of values that are not of the reference's type from which on the type has changed."""
DAY = 86_400

Document = dict[str, Any]


def measure(reference: Path, current: Path, config: Config, now: float) -> Document:
    """Return the measurement of two tables. Its status is measured, inconclusive or unusable."""
    ignored = frozenset(name for name, said in config.columns.items() if said.ignore)
    kinds = {name: said.kind for name, said in config.columns.items() if said.kind}
    document: Document = {
        "schema": SCHEMA,
        "status": "measured",
        "reason": "",
        "tables": {},
        "problems": [],
        "columns": [],
        "performance": None,
    }
    try:
        before = _read("reference", reference, Reading(ignore=ignored, sample=config.sample), kinds)
        document["tables"]["reference"] = _table(before)
        reading = Reading(
            kinds={name: column.kind for name, column in before.columns.items()},
            ignore=ignored,
            sample=config.sample,
            now=now + DAY,
            categories={name: column.categories for name, column in before.columns.items()},
        )
        after = _read("current", current, reading, {})
        document["tables"]["current"] = _table(after)
    except Unusable as error:
        return document | {"status": "unusable", "reason": str(error)}
    for which, table in (("reference", before), ("current", after)):
        if table.rows < config.min_rows:
            rows = "1 row" if table.rows == 1 else f"{table.rows} rows"
            reason = f"the {which} table has {rows}; {config.min_rows} are needed to tell"
            return document | {"status": "inconclusive", "reason": reason}
    document["problems"] = _problems(before, after, config)
    broken = {problem["column"] for problem in document["problems"] if problem["breach"]}
    for name, column in before.columns.items():
        if name in after.columns and name not in broken:
            found = compare_columns(column, after.columns[name])
            if name == config.target:
                # Labels arrive late: that some are missing is how it should be.
                found["tests"] = [one for one in found["tests"] if one["name"] != "missing"]
            document["columns"].append({"name": name, "role": config.role(name)} | found)
    document["performance"] = performance.measure(before, after, config)
    return document


def _read(which: str, path: Path, reading: Reading, kinds: dict[str, str]) -> Table:
    """Read a table, and see that there is something in it."""
    try:
        if kinds:
            # The kinds that are given are few; the rest is guessed, so all must be known first.
            first = read(path, reading)
            said = {name: kinds.get(name, column.kind) for name, column in first.columns.items()}
            reading = Reading(said, reading.ignore, reading.sample, reading.now)
            table = read(path, reading)
        else:
            table = read(path, reading)
    except Unusable as error:
        raise Unusable(f"the {which} table: {error}") from error
    if not table.rows:
        raise Unusable(f"the {which} table has no rows")
    if not table.columns:
        raise Unusable(f"the {which} table has no column that is to be compared")
    if table.malformed_rows > MALFORMED * (table.rows + table.malformed_rows):
        raise Unusable(
            f"the {which} table: {table.malformed_rows} of {table.rows + table.malformed_rows} "
            f"lines have the wrong number of fields, such as {table.malformed[0]}"
        )
    return table


def _table(table: Table) -> Document:
    return {
        "rows": table.rows,
        "sampled": table.sampled,
        "ks_error": kolmogorov_error(table.rows, table.sampled),
        "sha256": table.digest,
        "malformed_rows": table.malformed_rows,
    }


def _problem(name: str, column: str, said: str, breach: bool = False) -> Document:
    """Describe what is wrong with a table; a breach makes it unfit for the model."""
    return {"name": name, "column": column, "said": said, "breach": breach}


def _problems(before: Table, after: Table, config: Config) -> list[Document]:
    found = []
    for name in after.absent:
        if name == config.target:
            found.append(_problem("no-labels", name, "the labels have not arrived: no such column"))
        else:
            found.append(_problem("column-missing", name, "the column is missing", True))
    found += [
        _problem("column-added", name, "the column is not in the reference") for name in after.added
    ]
    for which, table in (("reference", before), ("current", after)):
        if table.malformed_rows:
            said = f"{table.malformed_rows} lines of the {which} table have the wrong number of "
            said += f"fields and were left out, such as {table.malformed[0]}"
            found.append(_problem("malformed", "", said))
    for name, column in before.columns.items():
        if name in after.columns:
            found += _column_problems(name, column, after.columns[name])
    return found


def _column_problems(name: str, before: Column, after: Column) -> list[Document]:
    held = after.rows - after.missing
    if held and after.invalid > OTHER_TYPE * held and after.invalid - before.invalid > held / 4:
        shown = ", ".join(map(repr, after.examples[:3]))
        said = f"{after.invalid} of {held} values are no {before.kind} any more, such as {shown}"
        return [_problem("type-changed", name, said, True)]
    found = []
    if after.future:
        latest = datetime.datetime.fromtimestamp(after.latest, datetime.UTC)
        said = f"{after.future} values lie in the future, the last on {latest:%Y-%m-%d}"
        found.append(_problem("future", name, said))
    if before.missing == before.rows:
        found.append(
            _problem("empty-reference", name, "the reference has no values to compare with")
        )
    elif before.kind == "number" and len(np.unique(before.present)) == 1:
        found.append(_problem("constant-reference", name, "the reference has one value only"))
    return found
