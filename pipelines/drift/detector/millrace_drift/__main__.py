"""Detect drift: python -m millrace_drift measure | judge, see --help of each.

The exit status is 0 whenever there is a document to read; what it says is its status.
"""

import argparse
import datetime
import json
import math
import os
import resource
import sys
from pathlib import Path
from typing import Any

from millrace_drift import config
from millrace_drift.judge import entry_of, judge
from millrace_drift.measure import measure


def finite(value: Any) -> Any:
    """Return a document in which what JSON has no form for is null."""
    if isinstance(value, dict):
        return {key: finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(held) for held in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write(path: Path, document: Any) -> None:
    """Write a document as JSON."""
    text = json.dumps(finite(document), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", errors="replace")


def read(path: Path) -> Any:
    """Read a JSON document."""
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit status."""
    parser = argparse.ArgumentParser(prog="millrace_drift", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="measure how a table differs from a reference")
    one.add_argument("--reference", type=Path, required=True)
    one.add_argument("--current", type=Path, required=True)
    other = commands.add_parser("judge", help="judge a measurement in the light of earlier runs")
    other.add_argument("--measurement", type=Path, required=True)
    other.add_argument("--history", type=Path, required=True, help="entries, the oldest first")
    for command in (one, other):
        command.add_argument("--config", type=Path, required=True)
        command.add_argument("--now", type=datetime.datetime.fromisoformat, required=True)
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    said = config.load(read(options.config))
    if options.command == "measure":
        now = options.now.timestamp()
        write(options.out, measure(options.reference, options.current, said, now))
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss >> 10
        print(f"{seconds:.1f} s of processor time, {mib} MiB of memory at most", file=sys.stderr)
        return 0
    result = judge(read(options.measurement), said, read(options.history))
    result["time"] = options.now.isoformat()
    write(options.out, result | {"entry": entry_of(result, result["time"])})
    return 0


if __name__ == "__main__":
    STATUS = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written. An orderly end also ends Arrow's threads, and on a busy machine one of them
    # has been seen to abort the process.
    os._exit(STATUS)  # pylint: disable=protected-access
