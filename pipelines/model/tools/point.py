"""Do one step of a training in a pod: point.py fetch|train|put.

It runs in the model's own image, so it needs nothing but Python. The file plan.json beside it says which tables to fetch
from where, and for each point of the grid what to run and where to put what came of it. Which point this pod is for,
Kubernetes says. The addresses are signed and let whoever has them read or write: they are never printed.
"""

import hashlib
import http.client
import json
import os
import pathlib
import sys
import tarfile
import time
import urllib.error
import urllib.request

PART = 1 << 20
TRIES = 6
TIMEOUT = 60
DATA, WORK = pathlib.Path("/data"), pathlib.Path("/training")
# Of the folder, what belongs to the outcome.
RESULTS = ("out", "log.txt", "result.json")


def ask(method, url, headers=None, body=None):
    """Send a request and return the open answer; what may pass is tried again by who calls it."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        said = error.read(300).decode("utf-8", "replace")
        if error.code < 500 and error.code not in (408, 429):
            raise SystemExit(f"the store refuses it with status {error.code}: {said}") from None
        raise OSError(f"the store answers with status {error.code}: {said}") from None


def persistently(what, work):
    """Do some work over a network, again if it breaks off."""
    for tries in range(1, TRIES + 1):
        try:
            return work()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if tries == TRIES:
                raise SystemExit(f"{what} failed {tries} times: the store can't be reached from this pod: {reason}") from None
            print(f"{what}: {reason}: trying again", flush=True)
            time.sleep(min(0.5 * 2**tries, 10))
    return None


def download(table, target):
    """Write a table to a file; return its digest."""
    digest = hashlib.sha256()
    with ask("GET", table["url"]) as answer, target.open("wb") as file:
        while part := answer.read(PART):
            file.write(part)
            digest.update(part)
        # A connection that is closed early is no error to the library where it reads in parts.
        if answer.length:
            raise OSError(f"it broke off {answer.length} bytes before its end")
    return digest.hexdigest()


def fetch(plan, _):
    """Get the tables, and see that each is what it was."""
    for table in plan["tables"]:
        target = DATA / table["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        got = persistently(f"fetch {table['path']}", lambda table=table, target=target: download(table, target))
        if got != table["sha256"]:
            raise SystemExit(f"{table['path']} in the store has the SHA-256 {got}, and not {table['sha256']}: remove it there")
        print(f"fetched {table['path']}: {target.stat().st_size} bytes", flush=True)


def train(plan, point):
    """Become the supervisor of the training."""
    settings = pathlib.Path("/tmp/settings.json")
    settings.write_text(json.dumps(plan["settings"]), encoding="utf-8")
    argv = ["python3", "/millrace/supervise.py", str(settings), *point["command"]]
    os.execvp(argv[0], argv)


def upload(url, headers, path):
    """Send a file."""
    with path.open("rb") as body:
        size = str(path.stat().st_size)
        with ask("PUT", url, {**headers, "Content-Length": size, "Content-Type": "application/octet-stream"}, body) as answer:
            answer.read()


def put(plan, point):
    """Put what came of the training into the store; its digest comes last and says that it is whole."""
    archive, sum_file = pathlib.Path("/tmp/outputs.tar"), pathlib.Path("/tmp/outputs.tar.sha256")
    # Links become what they point to.
    with tarfile.open(archive, "w", dereference=True) as tar:
        for name in RESULTS:
            if (WORK / name).exists():
                tar.add(WORK / name, arcname=name)
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while part := file.read(PART):
            digest.update(part)
    sum_file.write_text(f"{digest.hexdigest()}  outputs.tar\n", encoding="ascii")
    for url, path in ((point["archive"], archive), (point["digest"], sum_file)):
        persistently(f"put {path.name}", lambda url=url, path=path: upload(url, plan["headers"], path))
    print(f"put the outputs: {archive.stat().st_size} bytes", flush=True)


def main():
    """Do the step."""
    plan = json.loads(pathlib.Path("/millrace/plan.json").read_text(encoding="utf-8"))
    point = plan["points"][int(os.environ.get("JOB_COMPLETION_INDEX", "0"))]
    {"fetch": fetch, "train": train, "put": put}[sys.argv[1]](plan, point)


main()
