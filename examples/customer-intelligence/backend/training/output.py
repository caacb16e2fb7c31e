"""What every training writes, and how it is called."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from backend.core import logs
from backend.core.artifacts import MODEL_FILE, digest, rounded, write_json, write_text
from backend.core.tables import TableError
from backend.core.version import VERSION

LOG = logging.getLogger("training")
METRICS_FILE = "metrics.json"
HOLDOUT_FILE = "holdout.csv"
# Arguments that say where, not what.
NO_PARAMETERS = ("data", "out", "log_level")
LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn")


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    `files` are further texts by file name; `holdout` holds the rows that the model is judged on
    with what it says of them, so that two models can be compared by resampling.
    """

    document: dict[str, Any]
    metrics: dict[str, Any]
    holdout: pd.DataFrame
    files: dict[str, str] = field(default_factory=dict)


class TrainingError(Exception):
    """The data does not allow a model, or the optimiser found none."""


def write(options: argparse.Namespace, trained: Trained) -> None:
    """Write model.json, metrics.json, holdout.csv and the further files.

    Nothing in them depends on the time, the host or a path, so that the same data, code and
    libraries give the same bytes.
    """
    out: Path = options.out
    provenance = {
        "code_version": VERSION,
        "data_sha256": digest(options.data),
        "libraries": {name: version(name) for name in LIBRARIES},
        "parameters": {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in vars(options).items()
            if name not in NO_PARAMETERS
        },
    }
    for name, text in trained.files.items():
        write_text(out / name, text)
    write_text(out / HOLDOUT_FILE, trained.holdout.to_csv(index=False, lineterminator="\n"))
    model = {**rounded(trained.document, 8), "provenance": provenance}
    write_json(out / METRICS_FILE, {"metrics": rounded(trained.metrics), "provenance": provenance})
    # The model comes last: where it exists, its metrics do too.
    write_json(out / MODEL_FILE, model)


def parser(description: str, data: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all trainings share."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--data", type=Path, default=Path(data), help=f"table ({data})")
    arguments.add_argument("--out", type=Path, required=True, help="folder for model and metrics")
    arguments.add_argument("--seed", type=int, default=20240501, help="seed of all randomness")
    arguments.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    return arguments


def run(
    arguments: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    train: Callable[[argparse.Namespace], Trained],
) -> int:
    """Parse, train and write; print the metrics on stdout. Return the exit status.

    0 is trained, 1 means that the data gives no usable model, 2 (by argparse) a wrong call.
    """
    options = arguments.parse_args(argv)
    logs.configure(options.log_level)
    try:
        # One thread: a sum's last bits depend on how many share it, and these tables are so small
        # that threads mostly wait for each other.
        with threadpool_limits(1):
            trained = train(options)
        write(options, trained)
    except (TableError, TrainingError) as error:
        LOG.error("%s", error)
        return 1
    LOG.info("written", extra={"fields": {"out": str(options.out)}})
    json.dump(rounded(trained.metrics), sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")
    return 0
