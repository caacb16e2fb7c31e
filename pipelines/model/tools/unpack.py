"""Unpack what a training in a pod has left: unpack.py ARCHIVE FOLDER."""

import pathlib
import sys
import tarfile

# tarfile's own filter for archives that nobody can vouch for is missing in the first releases of Python 3.11.
with tarfile.open(sys.argv[1]) as archive:
    for member in archive:
        path = pathlib.PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise SystemExit(f"{member.name} does not belong into an archive of outputs")
        archive.extract(member, sys.argv[2])
