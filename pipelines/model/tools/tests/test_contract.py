"""Contracts, each rule by tables that keep it and tables that break it."""

import gzip
import pathlib
import sys
import tempfile
import unittest
import warnings

import pandas as pd

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import contract  # noqa: E402  # it lies beside this folder

NOW = pd.Timestamp("2026-03-01T23:59:59Z")


class Contract(unittest.TestCase):
    """One table, and what is said of it."""

    def setUp(self):
        warnings.simplefilter("ignore")
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def check(self, content, name="table.csv", **table):
        """Return the breaches of a table as (column, rule, rows)."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        if callable(content):
            content(path)
        elif content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.found = contract.check({"name": "t", "path": name, "digest": "d", **table}, path, NOW)
        return [(b["column"], b["rule"], b["rows"]) for b in self.found["breaches"]]

    def test_rules_of_columns(self):
        """Of each rule: values that keep it, then values that break it."""
        for column, good, bad, rule in (
            ({"type": "integer"}, ["1", "-3", "1e3"], ["x", "inf"], "is an integer"),
            ({"type": "integer"}, ["2.0"], ["2.5"], "is whole"),
            ({"type": "number"}, ["0.5", "-1e-3"], ["nan", "-inf", "1,5"], "is a number"),
            ({"type": "boolean"}, ["true", "NO", "1"], ["maybe", "2"], "is true or false"),
            ({"type": "date"}, ["2026-03-01", "2026-02-28T10:00:00Z"], ["2026-02-30", "01/02/2026"], "is a date"),
            ({"type": "date"}, ["2026-03-01T20:00:00Z"], ["2026-03-02"], "is not in the future"),
            ({"type": "date", "format": "%d.%m.%Y"}, ["28.02.2026"], ["2026-02-28"], "is a date"),
            ({"type": "number", "min": 0}, ["0", "7"], ["-0.1"], "is at least 0"),
            ({"type": "number", "max": 5}, ["5"], ["5.1", "6"], "is at most 5"),
            ({"values": ["a", "b"]}, ["a", "b", " a "], ["c", "A"], "is one of a, b"),
            ({"pattern": "[0-9]{4}"}, ["0123"], ["123", "01234", "x0123"], "matches [0-9]{4}"),
        ):
            with self.subTest(rule=rule, column=column):
                one = {"columns": [{"name": "c", **column}]}
                self.assertEqual(self.check('c\n"' + '"\n"'.join(good) + '"\n', **one), [])
                self.assertIn(("c", rule, len(bad)), self.check('c\n"' + '"\n"'.join([*good, *bad]) + '"\n', **one))
                self.assertEqual(self.found["breaches"][0]["samples"][0], {"file": "", "line": len(good) + 2, "value": bad[0]})

    def test_nulls_and_columns_that_are_missing(self):
        """A null breaks what is not nullable, and no other rule."""
        columns = [{"name": "a", "type": "number", "min": 0}, {"name": "b", "nullable": True}, {"name": "c", "optional": True}]
        self.assertEqual(self.check("a,b\n,\n1,\n", columns=columns), [("a", "is not null", 1)])
        self.assertEqual(self.found["nulls"], {"a": 1, "b": 2, "c": 0})
        self.assertEqual(self.check("b\nx\n", columns=columns), [("a", "the column is missing", 0)])

    def test_how_many_rows(self):
        """At least one, and what the contract says."""
        self.assertEqual(self.check("a\n"), [("", "it has 0 rows, and 1 are the least", 0)])
        self.assertEqual(self.check("a\n1\n2\n", rows={"min": 3}), [("", "it has 2 rows, and 3 are the least", 0)])
        self.assertEqual(self.check("a\n1\n2\n", rows={"max": 1}), [("", "it has 2 rows, and 1 are the most", 0)])
        self.assertEqual(self.check("a\n1\n2\n", rows={"min": 2, "max": 2}), [])

    def test_freshness(self):
        """By the newest row, and to the second."""
        fresh = {"columns": [{"name": "d", "type": "date"}], "fresh": {"column": "d", "seconds": 36 * 3600}}
        self.assertEqual(self.check("d\n2020-01-01\n2026-02-28T12:00:00Z\n", **fresh), [])
        self.assertTrue(self.found["newest"].startswith("2026-02-28T12:00:00"))
        self.assertEqual(self.check("d\n2026-02-28T11:59:58Z\n", **fresh), [("d", "the newest row is of 2026-02-28, and may be 36 hours old", 0)])
        self.assertIn(("d", "the newest row has no date, and may be 36 hours old", 0), self.check("d\nx\n", **fresh))

    def test_a_digest_that_is_another(self):
        """The configuration's against the file's."""
        self.assertEqual(self.check("a\n1\n", sha256="d"), [])
        self.assertEqual(self.check("a\n1\n", sha256="e"), [("", "its SHA-256 is d, and not e", 0)])

    def test_uniqueness_across_parts_and_files(self):
        """A value that comes again 100,000 rows later, or in another file."""
        unique = {"columns": [{"name": "a", "unique": True}]}
        rows = "a\n" + "\n".join(map(str, range(100_001))) + "\n"
        self.assertEqual(self.check(rows, **unique), [])
        self.assertEqual(self.check(rows + "0\n", **unique), [("a", "is unique", 1)])
        self.check("a\n1\n", name="folder/1.csv")
        self.assertEqual(self.check("a\n2\n1\n", name="folder/2.csv"), [])
        self.assertEqual(self.check(None, name="folder", **unique), [("a", "is unique", 1)])

    def test_parquet_and_compressed_files(self):
        """They keep and break the same rules as text."""
        columns = {"columns": [{"name": "n", "type": "integer", "max": 3}, {"name": "f", "type": "number", "nullable": True}]}
        table = pd.DataFrame({"n": [1, 2, 4], "f": [0.5, None, float("inf")]})
        want = [("f", "is a number", 1), ("n", "is at most 3", 1)]
        self.assertEqual(self.check(lambda path: table.to_parquet(path), name="t.parquet", **columns), want)
        self.assertEqual(self.check(gzip.compress(table.to_csv(index=False).encode()), name="t.csv.gz", **columns), want)
        whole = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64").astype("float64"), "f": [1.0, 2.0, 3.0]})
        self.assertEqual(self.check(lambda path: whole.to_parquet(path), name="t.parquet", **columns), [("n", "is not null", 1)])
        cut = gzip.compress(b"n,f\n" + b"1,1\n" * 10000)[:-20]
        self.assertIn("it can't be read", self.check(cut, name="t.csv.gz", **columns)[0][1])
        self.assertIn("it can't be read", self.check(b"PAR1 and no more", name="t.parquet", **columns)[0][1])

    def test_a_file_that_is_not_there(self):
        """It is a breach, not a crash."""
        self.assertEqual(self.check(None, name="none.csv"), [("", "there is no file none.csv in the data", 0)])


if __name__ == "__main__":
    unittest.main()
