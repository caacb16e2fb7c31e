"""Files that a training writes and the services read.

Models are JSON, not pickles: they load without running code, survive a change of library
version, and differ in a review. A model directory looks like this:

    models/
      churn/model.json
      clv/model.json
      segmentation/model.json, assignments.json
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

MODEL_FILE = "model.json"


class ModelError(Exception):
    """A model is missing or unusable; the message says which file and why."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files for their owner alone; an artifact is read by other users.
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON: sorted keys, so that equal values give equal bytes.

    NaN and infinities raise ValueError: they are no JSON, and a metric that is one of them
    means that the training went wrong.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def rounded(value: Any, digits: int = 6) -> Any:
    """Round every float in nested lists and dicts.

    The last bits of a sum depend on how the linear algebra library splits its work; without
    them the same data gives the same bytes on every machine.
    """
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    return value


def read_model(directory: Path, schema: str) -> dict[str, Any]:
    """Read `model.json` below a directory and check that it has the expected schema."""
    path = directory / MODEL_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist: train the model or set MODEL_DIR") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise ModelError(f"{path} has schema {found!r}, expected {schema!r}")
    return dict(document)
