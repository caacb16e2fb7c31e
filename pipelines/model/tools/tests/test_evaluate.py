"""Gates, on held-out rows whose metrics are known."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import pandas as pd

TOOLS = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(TOOLS))

import evaluate  # noqa: E402  # it lies beside this folder


def rows(count, noise, seed=1, segments=("a",)):
    """Return held-out rows whose scores are off by so much, for better or worse."""
    random = np.random.default_rng(seed)
    label = np.arange(count) % 2
    score = np.clip(0.5 + (label - 0.5) * 0.4 + random.normal(0, noise, count), 0, 1)
    return pd.DataFrame({"id": np.arange(count).astype(str), "label": label, "score": score, "segment": [segments[i // 2 % len(segments)] for i in range(count)]})


def brier(table):
    """Return the Brier score by its definition."""
    return float(((table["score"] - table["label"]) ** 2).mean())


class Bounds(unittest.TestCase):
    """An absolute gate sees how sure the metric is."""

    def judge(self, table, **bounds):
        return evaluate.absolute({"metric": "brier", **bounds}, {"brier": brier(table)}, table)

    def test_far_from_the_bound(self):
        """What is certain passes or fails."""
        table = rows(1000, 0.2)
        self.assertEqual(self.judge(table, max=brier(table) + 0.05)["verdict"], "passed")
        found = self.judge(table, max=brier(table) - 0.05)
        self.assertEqual(found["verdict"], "failed")
        self.assertIn("must be at most", found["reason"])

    def test_noise_neither_blocks_nor_promotes(self):
        """Just on either side of the bound, few rows can't tell and many can."""
        few, many = rows(100, 0.2), rows(100_000, 0.2)
        for off, verdict in ((0.004, "passed"), (-0.004, "failed")):
            found = self.judge(few, max=brier(few) + off)
            self.assertEqual(found["verdict"], "inconclusive")
            self.assertIn("too few held-out rows to tell whether it is at most", found["reason"])
            self.assertEqual(self.judge(many, max=brier(many) + off)["verdict"], verdict)

    def test_the_interval_is_as_wide_as_theory_says(self):
        """The mean's: 1.96 standard errors to either side."""
        table = rows(2000, 0.2)
        error = ((table["score"] - table["label"]) ** 2).std(ddof=0) / math.sqrt(len(table))
        found = self.judge(table, max=1)
        self.assertAlmostEqual((found["high"] - found["low"]) / (2 * 1.96 * error), 1, delta=0.06)

    def test_a_claim_that_the_rows_do_not_bear_out(self):
        """The training's own account is not believed."""
        found = evaluate.absolute({"metric": "brier", "max": 0.5}, {"brier": 0.01}, rows(500, 0.2))
        self.assertEqual(found["verdict"], "failed")
        self.assertIn("by its held-out rows", found["reason"])

    def test_rows_that_cannot_tell(self):
        """A ROC curve needs both classes."""
        table = rows(500, 0.2)
        table["label"] = 1
        found = evaluate.absolute({"metric": "roc_auc", "min": 0.5}, {"roc_auc": 0.9}, table)
        self.assertEqual(found["verdict"], "inconclusive")

    def test_a_metric_of_no_rows_is_taken_as_it_is(self):
        """Nothing else is known of it."""
        gate = {"metric": "stability", "min": 0.9}
        self.assertEqual(evaluate.absolute(gate, {"stability": 0.95}, rows(100, 0.2))["verdict"], "passed")
        self.assertEqual(evaluate.absolute(gate, {"stability": 0.85}, None)["verdict"], "failed")
        self.assertIn("there is no metric stability", evaluate.absolute(gate, {"other": 1.0}, None)["reason"])


class Champion(unittest.TestCase):
    """A gate with a margin compares on the same rows."""

    GATE = {"metric": "brier", "margin": 0.01}

    def test_the_same_model_is_not_worse(self):
        """Pairs take the noise of the rows away: even few of them can tell."""
        table = rows(100, 0.2)
        self.assertEqual(evaluate.against_champion(self.GATE, table, table, None)["verdict"], "passed")

    def test_worse_better_and_uncertain(self):
        """Another seed's noise of the same size is nothing certain on few rows."""
        good, bad = rows(1000, 0.1), rows(1000, 0.4, seed=2)
        self.assertEqual(evaluate.against_champion(self.GATE, bad, good, None)["verdict"], "failed")
        self.assertEqual(evaluate.against_champion(self.GATE, good, bad, None)["verdict"], "passed")
        one, other = rows(100, 0.2), rows(100, 0.2, seed=2)
        self.assertEqual(evaluate.against_champion(self.GATE, one, other, None)["verdict"], "inconclusive")

    def test_a_segment_that_has_become_worse(self):
        """It fails the gate though the whole has become better."""
        champion, table = rows(3200, 0.4, segments="abcdefgh"), rows(3200, 0.05, segments="abcdefgh")
        part = table["segment"] == "d"
        table.loc[part, "score"] = 1 - table.loc[part, "score"]
        found = evaluate.against_champion(self.GATE, table, champion, "segment")
        self.assertEqual(found["verdict"], "failed")
        self.assertIn("of the segment d", found["reason"])

    def test_rows_that_only_one_has_judged(self):
        """They tell nothing of the difference."""
        other = rows(100, 0.2)
        other["id"] = "x" + other["id"]
        found = evaluate.against_champion(self.GATE, rows(100, 0.2), other, None)
        self.assertEqual((found["verdict"], found["rows"]), ("inconclusive", 0))


class Whole(unittest.TestCase):
    """The program, from settings to evaluation.json and the card."""

    def run_on(self, tables, metrics, **settings):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        trainings = []
        for number, (table, found) in enumerate(zip(tables, metrics, strict=True)):
            at = folder / str(number)
            at.mkdir()
            table.to_csv(at / "holdout.csv", index=False)
            (at / "metrics.json").write_text(json.dumps(found))
            trainings.append({"folder": str(at), "parameters": {"number": str(number)}})
        document = {
            "name": "churn", "metrics": "metrics.json", "holdout": "holdout.csv", "segment": "segment", "choose": {"metric": "chosen_by"}, "seed": 1, "command": ["train"],
            "commit": "", "image": "sha256:0", "data": "sha256:1", "libraries": {}, "tables": [], "gates": [{"metric": "brier", "max": 0.25}], "trainings": trainings, **settings,
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(document))
        subprocess.run([sys.executable, str(TOOLS / "evaluate.py"), str(folder / "settings.json"), str(folder / "out")], check=True)
        return json.loads((folder / "out" / "evaluation.json").read_text()), folder / "out"

    def test_the_best_of_a_grid(self):
        """By the stated metric, in the stated direction; the gates see the chosen one alone."""
        tables = [rows(400, noise) for noise in (0.3, 0.1, 0.2)]
        metrics = [{"brier": brier(table), "chosen_by": value} for table, value in zip(tables, (0.7, 0.9, 0.8), strict=True)]
        for lower, best in ((False, 1), (True, 0)):
            found, _ = self.run_on(tables, metrics, choose={"metric": "chosen_by", "lower": lower})
            self.assertEqual((found["chosen"], found["parameters"]["number"]), (best, str(best)))
            self.assertAlmostEqual(found["metrics"]["brier"], metrics[best]["brier"])
        found, _ = self.run_on(tables, metrics, choose={"metric": "accuracy"})
        self.assertEqual((found["verdict"], found["chosen"]), ("failed", -1))
        self.assertIn("there is no metric accuracy to choose by", found["reason"])

    def test_metrics_by_segment_without_a_champion(self):
        """They are in the evaluation and on the card, with intervals where there are rows enough."""
        table = pd.concat([rows(400, 0.2, segments=("big", "bigger")), rows(40, 0.2, seed=2, segments=("small",)).assign(id=lambda t: "s" + t["id"])], ignore_index=True)
        found, out = self.run_on([table], [{"brier": brier(table)}])
        parts = {part["segment"]: part for part in found["segments"]}
        self.assertEqual(sorted(parts), ["big", "bigger", "small"])
        for name, part in parts.items():
            self.assertAlmostEqual(part["value"], brier(table[table["segment"] == name]))
        self.assertLess(parts["big"]["low"], parts["big"]["value"])
        self.assertIsNone(parts["small"]["low"])
        self.assertIn("| brier | small | 40 |", (out / "card.md").read_text())

    def test_no_more_segments_than_people_read(self):
        """The largest of them."""
        table = rows(600, 0.2, segments=[f"s{n:02}" for n in range(60)])
        table.loc[table["segment"] == "s59", "segment"] = "s58"
        found = evaluate.by_segment([{"metric": "brier"}], table, "segment")
        self.assertEqual(len(found), evaluate.SEGMENTS_SHOWN)
        self.assertIn("s58", [part["segment"] for part in found])

    def test_scores_that_are_no_numbers(self):
        """The model fails, whatever its training says of it."""
        for value in (math.nan, math.inf):
            table = rows(400, 0.1)
            table.loc[3, "score"] = value
            found, _ = self.run_on([table], [{"brier": 0.01}])
            self.assertEqual(found["verdict"], "failed")
            self.assertEqual(found["reason"], "1 of 400 held-out rows have no finite number as their score")


if __name__ == "__main__":
    unittest.main()
