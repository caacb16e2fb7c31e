"""Score a table: python -m backend.batch churn|clv|segment --input CSV --output CSV."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.batch.score import BatchError, Job, churn_job, clv_job, run, segment_job
from backend.core import logs
from backend.core.artifacts import ModelError

LOG = logging.getLogger("batch")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    arguments = argparse.ArgumentParser(description="Score a CSV table.")
    arguments.add_argument("job", choices=("churn", "clv", "segment"))
    arguments.add_argument("--input", type=Path, required=True, help="table to score")
    arguments.add_argument("--output", type=Path, required=True, help="table of scores")
    arguments.add_argument(
        "--rejects", type=Path, help="table of refused rows (<output>.rejects.csv)"
    )
    arguments.add_argument("--models", type=Path, default=Path("models"), help="folder of models")
    arguments.add_argument("--weeks", type=int, default=52, help="horizon of clv")
    arguments.add_argument("--annual-discount", type=float, default=0.0, help="discount of clv")
    arguments.add_argument("--chunk-rows", type=int, default=50_000, help="rows in memory at once")
    arguments.add_argument(
        "--max-rejected",
        type=float,
        default=0.05,
        help="fraction of refused rows that is a failure",
    )
    arguments.add_argument("--log-level", default="INFO")
    return arguments


def job_of(options: argparse.Namespace) -> Job:
    """Return the job that was asked for, with its model loaded."""
    if options.job == "churn":
        return churn_job(options.models)
    if options.job == "clv":
        return clv_job(options.models, weeks=options.weeks, annual_discount=options.annual_discount)
    return segment_job(options.models)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Return 0 if scored, 1 if the table or model is unusable or too many rows were refused; in
    the last case both tables are written all the same.
    """
    options = parser().parse_args(argv)
    logs.configure(options.log_level)
    rejects = options.rejects or options.output.with_suffix(".rejects.csv")
    try:
        outcome = run(
            job_of(options), options.input, options.output, rejects, chunk_rows=options.chunk_rows
        )
    except (BatchError, ModelError) as error:
        LOG.error("%s", error)
        return 1
    json.dump({"scored": outcome.scored, "rejected": outcome.rejected}, sys.stdout)
    sys.stdout.write("\n")
    fraction = outcome.rejected / (outcome.scored + outcome.rejected)
    if fraction > options.max_rejected:
        LOG.error(
            "%d rows (%.1f %%) were refused, see %s", outcome.rejected, 100 * fraction, rejects
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
