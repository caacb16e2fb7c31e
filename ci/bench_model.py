"""Run a command and note in /took.txt the seconds that it took, and those of processors: bench.py COMMAND..."""

import os
import resource
import subprocess
import sys
import time

os.makedirs("/training/out", exist_ok=True)
started = time.monotonic()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
seconds = time.monotonic() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("/took.txt", "w", encoding="utf-8") as out:
    out.write(f"{seconds} {used.ru_utime + used.ru_stime}\n")
