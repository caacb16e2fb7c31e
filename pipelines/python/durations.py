"""Merge the test durations that shards recorded: durations.py BASE OUT STORE SHARD...

A shard's file is BASE with its own tests brought up to date, so what differs from BASE is news.
OUT gets all of it; STORE keeps it for the next run.
"""

import json
import os
import sys


def load(path):
    """Read a file of durations; one that is missing or broken counts as empty, as durations are only a hint."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save(path, durations):
    """Write a file in one step, so that nobody reads half of it."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(durations, file, indent=1, sort_keys=True)
        file.write("\n")
    os.replace(path + ".new", path)


def main():
    """Run as the module's text says."""
    base_path, out, store, *shards = sys.argv[1:]
    base = load(base_path)
    merged = dict(base)
    for shard in shards:
        for test, seconds in load(shard).items():
            if base.get(test) != seconds:
                merged[test] = seconds
    save(out, merged)
    save(store, merged)


main()
