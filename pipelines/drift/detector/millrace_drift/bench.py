"""How often is an alert raised? python -m millrace_drift.bench [--runs N]

Each run is a day: a current table against a reference, both of n rows and 30 columns: 12 normal, 4
log-normal, 4 of counts, 4 uniform with 2 % missing, and 6 of 2 to 20 categories in the proportions
1, 1/2, 1/3 and so on. On clean days both come from the same distribution; on the others, the first
normal column has moved by half its standard deviation.

Clean days come in series of ten against one reference, with the history of the days before, so that
a reference that is odd by chance is odd for ten days, as it would be in practice. A shift begins
after two clean days; five such days, each with the next, are drawn for each reference. Beside ours
stand the usual fixed thresholds on the same tables: PSI of at least 0.1 in any column (deciles, an
empty bin counts as 0.0001), and a p-value below 0.05 in any column (KS, chi-squared).
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace_drift import statistics
from millrace_drift.compare import compare_columns
from millrace_drift.config import Config
from millrace_drift.judge import entry_of, judge
from millrace_drift.tables import Column

SIZES = (100, 200, 500, 1_000, 5_000)
DAYS = 10
BRANCHES = 5
SHIFT = 0.5
CATEGORIES = (2, 3, 5, 8, 12, 20)
EMPTY = 1e-4

Document = dict[str, Any]


def table(random: np.random.Generator, n: int, shift: float) -> dict[str, Column]:
    """Draw a table of 30 columns."""
    columns = {}
    for i in range(12):
        values = random.normal(size=n) + (shift if i == 0 else 0)
        columns[f"normal {i}"] = Column("number", values, n)
    for i in range(4):
        columns[f"log-normal {i}"] = Column("number", random.lognormal(size=n), n)
        columns[f"count {i}"] = Column("number", random.poisson(4, n).astype(float), n)
        values = random.random(n)
        values[random.random(n) < 0.02] = np.nan
        columns[f"uniform {i}"] = Column("number", values, n, missing=int(np.isnan(values).sum()))
    for size in CATEGORIES:
        weights = 1 / np.arange(1, size + 1)
        codes = random.choice(size, size=n, p=weights / weights.sum())
        counts = np.bincount(codes, minlength=size).astype(float)
        seen = np.flatnonzero(counts)
        columns[f"{size} categories"] = Column(
            "category",
            codes.astype(float),
            n,
            categories=[f"name {i}" for i in seen],
            counts=counts[seen],
        )
    return columns


def measurement(
    before: dict[str, Column], after: dict[str, Column], digests: tuple[str, str]
) -> Document:
    """Compare two tables as measure does."""
    return {
        "status": "measured",
        "tables": {"reference": {"sha256": digests[0]}, "current": {"sha256": digests[1]}},
        "problems": [],
        "performance": None,
        "columns": [
            {"name": name, "role": "feature"} | compare_columns(column, after[name], reading=False)
            for name, column in before.items()
        ],
    }


def fixed_psi(before: dict[str, Column], after: dict[str, Column]) -> bool:
    """Report whether any column has a PSI of 0.1 or more, computed as is usual."""
    for name, column in before.items():
        other = after[name]
        if column.kind == "number":
            edges = statistics.quantile_edges(np.sort(column.present))
            counts = [statistics.bin_counts(edges, c.present) for c in (column, other)]
        else:
            names = sorted(set(column.categories) | set(other.categories))
            held = [dict(zip(c.categories, c.counts)) for c in (column, other)]
            counts = [np.array([one.get(k, 0.0) for k in names]) for one in held]
        shares = [np.maximum(c / c.sum(), EMPTY) for c in counts]
        if statistics.psi(*shares) >= 0.1:
            return True
    return False


@dataclass
class Day:
    """What was said on one day."""

    alert: bool
    psi: bool
    p: bool
    entry: Document


class Series:
    """Days against one reference."""

    def __init__(self, seed: int, n: int) -> None:
        self.random = np.random.default_rng([seed, n])
        self.n = n
        self.before = table(self.random, n, 0.0)
        self.count = 0

    def day(self, history: list[Document], shift: float) -> Day:
        """Draw a day and judge it in the light of those before."""
        after = table(self.random, self.n, shift)
        self.count += 1
        document = measurement(self.before, after, ("reference", str(self.count)))
        result = judge(document, Config(), history)
        p_values = [
            one["p"]
            for column in result["columns"]
            for one in column["tests"]
            if one["name"] == "distribution"
        ]
        return Day(
            result["severity"] != "ok",
            fixed_psi(self.before, after),
            min(p_values) < 0.05,
            entry_of(result, str(self.count)),
        )


def clean(n: int, runs: int) -> list[float]:
    """Return the shares of clean days with an alert: ours, by fixed PSI, by fixed p-value."""
    days: list[Day] = []
    for seed in range(-(-runs // DAYS)):
        series = Series(seed, n)
        history: list[Document] = []
        for _ in range(DAYS):
            days.append(series.day(history, 0.0))
            history.append(days[-1].entry)
    return [np.mean([getattr(day, of) for day in days]) for of in ("alert", "psi", "p")]


def shifted(n: int, runs: int) -> list[float]:
    """Return the same for the first day of a shift, and last ours for the first two days."""
    found = []
    for seed in range(-(-runs // BRANCHES)):
        series = Series(seed, n)
        history: list[Document] = []
        for _ in range(2):  # as many as the next two can look back on
            history.append(series.day(history, 0.0).entry)
        for _ in range(BRANCHES):
            first = series.day(history, SHIFT)
            second = first.alert or series.day([*history, first.entry], SHIFT).alert
            found.append((first.alert, first.psi, first.p, second))
    return [float(share) for share in np.mean(np.array(found, dtype=np.float64), axis=0)]


def main() -> int:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=1_000, help="days a cell (default: 1000)")
    options = parser.parse_args()
    print("| tables | rows | millrace, that day | by the second day | PSI >= 0.1 | p < 0.05 |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for n in SIZES:
        ours, psi, p = clean(n, options.runs)
        print(f"| clean | {n:,} | {ours:.1%} | | {psi:.1%} | {p:.1%} |", flush=True)
    for n in SIZES:
        ours, psi, p, second = shifted(n, options.runs)
        name = "half a standard deviation in one column"
        print(f"| {name} | {n:,} | {ours:.1%} | {second:.1%} | {psi:.1%} | {p:.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
