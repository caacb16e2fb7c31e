"""Judge a measurement: is it chance, does it matter, does it last, since when?

A test counts when its p-value, corrected for the number of tests, is below alpha, and its effect
is no smaller than that of a warning. It is severe when the effect is critical and the corrected
p-value below the limit for that. A severe change alerts at once, any other when it has been seen in
so many of the last runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace_drift.config import Config
from millrace_drift.statistics import adjust

SCHEMA = "millrace/drift/v1"
LEVELS = ("ok", "warn", "critical")
PERFORMANCE = "(performance)"

Document = dict[str, Any]


def worse(one: str, other: str) -> str:
    """Return the more severe of two levels."""
    return max(one, other, key=LEVELS.index)


def level_tests(tests: Sequence[Document], config: Config) -> None:
    """Add to each test its corrected p-value q, its level, and whether it is severe."""
    for one, q in zip(tests, adjust([one["p"] for one in tests], config.correction)):
        warn, critical = config.effects[one["name"]]
        one["q"] = float(q)
        one["level"] = "ok"
        if q < config.alpha and one["effect"] >= warn:
            one["level"] = "critical" if one["effect"] >= critical else "warn"
        one["severe"] = one["level"] == "critical" and bool(q < config.severe)


def judge(measurement: Document, config: Config, history: Sequence[Document]) -> Document:
    """Return the result: the measurement with levels, alerts and an entry for the history.

    history holds the entries of earlier runs, the oldest first.
    """
    result = measurement | {"schema": SCHEMA, "alerts": [], "severity": "ok", "score": 0.0}
    past = _comparable(result, history)
    columns = result["columns"]
    level_tests([one for column in columns for one in column["tests"]], config)
    subjects = []
    for column in columns:
        said = config.columns.get(column["name"])
        column["weight"] = config.weight(column["name"]) if column["role"] == "feature" else 1.0
        column["owner"] = said.owner if said else ""
        minor = column["role"] == "feature" and column["weight"] < config.minor
        subjects.append(_subject(column["name"], column, "warn" if minor else "critical"))
    performance = result["performance"]
    if performance:
        level_tests(performance["tests"], config)
        subjects.append(_subject(PERFORMANCE, performance, "critical"))
    for body, subject in zip([*columns, *([performance] if performance else [])], subjects):
        body |= subject | _history_of(subject, past, config)
        if body["alert"] != "ok":
            result["alerts"].append(_alert(body, subject["subject"]))
    for problem in result["problems"]:
        if problem["breach"]:
            result["alerts"].append(_breach(problem, config))
    result["alerts"].sort(key=lambda alert: (-LEVELS.index(alert["level"]), alert["q"]))
    for alert in result["alerts"]:
        result["severity"] = worse(result["severity"], alert["level"])
    weight = sum(column["weight"] for column in columns)
    moved = sum(column["weight"] for column in columns if column["level"] != "ok")
    result["score"] = moved / weight if weight else 0.0
    result["settings"] = _settings(config)
    return result


def _settings(config: Config) -> Document:
    return {
        "alpha": config.alpha,
        "severe": config.severe,
        "correction": config.correction,
        "runs": config.runs,
        "needed": config.needed,
        "minor": config.minor,
        "effects": {name: list(pair) for name, pair in config.effects.items()},
    }


def _comparable(result: Document, history: Sequence[Document]) -> list[Document]:
    """Return the earlier runs that were against the same reference, one for each current table.

    A run that is repeated on the same table is no second sign of drift.
    """
    digest = {which: table["sha256"] for which, table in result["tables"].items()}
    past: dict[str, Document] = {}
    for entry in history:
        same = entry.get("reference") == digest.get("reference")
        if same and entry.get("current") != digest.get("current"):
            past[str(entry.get("current"))] = entry
    return list(past.values())


def _graveness(one: Document) -> tuple[int, float, float]:
    return LEVELS.index(one["level"]), -one["q"], one["effect"]


def _subject(name: str, body: Document, most: str) -> Document:
    """Sum up the tests of a column, or of the performance."""
    moved = [one for one in body["tests"] if one["level"] != "ok"]
    worst = max(moved, key=_graveness) if moved else None
    level = worst["level"] if worst else "ok"
    severe = any(one["severe"] for one in moved)
    capped = level == "critical" and most == "warn"
    return {
        "subject": name,
        "level": "warn" if capped else level,
        "severe": severe,
        "minor": capped,
        "worst": worst,
    }


def _history_of(subject: Document, past: Sequence[Document], config: Config) -> Document:
    """Say whether a subject alerts, and since when it has moved without a break."""
    levels = [
        (entry.get("subjects", {}).get(subject["subject"], {}).get("level", "ok"), entry)
        for entry in past
    ]
    since = ""
    for level, entry in reversed(levels):
        if level == "ok":
            break
        since = str(entry.get("time", ""))
    own = subject["level"]
    alert = "ok"
    if own != "ok":
        recent = [level for level, _ in levels[-(config.runs - 1) :]] if config.runs > 1 else []
        for candidate in LEVELS[1 : LEVELS.index(own) + 1]:
            at_least = LEVELS.index(candidate)
            seen = 1 + sum(LEVELS.index(level) >= at_least for level in recent)
            if seen >= config.needed:
                alert = candidate
        if subject["severe"]:
            alert = own
    return {"alert": alert, "since": since if own != "ok" else ""}


def _alert(body: Mapping[str, Any], name: str) -> Document:
    worst = body["worst"]
    return {
        "subject": name,
        "kind": "performance" if name == PERFORMANCE else body["role"],
        "level": body["alert"],
        "severe": body["severe"],
        "minor": body["minor"],
        "test": worst["name"],
        "method": worst["method"],
        "effect": worst["effect"],
        "q": worst["q"],
        "said": worst["said"],
        "since": body["since"],
        "owner": body.get("owner", ""),
    }


def _breach(problem: Document, config: Config) -> Document:
    said = config.columns.get(problem["column"])
    return {
        "subject": problem["column"],
        "kind": "contract",
        "level": "critical",
        "severe": True,
        "minor": False,
        "test": problem["name"],
        "method": "",
        "effect": 1.0,
        "q": 0.0,
        "said": problem["said"],
        "since": "",
        "owner": said.owner if said else "",
    }


def entry_of(result: Document, time: str) -> Document:
    """Return what the history keeps of a result."""
    subjects = {
        body["subject"]: {
            "level": body["level"],
            "test": body["worst"]["name"],
            "effect": body["worst"]["effect"],
            "q": body["worst"]["q"],
        }
        for body in [
            *result["columns"],
            *([result["performance"]] if result["performance"] else []),
        ]
        if body["level"] != "ok"
    }
    metrics = (result["performance"] or {}).get("metrics", [])
    return {
        "time": time,
        "status": result["status"],
        "severity": result["severity"],
        "score": result["score"],
        "rows": result["tables"].get("current", {}).get("rows", 0),
        "reference": result["tables"].get("reference", {}).get("sha256", ""),
        "current": result["tables"].get("current", {}).get("sha256", ""),
        "subjects": subjects,
        "alerts": [alert["subject"] for alert in result["alerts"]],
        "performance": {metric["name"]: metric["current"]["value"] for metric in metrics},
    }
