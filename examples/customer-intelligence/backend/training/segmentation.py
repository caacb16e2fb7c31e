"""Train the segmentation: python -m backend.training.segmentation --data TABLE --out FOLDER."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_samples, silhouette_score
from sklearn.preprocessing import StandardScaler

from backend.core.segmentation import ASSIGNMENTS_FILE, FEATURES, SegmentationModel, transform
from backend.core.tables import read_transactions, rfm
from backend.training.holdout import held_out
from backend.training.output import Trained, TrainingError, parser, run

LOG = logging.getLogger("training.segmentation")
NAMES_OF_FOUR = ("champions", "loyal", "occasional", "dormant")
MIN_CUSTOMERS_A_CLUSTER = 10


def cluster(points: NDArray[np.float64], clusters: int, seed: int) -> KMeans:
    """Fit k-means, best of ten starts."""
    return KMeans(n_clusters=clusters, n_init=10, random_state=seed).fit(points)


def stability(
    seen: NDArray[np.float64],
    unseen: NDArray[np.float64],
    clusters: int,
    seed: int,
    runs: int,
) -> list[float]:
    """Return how alike fits with different seeds group points that none of them has seen.

    That is the adjusted Rand index of each pair of them.
    """
    labels = [cluster(seen, clusters, seed + index).predict(unseen) for index in range(runs)]
    return [float(adjusted_rand_score(one, other)) for one, other in combinations(labels, 2)]


def ranked(centroids: NDArray[np.float64]) -> NDArray[np.intp]:
    """Order centroids from the best customers to the worst.

    Bought lately, often and for much is good; all three are standardised, so their plain sum
    is a fair score. K-means numbers clusters at random; this gives them a fixed order.
    """
    return np.argsort(-(centroids[:, 1] + centroids[:, 2] - centroids[:, 0]), kind="stable")


def names(clusters: int) -> tuple[str, ...]:
    """Name the ranked clusters: words for four of them, else tier-1 and so on."""
    if clusters == len(NAMES_OF_FOUR):
        return NAMES_OF_FOUR
    return tuple(f"tier-{index + 1}" for index in range(clusters))


def evaluate(
    features: NDArray[np.float64], points: NDArray[np.float64], assigned: NDArray[np.str_]
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return the metrics of segments, in all and of each, and the silhouette of every customer."""
    widths = np.asarray(silhouette_samples(points, assigned), dtype=np.float64)
    segments: dict[str, Any] = {}
    for name in np.unique(assigned):
        rows = assigned == name
        means = features[rows].mean(axis=0)
        segments[str(name)] = {
            "customers": int(rows.sum()),
            "silhouette": float(widths[rows].mean()),
            **{feature: float(mean) for feature, mean in zip(FEATURES, means, strict=True)},
        }
    found = {
        "customers": len(assigned),
        "silhouette": float(silhouette_score(points, assigned)),
        "segments": segments,
    }
    return found, widths


def train(options: argparse.Namespace) -> Trained:
    """Cluster customers by recency, frequency and monetary value; judge by customers held out."""
    if options.clusters < 2 or options.stability_runs < 2:
        raise TrainingError("--clusters and --stability-runs must be at least 2")
    transactions = read_transactions(options.data)
    table = rfm(transactions, transactions["date"].max())
    mask = held_out(table.index.to_series(), options.test_size, options.seed)
    if min(mask.sum(), (~mask).sum()) < options.clusters * MIN_CUSTOMERS_A_CLUSTER:
        raise TrainingError(
            f"{options.data}: {len(table)} customers, {mask.sum()} of them held out,"
            f" are too few for {options.clusters} clusters"
        )
    features = table[list(FEATURES)].to_numpy(dtype=np.float64)
    scaler = StandardScaler().fit(transform(features[~mask]))
    points = scaler.transform(transform(features))
    seen, unseen = points[~mask], points[mask]
    LOG.info("fitting", extra={"fields": {"customers": len(seen), "held_out": len(unseen)}})
    centroids = cluster(seen, options.clusters, options.seed).cluster_centers_
    centroids = centroids[ranked(centroids)]
    model = SegmentationModel(
        mean=tuple(map(float, scaler.mean_)),
        scale=tuple(map(float, scaler.scale_)),
        centroids=tuple(tuple(map(float, row)) for row in centroids),
        names=names(options.clusters),
    )
    assigned = np.array(model.assign(features))
    missing = set(model.names) - set(assigned[mask].tolist())
    if missing:
        raise TrainingError(
            f"{options.data}: no customer that was held out is of {', '.join(sorted(missing))}"
        )
    found, widths = evaluate(features[mask], unseen, assigned[mask])
    agreement = stability(seen, unseen, options.clusters, options.seed, options.stability_runs)
    metrics: dict[str, Any] = {
        **found,
        "training_customers": len(seen),
        "stability_mean": float(np.mean(agreement)),
        "stability_min": float(np.min(agreement)),
    }
    LOG.info("evaluated", extra={"fields": {"silhouette": round(metrics["silhouette"], 4)}})
    assignments = {str(key): str(name) for key, name in zip(table.index, assigned, strict=True)}
    holdout = pd.DataFrame(
        {
            "id": table.index[mask],
            "segment": assigned[mask],
            "silhouette": np.round(widths, 6),
        }
    )
    text = json.dumps(assignments, indent=0, sort_keys=True) + "\n"
    return Trained(model.document(), metrics, holdout, files={ASSIGNMENTS_FILE: text})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser("Train the segmentation.", "data/cdnow-sample.txt")
    arguments.add_argument("--clusters", type=int, default=4, help="number of segments")
    arguments.add_argument("--test-size", type=float, default=0.25, help="fraction held out")
    arguments.add_argument(
        "--stability-runs", type=int, default=5, help="fits with other seeds, to compare"
    )
    return run(arguments, argv, train)


if __name__ == "__main__":
    sys.exit(main())
