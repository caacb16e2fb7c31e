"""Name all that belongs to a version of a model: manifest.py SETTINGS FOLDER.

It adds manifest.json to the folder, with the SHA-256 of every file and the settings. The SHA-256 of manifest.json, which
goes to standard output with those of all files, is the version.
"""

import hashlib
import json
import pathlib
import sys

settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
root = pathlib.Path(sys.argv[2])


def digest(path):
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


files = {str(path.relative_to(root)): digest(path) for path in sorted(root.rglob("*")) if path.is_file()}
sizes = {name: (root / name).stat().st_size for name in files}
manifest = root / "manifest.json"
document = {**settings, "files": {name: {"sha256": files[name], "bytes": sizes[name]} for name in files}}
manifest.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
json.dump({**files, "manifest.json": digest(manifest)}, sys.stdout)
