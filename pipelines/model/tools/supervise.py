"""Train within limits: supervise.py SETTINGS COMMAND...

It runs in the model's own image, so it needs nothing but Python. SETTINGS is a JSON file. The command is bound to as many
processors as it may use: to any, as others train at the same time, and to idle ones when it has to share its own. Ten times
a second the memory of all its processes is added up; beyond the limit, or the time, they are ended. What it prints is
passed on, and kept in a file. What came of it is written to the file "result" of the settings; the exit code is then 0,
also when training failed. A training that ran out of time or memory, which may not happen again, ends with the exit code
200 and says so on the last line of standard error: the engine remembers no such run.
"""

import importlib.metadata
import json
import math
import os
import pathlib
import platform
import random
import resource
import signal
import subprocess
import sys
import threading
import time

TAIL = 20


def family(root):
    """Return the process root and all that it has started, directly or not."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    members = {root}
    grown = True
    while grown:
        new = {child for child, parent in parents.items() if parent in members} - members
        grown = bool(new)
        members |= new
    return members


def memory(root):
    """Return the bytes of memory that a process and its children hold, shared ones counted by each."""
    total = 0
    for member in family(root):
        try:
            total += int(pathlib.Path("/proc", str(member), "statm").read_text(encoding="ascii").split()[1])
        except OSError:
            continue
    return total * resource.getpagesize()


def used(root):
    """Return the seconds of processor that a process and its children have used."""
    ticks = 0
    for member in family(root):
        try:
            stat = pathlib.Path("/proc", str(member), "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        ticks += sum(int(field) for field in stat.rpartition(")")[2].split()[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def idle():
    """Return the seconds that each processor has had nothing to do."""
    lines = pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()
    fields = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return {int(f[0][3:]): (int(f[4]) + int(f[5])) / os.sysconf("SC_CLK_TCK") for f in fields}


class Place:
    """The processors that a process and its children are bound to."""

    def __init__(self, count):
        """Choose some by chance: trainings that start at once would all take the first ones."""
        self.all = sorted(os.sched_getaffinity(0))
        self.own = random.sample(self.all, min(count, len(self.all)))
        os.sched_setaffinity(0, self.own)
        self.before = None

    def look(self, root):
        """Move to processors with nothing to do, if there are, when others work on the own ones."""
        if len(self.own) == len(self.all):
            return
        then, self.before = self.before, (time.monotonic(), used(root), idle())
        if then is None:
            return
        passed = max(self.before[0] - then[0], 1e-3)
        share = {n: (seconds - then[2].get(n, seconds)) / passed for n, seconds in self.before[2].items()}
        shared = sum(1 - share.get(n, 0) for n in self.own) - (self.before[1] - then[1]) / passed
        free = sorted((n for n in self.all if n not in self.own and share.get(n, 0) > 0.5), key=share.get)[-len(self.own) :]
        if shared < 0.3 or not free:
            return
        self.own = free + random.sample(self.own, len(self.own) - len(free))
        for member in family(root):
            try:
                for thread in os.listdir(f"/proc/{member}/task"):
                    os.sched_setaffinity(int(thread), self.own)
            except OSError:
                continue  # it has ended


def watch(process, settings, place):
    """Wait for the end of the process; return why it was ended, or nothing, and the most memory that it held."""
    limit, peak = settings["memory_mib"] << 20, 0
    ends = time.monotonic() + settings["seconds"]
    look = time.monotonic()
    while process.poll() is None:
        if time.monotonic() > look:
            place.look(process.pid)
            # Not all at the same time, or they would all move to the same place.
            look = time.monotonic() + random.uniform(0.5, 1.5)
        held = memory(process.pid)
        peak = max(peak, held)
        reason = ""
        if held > limit:
            reason = f"out of memory: it held {held >> 20} MiB, and {settings['memory_mib']} MiB are the limit (memory_mib)"
        elif time.monotonic() > ends:
            reason = f"timed out after {settings['seconds']:g} s (timeout)"
        if reason:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return reason, peak
        time.sleep(0.1)
    return "", peak


def unusable(value, where):
    """Return the path and the text of the first number that is none, or nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} is {value}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found = unusable(inner, f"{where}.{key}" if where else str(key))
        if found:
            return found
    return ""


def check(settings):
    """Return what is wrong with the metrics, or nothing."""
    path = pathlib.Path(settings["out"], settings["metrics"])
    if not path.is_file():
        return f"it wrote no metrics: {settings['metrics']} is not among its outputs"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"its metrics can't be read: {settings['metrics']}: {error}"
    if not isinstance(document, dict) or not document:
        return f"its metrics can't be read: {settings['metrics']} must hold names and numbers"
    found = unusable(document.get("metrics", document), "")
    return f"it diverged: the metric {found}" if found else ""


def libraries():
    """Return the versions of what is installed in the image."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return {**found, "python": platform.python_version()}


def main():
    """Run the command and write what came of it."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.makedirs(settings["out"], exist_ok=True)
    place = Place(settings["cpus"])
    environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONHASHSEED=str(settings["seed"] % 2**32))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        environment[name] = str(len(place.own))
    lines = []
    try:
        process = subprocess.Popen(
            sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    except OSError as error:
        finish(settings, {"status": "failed", "reason": f"its command can't be run: {error}", "peak_mib": 0}, lines)
        return 0

    def pump():
        with open(settings["log"], "w", encoding="utf-8") as log:
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace")
                log.write(line)
                sys.stderr.write(line)
                sys.stderr.flush()
                lines.append(line.rstrip())
                del lines[:-TAIL]

    reader = threading.Thread(target=pump)
    reader.start()
    stopped, peak = watch(process, settings, place)
    reader.join(10)
    if stopped:
        print(json.dumps({"stopped": stopped, "tail": lines}), file=sys.stderr, flush=True)
        return 200
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        reason = f"it was ended by the signal {name}"
        if name == "SIGKILL":
            reason += ", most likely because the machine's memory ran out"
            print(json.dumps({"stopped": reason, "tail": lines}), file=sys.stderr, flush=True)
            return 200
    elif process.returncode:
        reason = f"it ended with exit code {process.returncode}"
    else:
        reason = check(settings)
    finish(settings, {"status": "failed" if reason else "trained", "reason": reason, "peak_mib": peak >> 20}, lines)
    return 0


def finish(settings, result, lines):
    """Write what came of the training."""
    pathlib.Path(settings["result"]).write_text(json.dumps({**result, "tail": lines, "libraries": libraries()}), encoding="utf-8")


sys.exit(main())
