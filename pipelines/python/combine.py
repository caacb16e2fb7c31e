"""Join the coverage of shards and report on it: combine.py REPORTS PART..."""

import os
import subprocess
import sys


def coverage(*args):
    """Run coverage.py and end with its exit code if it fails."""
    code = subprocess.run([sys.executable, "-m", "coverage", *args], check=False).returncode
    if code != 0:
        sys.exit(code)


def main():
    """Run as the module's text says."""
    reports, *parts = sys.argv[1:]
    parts = [part for part in parts if os.path.exists(part)]
    if not parts:
        sys.exit("no test measured any coverage")
    config = "--rcfile=" + os.environ["MILLRACE_COVERAGERC"]
    coverage("combine", config, *parts)
    # The threshold is checked by whoever called; a file that can't be parsed is the tests' matter, not the report's.
    coverage("xml", config, "--fail-under=0", "--ignore-errors", "-o", f"{reports}/coverage.xml")
    coverage("json", config, "--fail-under=0", "--ignore-errors", "-o", f"{reports}/coverage.json")
    coverage("html", config, "--fail-under=0", "--ignore-errors", "-d", f"{reports}/coverage.html")


main()
