"""Plots of held-out rows, as SVG files that are the same for the same rows."""

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "millrace"
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["axes.grid"] = True
matplotlib.rcParams["grid.alpha"] = 0.3

import matplotlib.pyplot as plt  # noqa: E402  # the backend has to be chosen first
import numpy as np  # noqa: E402
from sklearn.metrics import roc_curve  # noqa: E402


def save(figure, out, name):
    """Write a figure without the time at which it was made."""
    figure.savefig(out / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return name


def new(title, x, y):
    """Return a figure with one pair of axes."""
    figure, axes = plt.subplots(figsize=(4.6, 3.4))
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def draw(candidate, champion, out):
    """Draw what the held-out rows allow; return the files' names."""
    made = []
    if candidate is None or not {"label", "score"} <= set(candidate.columns):
        return made
    label, score = candidate["label"].to_numpy(dtype=float), candidate["score"].to_numpy(dtype=float)
    if set(np.unique(label)) == {0.0, 1.0} and 0 <= score.min() and score.max() <= 1:
        figure, axes = new("ROC curve on held-out rows", "false positives", "true positives")
        for name, table in (("this model", candidate), ("champion", champion)):
            if table is not None and {"label", "score"} <= set(table.columns):
                fpr, tpr, _ = roc_curve(table["label"], table["score"])
                axes.plot(fpr, tpr, label=name)
        axes.plot([0, 1], [0, 1], ":", color="grey")
        axes.legend()
        made.append(save(figure, out, "roc.svg"))
        figure, axes = new("Calibration, by tenth of scores", "mean score", "rate")
        tenths = [part for part in np.array_split(np.argsort(score, kind="stable"), 10) if len(part)]
        axes.plot([score[p].mean() for p in tenths], [label[p].mean() for p in tenths], "o-")
        axes.plot([0, 1], [0, 1], ":", color="grey")
        made.append(save(figure, out, "calibration.svg"))
        figure, axes = new("Scores", "score", "rows")
        axes.hist([score[label == 0], score[label == 1]], bins=20, stacked=True, label=["0", "1"])
        axes.legend(title="label")
        made.append(save(figure, out, "scores.svg"))
        return made
    figure, axes = new("Predicted and actual, by tenth of predictions", "mean prediction", "mean of what came true")
    tenths = [part for part in np.array_split(np.argsort(score, kind="stable"), 10) if len(part)]
    axes.plot([score[p].mean() for p in tenths], [label[p].mean() for p in tenths], "o-")
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], ":", color="grey")
    made.append(save(figure, out, "predicted.svg"))
    return made
