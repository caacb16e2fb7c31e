"""pytest plugin: keeps the name of the test that runs in a file, for when the process is killed in the middle of it."""

import os

_PATH = os.environ["MILLRACE_RUNNING"]


def pytest_runtest_logstart(nodeid):
    """Note that a test begins."""
    with open(_PATH, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(nodeid)


def pytest_runtest_logfinish(nodeid):  # pylint: disable=unused-argument
    """Note that no test runs."""
    with open(_PATH, "w", encoding="utf-8"):
        pass
