"""Copy safety-db's files to a folder, and write the date of its newest data beside them: database.py FOLDER

The package itself cannot be imported: it looks for its files in the working directory.
"""

import datetime
import importlib.metadata
import json
import pathlib
import sys

FOLDER = pathlib.Path(sys.argv[1])
FOLDER.mkdir(parents=True)
for file in importlib.metadata.files("safety-db"):
    if file.suffix == ".json":
        (FOLDER / file.name).write_bytes(file.locate().read_bytes())
meta = json.loads((FOLDER / "insecure_full.json").read_text(encoding="utf-8"))["$meta"]
date = datetime.datetime.fromtimestamp(meta["timestamp"], datetime.timezone.utc).date()
(FOLDER / "date.txt").write_text(f"{date}\n", encoding="utf-8")
