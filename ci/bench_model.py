"""Run a command and note in /took.txt how long that took: bench.py COMMAND..."""

import os
import subprocess
import sys
import time

os.makedirs("/training/out", exist_ok=True)
started = time.monotonic()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.monotonic() - started
with open("/took.txt", "w", encoding="utf-8") as out:
    out.write(f"{seconds}\n")
