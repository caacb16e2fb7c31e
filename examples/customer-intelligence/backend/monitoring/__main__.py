"""Look for drift: python -m backend.monitoring --reference CSV --current CSV --out JSON."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.core import logs
from backend.core.artifacts import digest, rounded, write_json
from backend.monitoring.drift import DriftError, Thresholds, compare, read

LOG = logging.getLogger("monitoring")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    limits = Thresholds()
    arguments = argparse.ArgumentParser(description="Compare a table with a reference.")
    arguments.add_argument("--reference", type=Path, required=True, help="table of the training")
    arguments.add_argument("--current", type=Path, required=True, help="table of today")
    arguments.add_argument("--out", type=Path, required=True, help="report, as JSON")
    arguments.add_argument(
        "--ignore", action="append", default=["customerID"], help="column to leave out, repeatable"
    )
    arguments.add_argument("--psi-warning", type=float, default=limits.psi_warning)
    arguments.add_argument("--psi-critical", type=float, default=limits.psi_critical)
    arguments.add_argument("--p-value", type=float, default=limits.p_value)
    arguments.add_argument(
        "--fail-on", choices=("warning", "critical"), help="exit with 1 at this severity or above"
    )
    arguments.add_argument("--log-level", default="INFO")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report. Return 0; 1 for drift that --fail-on asks for; 3 for unusable tables."""
    options = parser().parse_args(argv)
    logs.configure(options.log_level)
    limits = Thresholds(options.psi_warning, options.psi_critical, options.p_value)
    try:
        report = compare(
            read(options.reference), read(options.current), limits, tuple(options.ignore)
        )
    except DriftError as error:
        LOG.error("%s", error)
        return 3
    report["data_sha256"] = {
        "reference": digest(options.reference),
        "current": digest(options.current),
    }
    write_json(options.out, rounded(report))
    json.dump({"severity": report["severity"], "drifted": report["drifted"]}, sys.stdout)
    sys.stdout.write("\n")
    failing = {"critical": ("critical",), "warning": ("critical", "warning")}
    return 1 if report["severity"] in failing.get(options.fail_on, ()) else 0


if __name__ == "__main__":
    sys.exit(main())
