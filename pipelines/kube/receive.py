"""Unpacks what comes on standard input into /tmp/bundle, and says so when it is whole."""

import os
import sys
import tarfile

with tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz") as archive:
    archive.extractall("/tmp/bundle.part")
os.rename("/tmp/bundle.part", "/tmp/bundle")
