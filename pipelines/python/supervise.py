"""Run a command whose exit code the engine may not accept: supervise.py NOTE COMMAND...

The engine takes only the exit codes 0 to 128 for a result, and throws away all that a command which ended otherwise has
left behind. The code of such a command, and the time, go to the file NOTE; the exit code is then 128.
"""

import pathlib
import subprocess
import sys
import time

note, *command = sys.argv[1:]
code = subprocess.run(command, check=False).returncode
if 0 <= code < 128:
    sys.exit(code)
pathlib.Path(note).write_text(f"{code} {time.time():.0f}\n", encoding="ascii")
sys.exit(128)
