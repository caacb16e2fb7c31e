"""Name what tables hold: digest.py SETTINGS FOLDER writes the SHA-256 and size of each, as JSON, to standard output."""

import hashlib
import json
import pathlib
import sys

settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
found = []
for table in settings:
    path = pathlib.Path(sys.argv[2], table["path"])
    entry = {"name": table["name"], "path": table["path"], "sha256": "", "bytes": 0}
    if path.is_file():
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        entry.update(sha256=digest.hexdigest(), bytes=path.stat().st_size)
    found.append(entry)
json.dump(found, sys.stdout)
