"""Train all three models: python -m backend.training --data-dir data --out models."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.training import churn, clv, segmentation

TABLES = {
    "churn": "telco-customer-churn.csv",
    "clv": "cdnow-sample.txt",
    "segmentation": "cdnow-sample.txt",
}


def train(name: str, arguments: Sequence[str]) -> int:
    """Train one model; return its exit status."""
    if name == "churn":
        return churn.main(arguments)
    if name == "clv":
        return clv.main(arguments)
    return segmentation.main(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Train each model, also after another one failed; return the worst exit status."""
    arguments = argparse.ArgumentParser(description="Train all models.")
    arguments.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of tables")
    arguments.add_argument("--out", type=Path, default=Path("models"), help="folder for models")
    arguments.add_argument("--seed", type=int, help="seed of all randomness")
    options = arguments.parse_args(argv)
    seed = [] if options.seed is None else ["--seed", str(options.seed)]
    status = 0
    for name, table in TABLES.items():
        where = ["--data", str(options.data_dir / table), "--out", str(options.out / name)]
        status = max(status, train(name, [*where, *seed]))
    return status


if __name__ == "__main__":
    sys.exit(main())
