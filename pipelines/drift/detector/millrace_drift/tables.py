"""Read a table in one pass and bounded memory: exact counts, and a sample of its rows."""

import contextlib
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from millrace_drift import values
from millrace_drift.sample import Sampler

SAMPLE = 200_000
"""Rows that statistics are computed on, at most; see kolmogorov_error."""
HEAD = 50_000
"""Rows by which a column's kind is told."""
FEW = 10
"""Different whole numbers up to which a column of numbers holds categories."""
CATEGORIES = 1_000
"""Different texts from which on a column holds texts, and only their lengths are compared."""
BLOCK = 8 << 20
REST = "(other values)"
GLUED = ("csv", "tsv", "txt", "parquet", "pq", "gz")


class Unusable(Exception):
    """The table cannot be compared; the message says why, and what to do."""


def kolmogorov_error(rows: int, sampled: int) -> float:
    """Return how far a sample's distribution function lies from the table's, at most, with 99 %.

    The bound of Dvoretzky, Kiefer and Wolfowitz; 0 when the sample is the table.
    """
    return 0.0 if sampled >= rows else float(np.sqrt(np.log(2 / 0.01) / (2 * sampled)))


@dataclass
class Column:
    """What is known of one column of one table.

    values are numbers, seconds since 1970, lengths of texts, or the places of the value in
    categories; NaN stands for what is missing or invalid. They are a sample's, the rest is exact.
    """

    kind: str
    values: NDArray[np.float64]
    rows: int
    missing: int = 0
    invalid: int = 0
    examples: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    latest: float = float("-inf")
    future: int = 0

    @property
    def present(self) -> NDArray[np.float64]:
        """The values that are there."""
        return self.values[~np.isnan(self.values)]


@dataclass
class Table:
    """What is known of a table."""

    columns: dict[str, Column]
    rows: int
    sampled: int
    digest: str
    malformed: list[str] = field(default_factory=list)
    malformed_rows: int = 0
    added: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """How a table is to be read: kinds by column where they are known, columns to leave out."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    sample: int = SAMPLE
    now: float = float("inf")
    categories: Mapping[str, list[str]] = field(default_factory=dict)


def files(path: Path) -> list[Path]:
    """Return the files of a table: the path itself, or the tables in a folder, in their order."""
    if not path.is_dir():
        return [path]
    everything = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] not in "._")
    # The only file there is the table, whatever it is called.
    found = [p for p in everything if p.suffix[1:] in GLUED or len(everything) == 1]
    if not found:
        raise Unusable("the folder has no table: put .csv or .parquet files into it")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a table's files, which is its version."""
    found = files(path)
    whole = hashlib.sha256()
    for file in found:
        with file.open("rb") as stream:
            one = hashlib.file_digest(stream, "sha256")
        if len(found) == 1:
            return one.hexdigest()
        whole.update(f"{file.relative_to(path)}\0{one.hexdigest()}\n".encode())
    return whole.hexdigest()


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what the reader says of a broken file into our own words."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        said = str(error).split("\n", maxsplit=1)[0]
        # There is a header and nothing below it, which is for the caller to judge.
        if not said.startswith("Empty CSV"):
            raise Unusable(f"{file.name} cannot be read: {said}") from error


class _Source:
    """A table's files as batches of Arrow, all with the same columns."""

    def __init__(self, path: Path, ignore: frozenset[str]) -> None:
        self.ignore = ignore
        self.malformed: list[str] = []
        self.malformed_rows = 0
        self._files = files(path)
        self.names: list[str] = []
        for file in self._files:
            with _readable(file):
                names = self._names(file)
            if twice := [name for name, n in Counter(names).items() if n > 1]:
                raise Unusable(f"{file.name} has two columns of the name {twice[0]!r}: rename one")
            if self.names and sorted(names) != sorted(self.names):
                odd = sorted(set(names) ^ set(self.names))
                raise Unusable(f"{file.name} has not the columns of the other files: {odd[:5]}")
            self.names = self.names or names

    @staticmethod
    def _parquet(file: Path) -> bool:
        with file.open("rb") as stream:
            return stream.read(4) == b"PAR1"

    def _names(self, file: Path) -> list[str]:
        if file.stat().st_size == 0:
            raise Unusable(f"{file.name} is empty: it has not even a line with the columns' names")
        if self._parquet(file):
            return [str(name) for name in pyarrow.parquet.ParquetFile(file).schema_arrow.names]
        line, delimiter = self._header(file)
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]

    @staticmethod
    def _header(file: Path) -> tuple[str, str]:
        """Return the first line, and what stands between the fields."""
        with pa.input_stream(str(file), compression="detect") as stream:
            raw = stream.read(1 << 20)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if error.end < len(raw) - 4:
                raise Unusable(
                    f"{file.name} is no UTF-8 text, from byte {error.start} on"
                ) from None
            text = raw[: error.start].decode("utf-8-sig")
        if "\0" in text:
            raise Unusable(f"{file.name} is neither a CSV nor a Parquet file")
        line = io.StringIO(text).readline().rstrip("\r\n")
        if not line.strip():
            raise Unusable(
                f"{file.name} begins with an empty line: the columns' names belong there"
            )
        return line, max(",;\t|", key=line.count)

    def batches(self) -> Iterator[Any]:
        """Give the rows, a few megabytes at a time."""
        for file in self._files:
            with _readable(file):
                yield from self._parquet_batches(file) if self._parquet(file) else self._csv(file)

    def _parquet_batches(self, file: Path) -> Iterator[Any]:
        wanted = [name for name in self.names if name not in self.ignore]
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(32_768, columns=wanted)

    def _csv(self, file: Path) -> Iterator[Any]:
        names, delimiter = self._names(file), self._header(file)[1]

        def skip(row: Any) -> str:
            self.malformed_rows += 1
            if len(self.malformed) < 3:
                said = f"{row.actual_columns} fields and not {row.expected_columns}"
                self.malformed.append(f"{said}: {(row.text or '')[:80]}")
            return "skip"

        with pyarrow.csv.open_csv(
            pa.input_stream(str(file), compression="detect"),
            read_options=pyarrow.csv.ReadOptions(
                block_size=BLOCK, column_names=names, skip_rows=1, use_threads=True
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=False, invalid_row_handler=skip
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=[name for name in names if name not in self.ignore],
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader


class _Columns:
    """Gathers one column while the batches go by."""

    def __init__(self, kind: str, reading: Reading, known: list[str] | None) -> None:
        self.kind = kind
        self.now = reading.now
        self.missing = self.invalid = self.future = 0
        self.latest = float("-inf")
        self.examples: list[str] = []
        self.codes: dict[str, int] = {name: i for i, name in enumerate(known or [])}
        self.counts: Counter[int] = Counter()
        self.many = False
        # A column of the reference turns out to hold texts; one that is compared with it follows.
        self.settled = bool(reading.kinds)
        self.whole = bool(known) and all(name.lstrip("-").isdigit() for name in known or [])

    def read(self, array: Any) -> dict[str, NDArray[Any]]:
        """Return a batch's values: under "" what the kind asks for, and lengths for categories."""
        if self.kind in ("number", "time"):
            got = values.numbers(array) if self.kind == "number" else values.times(array)
            self.missing += got.missing
            self.invalid += got.invalid
            self.examples = (self.examples + got.examples)[: values.EXAMPLES]
            if self.kind == "time" and not np.isnan(got.values).all():
                self.latest = max(self.latest, float(np.nanmax(got.values)))
                self.future += int((got.values > self.now).sum())
            return {"": got.values}
        if pa.types.is_floating(array.type):
            found = values.numbers(array).values
            plain = bool((found[~np.isnan(found)] % 1 == 0).all())
            array = pa.array(found, from_pandas=True)
            array = array.cast(pa.int64()) if plain else array
        text = values.texts(array)
        if self.whole:
            text = pc.replace_substring_regex(text, pattern=values.WHOLE, replacement=r"\1")
        self.missing += text.null_count
        lengths = pc.utf8_length(text).cast(pa.float64()).to_numpy(zero_copy_only=False)
        return {"": self._encode(text), "length": np.asarray(lengths, dtype=np.float64)}

    def _encode(self, text: Any) -> NDArray[np.float64]:
        encoded = text.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        table = np.empty(len(names) + 1)
        table[-1] = np.nan
        for i, name in enumerate(names):
            code = self.codes.get(name)
            if code is None:
                self.many = self.many or len(self.codes) >= CATEGORIES
                name = REST if self.many else name
                code = self.codes.setdefault(name, len(self.codes))
            table[i] = code
        at = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        codes = table[at]
        for code, count in zip(*np.unique(codes[~np.isnan(codes)], return_counts=True)):
            self.counts[int(code)] += int(count)
        return codes

    def column(self, sampled: dict[str, NDArray[Any]], name: str, rows: int) -> Column:
        """Return what was gathered."""
        kind, picked = self.kind, sampled.get(name, np.zeros(0))
        if kind == "category" and self.many and not self.settled:
            kind = "text"
        if kind == "text":
            picked = sampled.get(name + "\0length", np.zeros(0))
        categories = list(self.codes) if kind == "category" else []
        return Column(
            kind,
            np.asarray(picked, dtype=np.float64),
            rows,
            self.missing,
            self.invalid,
            self.examples,
            categories,
            np.array([self.counts[i] for i in range(len(categories))], dtype=np.float64),
            self.latest,
            self.future,
        )


def read(path: Path, reading: Reading) -> Table:
    """Read the table at a path: a CSV file, compressed or not, a Parquet file, or a folder of such.

    With kinds given, they are the reference's: the columns must be of these, and others are added.
    """
    source = _Source(path, reading.ignore)
    present = [name for name in source.names if name not in reading.ignore]
    wanted = [name for name in present if not reading.kinds or name in reading.kinds]
    batches = source.batches()
    head: list[Any] = []
    while sum(batch.num_rows for batch in head) < HEAD:
        batch = next(batches, None)
        if batch is None:
            break
        head.append(batch)
    columns = {}
    for name in wanted:
        kind = reading.kinds.get(name) or _kind(head, name)
        columns[name] = _Columns(kind, reading, reading.categories.get(name))
        if kind == "category" and not columns[name].codes:
            columns[name].whole = _whole(head, name)
    sampler = Sampler(reading.sample)
    for batch in _chain(head, batches):
        chosen = sampler.choose(batch.num_rows)
        part: dict[str, NDArray[np.float64]] = {}
        for name, column in columns.items():
            for extra, got in column.read(batch.column(name)).items():
                part[name if not extra else f"{name}\0{extra}"] = got[chosen]
        sampler.add(part)
    sampled = sampler.columns()
    return Table(
        {name: column.column(sampled, name, sampler.seen) for name, column in columns.items()},
        sampler.seen,
        min(sampler.seen, reading.sample),
        digest(path),
        source.malformed,
        source.malformed_rows,
        sorted(set(present) - set(wanted)),
        sorted(set(reading.kinds) - set(present)),
    )


def _chain(head: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    while head:
        yield head.pop(0)
    yield from rest


def _joined(head: list[Any], name: str) -> Any:
    if not head:
        return pa.array([], pa.string())
    return pa.chunked_array([batch.column(name) for batch in head]).combine_chunks()


def _kind(head: list[Any], name: str) -> str:
    kind = values.guess(_joined(head, name), FEW)
    return "category" if kind == "empty" else kind


def _whole(head: list[Any], name: str) -> bool:
    """Report whether the categories of a column are whole numbers, so that 1.0 is 1."""
    text = values.texts(_joined(head, name)).unique().drop_null().to_pylist()
    return bool(text) and all(t.removesuffix(".0").lstrip("-").isdigit() for t in text)
