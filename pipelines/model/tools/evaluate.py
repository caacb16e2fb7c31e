"""Judge a trained model: evaluate.py SETTINGS OUT.

SETTINGS is a JSON file. Of several trainings the best is chosen by a stated metric. Its metrics are held against the
gates: absolute bounds, by a bootstrap over the held-out rows, and no worse than the champion beyond a margin, by a
paired bootstrap over the held-out rows that both have judged (2,000 resamples, 95 %). A gate passes when even the bad
end of the interval is good enough, it fails when even the good end is not, and is inconclusive in between.
"""

import hashlib
import json
import math
import pathlib
import sys

import numpy as np
import pandas as pd
from card import write_card
from plots import draw
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score

RESAMPLES = 2000
LEVEL = 0.95
# Fewer rows than these tell nothing of a difference; a segment of fewer is not looked at.
FEWEST = 30
SEGMENT_FEWEST = 100
# So many segments, the largest, are shown: each is resampled, which takes its time.
SEGMENTS_SHOWN = 50


def roc_auc(label, score):
    """Return the chance that a positive row scores higher than a negative one."""
    positive = label == 1
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return math.nan
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def pr_auc(label, score):
    """Return the average precision."""
    return float(average_precision_score(label, score)) if (label == 1).any() else math.nan


def log_loss(label, score):
    """Return the mean negative log-likelihood."""
    p = np.clip(score, 1e-15, 1 - 1e-15)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))


# By name: the function of labels and scores, and whether less is better.
METRICS = {
    "roc_auc": (roc_auc, False),
    "pr_auc": (pr_auc, False),
    "brier": (lambda label, score: float(np.mean((score - label) ** 2)), True),
    "log_loss": (log_loss, True),
    "mae": (lambda label, score: float(np.mean(np.abs(score - label))), True),
    "rmse": (lambda label, score: float(np.sqrt(np.mean((score - label) ** 2))), True),
}


def flat(value, at=""):
    """Return the numbers of nested names by their path."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in flat(inner, f"{at}.{name}" if at else name).items()}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {at: float(value)}
    return {}


def metrics_of(folder, name):
    """Return the metrics that a training wrote."""
    document = json.loads(pathlib.Path(folder, name).read_text(encoding="utf-8"))
    return flat(document.get("metrics", document))


def holdout_of(folder, name):
    """Return the held-out rows, or nothing."""
    path = pathlib.Path(folder, name)
    if not path.is_file() or not path.stat().st_size:
        return None
    table = pd.read_csv(path, dtype={"id": str, "segment": str}, keep_default_na=False, na_values=[""])
    return table if len(table) else None


def measure(metric, table, suffix=""):
    """Return a function of row numbers that gives the metric of those rows, and nothing where the rows can't tell."""
    if metric in METRICS and {"label", "score" + suffix} <= set(table.columns):
        function = METRICS[metric][0]
        label, score = table["label"].to_numpy(dtype=float), table["score" + suffix].to_numpy(dtype=float)
        return lambda rows: function(label[rows], score[rows])
    if metric + suffix in table.columns:
        values = table[metric + suffix].to_numpy(dtype=float)
        return lambda rows: float(np.mean(values[rows]))
    return None


def interval(samples, level=LEVEL):
    """Return the percentile interval of resampled values."""
    samples = samples[np.isfinite(samples)]
    if len(samples) < RESAMPLES // 2:
        return None
    return [float(q) for q in np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])]


def seed_of(*parts):
    """Return a seed that hangs on names alone, so that a second run resamples alike."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def judge_difference(low, high, margin):
    """Return the verdict on an interval of how much better the candidate is than the champion."""
    if low >= -margin:
        return "passed"
    return "failed" if high < -margin else "inconclusive"


def compare(gate, pairs, rows, level):
    """Compare candidate and champion on some rows; return both values and the interval of the candidate's gain."""
    metric = gate["metric"]
    lower = gate.get("lower") or METRICS.get(metric, (None, False))[1]
    own, other = measure(metric, pairs), measure(metric, pairs, "_champion")
    if own is None or other is None:
        return None
    sign = -1 if lower else 1
    random = np.random.default_rng(seed_of(metric, len(rows)))
    gains = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rows[random.integers(0, len(rows), len(rows))]
        gains[i] = sign * (own(drawn) - other(drawn))
    bounds = interval(gains, level)
    if bounds is None:
        return None
    return {"value": own(rows), "champion": other(rows), "gain": sign * (own(rows) - other(rows)), "low": bounds[0], "high": bounds[1]}


def against_champion(gate, candidate, champion, segment):
    """Return the result of a gate's comparison with the champion, by segment too."""
    metric, margin = gate["metric"], gate["margin"]
    result = {"metric": metric, "kind": "champion", "margin": margin}
    if candidate is None or champion is None or "id" not in candidate or "id" not in champion:
        return {**result, "verdict": "inconclusive", "reason": f"{metric} can't be compared with the champion's: one of them has no held-out rows with an id"}
    ours = candidate.drop_duplicates("id")
    theirs = champion.drop_duplicates("id").drop(columns=["label"], errors="ignore").add_suffix("_champion")
    pairs = ours.merge(theirs, left_on="id", right_on="id_champion", sort=True).reset_index(drop=True)
    result["rows"] = len(pairs)
    if len(pairs) < FEWEST:
        return {**result, "verdict": "inconclusive", "reason": f"{metric} can't be compared with the champion's: only {len(pairs)} held-out rows were judged by both"}
    whole = compare(gate, pairs, np.arange(len(pairs)), LEVEL)
    if whole is None:
        return {**result, "verdict": "inconclusive", "reason": f"{metric} can't be compared with the champion's: the held-out rows don't tell it"}
    result.update(whole)
    result["verdict"] = judge_difference(whole["low"], whole["high"], margin)
    said = f"{metric} is {whole['value']:.4f}, the champion's {whole['champion']:.4f}; the gain is between {whole['low']:+.4f} and {whole['high']:+.4f} (95 %)"
    words = {"passed": "not worse", "failed": "worse", "inconclusive": "may be worse"}[result["verdict"]]
    result["reason"] = f"{said}: {words} beyond the margin of {margin:g}"
    result["segments"] = []
    if segment and segment in pairs.columns:
        groups = [(str(name), part.index.to_numpy()) for name, part in pairs.groupby(segment, sort=True) if len(part) >= SEGMENT_FEWEST]
        for name, rows in groups:
            # So many looks find something by chance: each is made the more careful.
            part = compare(gate, pairs, rows, 1 - (1 - LEVEL) / len(groups))
            if part is None:
                continue
            # Noise in a part blocks nothing, and a part that has certainly become worse does.
            verdict = "failed" if part["high"] < -margin else "passed"
            result["segments"].append({"segment": name, "rows": len(rows), "verdict": verdict, **part})
            if verdict == "failed" and result["verdict"] != "failed":
                result["verdict"] = "failed"
                result["reason"] = f"{metric} of the segment {name} is {part['value']:.4f}, the champion's {part['champion']:.4f}: worse beyond the margin of {margin:g}"
    return result


def unusable(holdout):
    """Return what makes the held-out rows useless, or nothing."""
    for column in ("label", "score"):
        if column not in holdout.columns:
            continue
        bad = int((~np.isfinite(pd.to_numeric(holdout[column], errors="coerce"))).sum())
        if bad:
            return f"{bad} of {len(holdout)} held-out rows have no finite number as their {column}"
    return ""


def spread(metric, function, rows, level=LEVEL):
    """Return the interval of a metric over some rows, or nothing where the rows can't tell it."""
    random = np.random.default_rng(seed_of(metric, "bound"))
    return interval(np.array([function(rows[random.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]), level)


def judge_bounds(low, high, least, most):
    """Return the verdict on a metric that lies between low and high, and must lie between least and most."""
    least, most = -math.inf if least is None else least, math.inf if most is None else most
    if least <= low and high <= most:
        return "passed"
    return "failed" if high < least or low > most else "inconclusive"


def absolute(gate, metrics, holdout):
    """Return the result of a gate's bounds."""
    metric, least, most = gate["metric"], gate.get("min"), gate.get("max")
    result = {"metric": metric, "kind": "bound", "min": least, "max": most}
    if metric not in metrics:
        names = ", ".join(sorted(metrics)[:12])
        return {**result, "verdict": "failed", "reason": f"there is no metric {metric}: there are {names}"}
    value = result["value"] = metrics[metric]
    bound = " and ".join(([f"at least {least:g}"] if least is not None else []) + ([f"at most {most:g}"] if most is not None else []))
    function, said = measure(metric, holdout) if holdout is not None else None, f"{metric} is {value:.4f}"
    low = high = value  # what the held-out rows can't tell is taken as it is
    if function is not None:
        rows = np.arange(len(holdout))
        own = function(rows)
        if not math.isfinite(own):
            return {**result, "verdict": "inconclusive", "reason": f"{said} by the training's own account, and its held-out rows don't tell it"}
        if abs(own - value) > 1e-3 * max(1, abs(value)):
            return {**result, "verdict": "failed", "reason": f"{said} by the training's own account, and {own:.4f} by its held-out rows"}
        bounds = spread(metric, function, rows)
        if bounds:
            low, high = result["low"], result["high"] = bounds
            said += f" ({low:.4f} to {high:.4f}, 95 %)"
    result["verdict"] = judge_bounds(low, high, least, most)
    words = {"passed": f"{said}, {bound}", "failed": f"{said}, and must be {bound}", "inconclusive": f"{said}: too few held-out rows to tell whether it is {bound}"}
    return {**result, "reason": words[result["verdict"]]}


def by_segment(gates, holdout, segment):
    """Return each gate's metric by segment, with its interval: to look at, as segments differ by nature."""
    if holdout is None or not segment or segment not in holdout.columns:
        return []
    found, shown = [], holdout[segment].value_counts().index[:SEGMENTS_SHOWN]
    groups = holdout[holdout[segment].isin(shown)].groupby(segment, sort=True)
    for metric in dict.fromkeys(gate["metric"] for gate in gates):
        function = measure(metric, holdout)
        for name, part in groups if function is not None else ():
            rows = part.index.to_numpy()
            value, bounds = function(rows), spread(metric, function, rows) if len(rows) >= SEGMENT_FEWEST else None
            if math.isfinite(value):
                found.append({"metric": metric, "segment": str(name), "rows": len(rows), "value": value, "low": bounds[0] if bounds else None, "high": bounds[1] if bounds else None})
    return found


def choose(settings):
    """Return the number of the best training."""
    trainings, by = settings["trainings"], settings["choose"]
    if len(trainings) == 1:
        return 0, ""
    scored = []
    for number, training in enumerate(trainings):
        metrics = metrics_of(training["folder"], settings["metrics"])
        if by["metric"] not in metrics:
            return None, f"there is no metric {by['metric']} to choose by: there are {', '.join(sorted(metrics)[:12])}"
        value = metrics[by["metric"]]
        scored.append((value if by.get("lower") else -value, number))
    return min(scored)[1], ""


def main():
    """Judge, draw, and write the model's card."""
    settings = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    number, problem = choose(settings)
    if number is None:
        write(out, {"verdict": "failed", "reason": problem, "chosen": -1, "gates": [], "segments": [], "metrics": {}})
        return
    training = settings["trainings"][number]
    metrics = metrics_of(training["folder"], settings["metrics"])
    candidate = holdout_of(training["folder"], settings["holdout"])
    problem = unusable(candidate) if candidate is not None else ""
    if problem:
        write(out, {"verdict": "failed", "reason": problem, "chosen": number, "parameters": training["parameters"], "gates": [], "segments": [], "metrics": metrics})
        return
    champion = holdout_of(settings["champion"], settings["holdout"]) if settings.get("champion") else None
    gates = []
    for gate in settings["gates"]:
        if gate.get("min") is not None or gate.get("max") is not None:
            gates.append(absolute(gate, metrics, candidate))
        if gate.get("margin") is not None and settings.get("champion"):
            gates.append(against_champion(gate, candidate, champion, settings.get("segment")))
    order = ["passed", "inconclusive", "failed"]
    worst = max((gate["verdict"] for gate in gates), key=order.index, default="passed")
    found = {
        "verdict": worst,
        "reason": "; ".join(gate["reason"] for gate in gates if gate["verdict"] == worst) if worst != "passed" else "",
        "chosen": number,
        "parameters": training["parameters"],
        "metrics": metrics,
        "gates": gates,
        "segments": by_segment(settings["gates"], candidate, settings.get("segment")),
    }
    write(out, found)
    plots = draw(candidate, champion, out)
    write_card(settings, found, plots, out)


def write(out, found):
    """Write the evaluation."""
    (out / "evaluation.json").write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
