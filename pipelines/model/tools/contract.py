"""Check tables against their contracts: contract.py SETTINGS FOLDER OUT.

SETTINGS is a JSON file with the tables of the configuration. A table is a CSV file, compressed or not, a Parquet file, or
a folder of such. They are read in parts of 100,000 rows, so that memory does not grow with a table, but for 16 bytes a row
and column that must be unique. Empty text is a null.
"""

import json
import pathlib
import sys
import warnings
import zlib

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet

PART = 100_000
SAMPLES = 5


def numbers(values):
    """Return the values as numbers; what is none becomes NaN."""
    return pd.to_numeric(values, errors="coerce")


def dates(values, form):
    """Return the values as dates; what is none becomes NaT."""
    return pd.to_datetime(values, format=form or "ISO8601", errors="coerce", utc=True)


def checks(column, now):
    """Return the checks of a column, by pandera; nulls are left to its own."""
    kind = column.get("type") or "string"
    made = []
    if kind in ("number", "integer"):
        made.append(pa.Check(lambda s: np.isfinite(numbers(s)), name=f"is {'an integer' if kind == 'integer' else 'a number'}"))
    if kind == "integer":
        made.append(pa.Check(lambda s: ~(numbers(s) % 1 > 0), name="is whole"))
    if kind == "boolean":
        made.append(pa.Check(lambda s: s.str.lower().isin(["true", "false", "0", "1", "yes", "no"]), name="is true or false"))
    if kind == "date":
        form = column.get("format")
        made.append(pa.Check(lambda s: dates(s, form).notna(), name="is a date"))
        made.append(pa.Check(lambda s: ~(dates(s, form) > now), name="is not in the future"))
    low, high = column.get("min"), column.get("max")
    if low is not None:
        made.append(pa.Check(lambda s: ~(numbers(s) < low), name=f"is at least {low:g}"))
    if high is not None:
        made.append(pa.Check(lambda s: ~(numbers(s) > high), name=f"is at most {high:g}"))
    if column.get("values"):
        allowed = column["values"]
        shown = ", ".join(allowed[:6]) + (", …" if len(allowed) > 6 else "")
        made.append(pa.Check(lambda s: s.isin(allowed), name=f"is one of {shown}"))
    if column.get("pattern"):
        made.append(pa.Check(lambda s: s.str.fullmatch(column["pattern"]), name=f"matches {column['pattern']}"))
    return made


class Breaches:
    """What is wrong with a table: offending rows are counted, and some are kept."""

    def __init__(self):
        self.found = {}

    def add(self, column, rule, rows, samples, file=""):
        """Count rows that break a rule; samples are pairs of line and value, in a file of several."""
        entry = self.found.setdefault((column, rule), {"column": column, "rule": rule, "rows": 0, "samples": []})
        entry["rows"] += int(rows)
        room = SAMPLES - len(entry["samples"])
        shown = samples[: max(0, room)]
        entry["samples"] += [{"file": file, "line": int(line), "value": str(value)[:80]} for line, value in shown]

    def list(self):
        """Return them, the most rows first."""
        return sorted(self.found.values(), key=lambda entry: (-entry["rows"], entry["column"], entry["rule"]))


def files(path):
    """Return the files of a table: the path itself, or what lies in the folder, in its order."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name[0] not in "._")


def parquet(path):
    """Read a Parquet file in parts, as text; the index is the number of the row."""
    first = 1
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(PART):
        part = pd.DataFrame({name: texts(batch.column(name)) for name in batch.schema.names}, dtype=str)
        part.index += first
        first += len(part)
        yield part


def texts(array):
    """Return values as text, as a CSV file would have them."""
    if pyarrow.types.is_floating(array.type):
        # NaN is written as such, and an integer without ".0" where nulls have made a float of its column.
        return [None if v is None else str(int(v)) if v == v and v % 1 == 0 else str(v) for v in array.to_pylist()]
    return [None if v is None else str(v) for v in array.to_pylist()]


def delimited(table, path):
    """Read a CSV file in parts, as text; the index is the number of the line."""
    separator = table.get("separator") or ","
    names = [column["name"] for column in table.get("columns") or []]
    plain = separator == "whitespace"
    first = 1 if table.get("no_header") else 2
    for part in pd.read_csv(
        path,
        sep=r"\s+" if plain else separator,
        header=None if table.get("no_header") else 0,
        names=names if table.get("no_header") else None,
        index_col=False,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        chunksize=PART,
        encoding_errors="strict",
    ):
        part.index += first
        yield part


def parts(table, path):
    """Read a table in parts, as text, each with the name of its file, if there are several; empty text is a null."""
    declared = {column["name"] for column in table.get("columns") or []}
    found = files(path)
    for file in found:
        with file.open("rb") as stream:
            packed = stream.read(4) == b"PAR1"
        for part in parquet(file) if packed else delimited(table, file):
            # Of the others nothing is asked.
            for name in declared.intersection(part.columns):
                part[name] = part[name].str.strip().replace("", None)
            yield part, file.name if len(found) > 1 else ""


def check(table, path, now):
    """Check one table; return what it is, and its breaches."""
    breaches = Breaches()
    columns = table.get("columns") or []
    result = {"name": table["name"], "rows": 0, "columns": [], "newest": "", "breaches": []}
    wanted = table.get("sha256")
    if not path.exists():
        breaches.add("", f"there is no file {table['path']} in the data", 0, [])
        return {**result, "breaches": breaches.list()}
    if wanted and wanted != table["digest"]:
        breaches.add("", f"its SHA-256 is {table['digest']}, and not {wanted}", 0, [])
    schema = pa.DataFrameSchema(
        {
            column["name"]: pa.Column(object, checks(column, now), nullable=bool(column.get("nullable")), required=False)
            for column in columns
        }
    )
    unique = {column["name"]: [] for column in columns if column.get("unique")}
    nulls = {column["name"]: 0 for column in columns}
    fresh = table.get("fresh") or {}
    newest = None
    try:
        seen = None
        for part, file in parts(table, path):
            if file != seen:
                seen = file
                result["columns"] = result["columns"] or [str(name) for name in part.columns]
                for column in columns:
                    if column["name"] not in part.columns and not column.get("optional"):
                        breaches.add(column["name"], f"the column is missing{' in ' + file if file else ''}", 0, [])
            result["rows"] += len(part)
            try:
                schema.validate(part.astype(object), lazy=True)
            except pa.errors.SchemaErrors as errors:
                cases = errors.failure_cases
                for (name, rule), rows in cases.groupby(["column", "check"], sort=True):
                    rule = "is not null" if rule == "not_nullable" else rule
                    offending = list(zip(rows["index"], rows["failure_case"].fillna("null")))
                    breaches.add(str(name), str(rule), len(rows), offending, file)
            for name in nulls:
                if name in part.columns:
                    nulls[name] += int(part[name].isna().sum())
            for name, hashes in unique.items():
                if name in part.columns:
                    hashes.append(pd.util.hash_array(part[name].dropna().to_numpy(dtype=object)))
            if fresh.get("column") in part.columns:
                form = next((c.get("format") for c in columns if c["name"] == fresh["column"]), "")
                latest = dates(part[fresh["column"]], form).max()
                if pd.notna(latest):
                    newest = latest if newest is None else max(newest, latest)
    except pd.errors.EmptyDataError:
        pass
    except (pyarrow.ArrowInvalid, OSError, EOFError, ValueError, zlib.error) as error:
        breaches.add("", f"it can't be read: {error}", 0, [])
        return {**result, "breaches": breaches.list()}
    for name, hashes in unique.items():
        if hashes:
            # In place, because there may be many.
            values = np.concatenate(hashes)
            hashes.clear()
            values.sort()
            repeated = int((values[1:] == values[:-1]).sum())
            if repeated:
                breaches.add(name, "is unique", repeated, [])
    rows = table.get("rows") or {}
    least, most = rows.get("min") or 1, rows.get("max") or 0
    if result["rows"] < least:
        breaches.add("", f"it has {result['rows']} rows, and {least} are the least", 0, [])
    if most and result["rows"] > most:
        breaches.add("", f"it has {result['rows']} rows, and {most} are the most", 0, [])
    if fresh and result["rows"]:
        age = (now - newest).total_seconds() if newest is not None else None
        if age is None or age > fresh["seconds"]:
            shown = "has no date" if newest is None else f"is of {newest.date()}"
            breaches.add(fresh["column"], f"the newest row {shown}, and may be {fresh['seconds'] / 3600:g} hours old", 0, [])
    result["newest"] = newest.isoformat() if newest is not None else ""
    result["nulls"] = nulls
    return {**result, "breaches": breaches.list()}


def main():
    """Check all tables."""
    warnings.simplefilter("ignore")
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    now = pd.Timestamp(settings["now"])
    found = [check(table, pathlib.Path(sys.argv[2], table["path"]), now) for table in settings["tables"]]
    pathlib.Path(sys.argv[3]).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
