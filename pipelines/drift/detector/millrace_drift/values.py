"""The values of a column as they come out of a file: what is missing, what is no number."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MISSING = pa.array(["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "#N/A"])
"""Texts that stand for a missing value, as does one of blanks."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(?i:inf|infinity)$"
TIME = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?$"
WHOLE = r"^(-?\d+)\.0+$"
EXAMPLES = 5


@dataclass
class Read:
    """Values of one batch, and what was wrong with them."""

    values: NDArray[Any]
    missing: int
    invalid: int
    examples: list[str]


def texts(array: Any) -> Any:
    """Return an array as texts, null where a value is missing."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or not pa.types.is_string(array.type):
        if not pa.types.is_primitive(array.type) and not pa.types.is_large_string(array.type):
            array = pa.array(
                [None if v is None else str(v) for v in array.to_pylist()], pa.string()
            )
        array = array.cast(pa.string())
    gone = pc.is_in(array, value_set=MISSING)
    array = pc.if_else(gone, pa.scalar(None, pa.string()), array)
    blank = pc.fill_null(pc.utf8_is_space(array), False)
    if pc.any(blank).as_py():
        array = pc.if_else(blank, pa.scalar(None, pa.string()), array)
    return array


def _matching(array: Any, pattern: str) -> tuple[Any, int, list[str]]:
    """Return the texts that match, null in place of the others; how many, and which, those are."""
    array = pc.utf8_trim_whitespace(array)
    fits = pc.fill_null(pc.match_substring_regex(array, pattern), True)
    wrong = array.filter(pc.invert(fits))
    examples = [text[:40] for text in wrong.slice(0, EXAMPLES).to_pylist()]
    return pc.if_else(fits, array, pa.scalar(None, pa.string())), len(wrong), examples


def numbers(array: Any) -> Read:
    """Read numbers. What is missing, infinite or no number is NaN; the last two are invalid."""
    invalid, examples = 0, list[str]()
    if _is_number(array.type):
        found = array.cast(pa.float64(), safe=False)
        nulls = found.null_count
    else:
        array = texts(array)
        nulls = array.null_count
        try:
            found = array.cast(pa.float64())
        except pa.ArrowInvalid:
            array, invalid, examples = _matching(array, NUMBER)
            array = pc.replace_substring_regex(array, pattern=r"^\+", replacement="")
            found = array.cast(pa.float64())
    values = np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)
    infinite = np.isinf(values)
    if infinite.any():
        examples += [str(value) for value in values[infinite][: EXAMPLES - len(examples)]]
        values = np.where(infinite, np.nan, values)
    nan = int(np.isnan(values).sum()) - invalid - int(infinite.sum())
    return Read(values, max(nulls, nan), invalid + int(infinite.sum()), examples)


def times(array: Any) -> Read:
    """Read times, as seconds since 1970 in UTC; NaN where there is none."""
    invalid, examples = 0, list[str]()
    if not pa.types.is_temporal(array.type):
        array, invalid, examples = _matching(texts(array), TIME)
        # Only the day and the time of day are read: an offset makes a day's difference at most.
        array = pc.utf8_slice_codeunits(array, 0, 19)
        array = pc.replace_substring(array, pattern="T", replacement=" ")
        try:
            array = array.cast(pa.timestamp("s"))
        except pa.ArrowInvalid:
            array, invalid, examples = _calendar(array, invalid, examples)
    seconds = array.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    missing = seconds.null_count - invalid
    values = np.asarray(seconds.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return Read(values, missing, invalid, examples)


def _calendar(array: Any, invalid: int, examples: list[str]) -> tuple[Any, int, list[str]]:
    """Read times one by one, where one that looks right is in no calendar."""
    out: list[Any] = []
    for text in array.to_pylist():
        try:
            out.append(None if text is None else pa.scalar(text).cast(pa.timestamp("s")).as_py())
        except pa.ArrowInvalid:
            invalid += 1
            examples = (examples + [text])[:EXAMPLES]
            out.append(None)
    return pa.array(out, pa.timestamp("s")), invalid, examples


def _is_number(kind: Any) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def guess(array: Any, few: int) -> str:
    """Return the kind of a column by its first values: empty, number, category or time.

    Numbers that are whole and have no more different values than few are categories: 0 and 1 are
    mostly names. Up to 5 % of the values may be wrong: they are found later.
    """
    kind = array.type
    if pa.types.is_null(kind) or array.null_count == len(array):
        return "empty"
    if pa.types.is_temporal(kind):
        return "time"
    if not _is_number(kind):
        array = texts(array)
        held = len(array) - array.null_count
        if held and _matching(array, TIME)[1] <= 0.05 * held:
            return "time"
        if not held or _matching(array, NUMBER)[1] > 0.05 * held:
            return "category" if held else "empty"
    found = numbers(array).values
    different = np.unique(found[~np.isnan(found)])
    few_whole = 0 < len(different) <= few and bool((different % 1 == 0).all())
    return "category" if few_whole else "number"
