"""Name what a file system holds: rootfs.py FOLDER writes its SHA-256 to standard output.

Names, types, permissions, owners, link targets and contents count; times do not.
"""

import hashlib
import os
import stat
import sys

root = sys.argv[1]
whole = hashlib.sha256()
for folder, folders, files in os.walk(root):
    folders.sort()
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        info = os.lstat(path)
        entry = [os.path.relpath(path, root), f"{info.st_mode:o}", f"{info.st_uid}:{info.st_gid}"]
        if stat.S_ISLNK(info.st_mode):
            entry.append(os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                entry.append(hashlib.file_digest(file, "sha256").hexdigest())
        whole.update(os.fsencode("\0".join(entry)) + b"\n")
print(f"sha256:{whole.hexdigest()}")
