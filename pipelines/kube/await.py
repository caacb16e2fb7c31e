"""Waits for the bundle, and becomes pytest in it."""

import os
import sys
import time

while not os.path.isdir("/tmp/bundle"):
    time.sleep(0.1)
os.chdir("/tmp/bundle/source")
os.environ["PYTHONPATH"] = "/tmp/bundle/packages:/tmp/bundle/source"
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
os.execv(sys.executable, [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *sys.argv[1:]])
