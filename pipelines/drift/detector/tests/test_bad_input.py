"""Bad input: each kind has a clear answer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from millrace_drift.config import ColumnConfig, Config
from millrace_drift.measure import measure
from millrace_drift.tables import Reading, kolmogorov_error, read
from tests.tables import NOW, alerts, column, columns, found, problems, save


def test_nothing_has_changed(tmp_path: Path) -> None:
    """Two draws from one distribution: no alert; kinds are what they should be."""
    result = found(tmp_path, columns(1), columns(2))
    assert (result["status"], result["severity"], result["alerts"]) == ("measured", "ok", [])
    assert {c["name"]: c["kind"] for c in result["columns"]} == {
        "id": "text" if len(columns(1)["id"]) > 1_000 else "category",
        "amount": "number",
        "age": "number",
        "plan": "category",
        "active": "category",
        "signup": "time",
    } | {"id": column(result, "id")["kind"]}


def test_a_column_of_names_is_a_text(tmp_path: Path) -> None:
    """Of identifiers only the length is compared: that all are new is no drift."""
    result = found(tmp_path, columns(1, 3_000), columns(2, 3_000) | {"id": ["x"] * 3_000})
    assert column(result, "id")["kind"] == "text"
    assert alerts(result) == {"id": "critical"}
    assert "length" in result["alerts"][0]["said"]


def test_missing_column(tmp_path: Path) -> None:
    """It is a breach, and the other columns are compared all the same."""
    after = columns(2)
    del after["plan"]
    result = found(tmp_path, columns(1), after)
    assert alerts(result) == {"plan": "critical"}
    assert result["alerts"][0]["kind"] == "contract"
    assert column(result, "age")["level"] == "ok"


def test_added_column(tmp_path: Path) -> None:
    """It is said, and no more."""
    result = found(tmp_path, columns(1), columns(2) | {"extra": np.arange(1_000)})
    assert result["severity"] == "ok"
    assert problems(result) == {"column-added": "the column is not in the reference"}


def test_changed_type(tmp_path: Path) -> None:
    """Numbers that have become texts are a breach, with a sample of them."""
    result = found(tmp_path, columns(1), columns(2) | {"age": ["forty"] * 1_000})
    assert alerts(result) == {"age": "critical"}
    assert problems(result)["type-changed"] == (
        "1000 of 1000 values are no number any more, such as 'forty', 'forty', 'forty'"
    )


def test_some_values_of_another_type(tmp_path: Path) -> None:
    """They are counted, and shown."""
    age = [str(a) for a in columns(2)["age"]]
    age[:300] = ["unknown"] * 300
    result = found(tmp_path, columns(1), columns(2) | {"age": age})
    assert alerts(result) == {"age": "critical"}
    said = "30.0% infinite or not of the type, was 0.0%, such as 'unknown', 'unknown', 'unknown'"
    assert result["alerts"][0]["said"] == said


def test_all_null_column(tmp_path: Path) -> None:
    """It is critical at once; one that always was empty is said to be."""
    result = found(tmp_path, columns(1), columns(2) | {"age": [None] * 1_000})
    assert alerts(result) == {"age": "critical"}
    assert result["alerts"][0]["said"] == "100.0% missing, was 0.0%"
    result = found(
        tmp_path, columns(1) | {"age": [None] * 1_000}, columns(2) | {"age": [None] * 1_000}
    )
    assert result["severity"] == "ok"
    assert problems(result) == {"empty-reference": "the reference has no values to compare with"}


@pytest.mark.parametrize("which", ["reference", "current"])
def test_empty_table(tmp_path: Path, which: str) -> None:
    """It is unusable: with a header, and without."""
    paths = {name: save(tmp_path / f"{name}.csv", columns(1)) for name in ("reference", "current")}
    paths[which].write_text("id,amount,age,plan,active,signup\n", encoding="utf-8")
    result = measure(paths["reference"], paths["current"], Config(), NOW)
    assert (result["status"], result["reason"]) == ("unusable", f"the {which} table has no rows")
    paths[which].write_text("", encoding="utf-8")
    result = measure(paths["reference"], paths["current"], Config(), NOW)
    assert result["status"] == "unusable"
    assert "is empty" in result["reason"]


def test_one_row(tmp_path: Path) -> None:
    """Nothing can be told from it."""
    one = {name: values[:1] for name, values in columns(2).items()}
    result = found(tmp_path, columns(1), one)
    assert result["status"] == "inconclusive"
    assert result["reason"] == "the current table has 1 row; 50 are needed to tell"


def test_constant_column(tmp_path: Path) -> None:
    """It has nothing to compare while it stays so, and has drifted when it does not."""
    before = columns(1) | {"age": np.full(1_000, 40.5)}
    result = found(tmp_path, before, columns(2) | {"age": np.full(1_000, 40.5)})
    assert result["severity"] == "ok"
    assert column(result, "age")["statistics"]["psi"] == 0.0
    assert alerts(found(tmp_path, before, columns(2))) == {"age": "critical"}
    assert alerts(found(tmp_path, columns(1), before)) == {"age": "critical"}


def test_new_category(tmp_path: Path) -> None:
    """It is named, with the rows that have it; a few such rows are no alert."""
    plan = columns(2)["plan"].astype(object)
    plan[:150] = "enterprise"
    result = found(tmp_path, columns(1), columns(2) | {"plan": plan})
    assert alerts(result) == {"plan": "critical"}
    assert column(result, "plan")["new_categories"] == [{"name": "enterprise", "rows": 150}]
    plan = columns(2)["plan"].astype(object)
    plan[0] = "enterprise"
    result = found(tmp_path, columns(1), columns(2) | {"plan": plan})
    assert result["severity"] == "ok"
    assert column(result, "plan")["new_categories"] == [{"name": "enterprise", "rows": 1}]


def test_infinite_and_nan(tmp_path: Path) -> None:
    """Infinite values are invalid, NaN is missing; neither goes into the statistics."""
    age = columns(2)["age"].copy()
    age[:400] = np.inf
    age[400:600] = np.nan
    result = found(tmp_path, columns(1), columns(2) | {"age": age})
    assert alerts(result) == {"age": "critical"}
    got = column(result, "age")
    assert (got["current"]["invalid"], got["current"]["missing"]) == (400, 200)
    assert got["current"]["max"] < 100


def test_dates_in_the_future(tmp_path: Path) -> None:
    """They are counted; dates that move on are no drift."""
    signup = columns(2)["signup"].copy()
    signup[:7] = "2031-05-04"
    result = found(tmp_path, columns(1), columns(2) | {"signup": signup})
    assert result["severity"] == "ok"
    assert problems(result) == {"future": "7 values lie in the future, the last on 2031-05-04"}


def test_lines_with_the_wrong_number_of_fields(tmp_path: Path) -> None:
    """A few are left out and shown; many make the table unusable."""
    before, after = save(tmp_path / "r.csv", columns(1)), save(tmp_path / "c.csv", columns(2))
    with after.open("a", encoding="utf-8") as stream:
        stream.write("1,2\n")
    result = measure(before, after, Config(), NOW)
    assert result["problems"][0]["said"] == (
        "1 lines of the current table have the wrong number of fields and were left out, "
        "such as 2 fields and not 6: 1,2"
    )
    with after.open("a", encoding="utf-8") as stream:
        stream.write("1,2\n" * 100)
    result = measure(before, after, Config(), NOW)
    assert result["status"] == "unusable"
    assert "101 of 1101 lines have the wrong number of fields" in result["reason"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "no UTF-8 text"),
        (b"a,b\0c\n1,2\n", "neither a CSV nor a Parquet file"),
        (b"\n1,2\n", "begins with an empty line"),
        (b"a,a\n1,2\n", "two columns of the name 'a'"),
        (b"PAR1 and no more", "cannot be read"),
        (b"a,b\n1,\xff\xfe\n" * 30, "UTF"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, data: bytes, said: str) -> None:
    """Each is said for what it is."""
    path = tmp_path / "c.csv"
    path.write_bytes(data)
    result = measure(save(tmp_path / "r.csv", columns(1)), path, Config(), NOW)
    assert result["status"] == "unusable"
    assert said in result["reason"]


def test_formats_give_the_same(tmp_path: Path) -> None:
    """CSV, compressed CSV, Parquet, with another delimiter, and a folder of parts."""
    held = columns(1, 2_000)
    table = read(save(tmp_path / "t.csv", held), Reading())
    others = [read(save(tmp_path / "t.parquet", held), Reading())]
    with pa.output_stream(str(tmp_path / "t.csv.gz"), compression="gzip") as stream:
        stream.write((tmp_path / "t.csv").read_bytes())
    others.append(read(tmp_path / "t.csv.gz", Reading()))
    semicolons = (tmp_path / "t.csv").read_text(encoding="utf-8").replace(",", ";")
    (tmp_path / "s.csv").write_text(semicolons, encoding="utf-8")
    others.append(read(tmp_path / "s.csv", Reading()))
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(2):
        part = {name: values[i * 1_000 : (i + 1) * 1_000] for name, values in held.items()}
        save(folder / f"{i}.parquet", part)
    others.append(read(folder, Reading()))
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "download").write_bytes((tmp_path / "t.csv").read_bytes())
    others.append(read(alone, Reading()))
    for other in others:
        assert other.rows == table.rows == 2_000
        for name, column_ in table.columns.items():
            assert other.columns[name].kind == column_.kind, name
            np.testing.assert_array_equal(other.columns[name].values, column_.values)
            assert other.columns[name].categories == column_.categories


def test_numbers_as_categories_are_the_same_in_any_form(tmp_path: Path) -> None:
    """1 in a CSV file and 1.0 in a Parquet file are one category."""
    before = save(tmp_path / "r.csv", {"flag": np.arange(200) % 2})
    after = tmp_path / "c.parquet"
    pyarrow.parquet.write_table(pa.table({"flag": (np.arange(200) % 2).astype(float)}), after)
    result = measure(before, after, Config(), NOW)
    assert "new_categories" not in result["columns"][0]
    assert result["columns"][0]["statistics"]["total_variation"] == 0.0


def test_a_large_table_is_sampled(tmp_path: Path) -> None:
    """Counts are exact, the sample is uniform and the same each time, and its error is stated."""
    n = 50_000
    held = {"x": np.arange(n, dtype=float), "c": np.array(["a", "b"])[np.arange(n) % 2]}
    path = save(tmp_path / "t.csv", held)
    table, again = read(path, Reading(sample=2_000)), read(path, Reading(sample=2_000))
    x = table.columns["x"]
    np.testing.assert_array_equal(x.values, again.columns["x"].values)
    assert (table.rows, table.sampled, len(x.values)) == (n, 2_000, 2_000)
    assert len(np.unique(x.values)) == 2_000
    assert table.columns["c"].counts.tolist() == [n / 2, n / 2]
    error = kolmogorov_error(n, 2_000)
    assert np.abs(np.arange(1, 2_001) / 2_000 - x.values / n).max() < error < 0.04
    # The rows of a sample stay together.
    np.testing.assert_array_equal(x.values % 2, table.columns["c"].values)


def test_configuration_of_columns(tmp_path: Path) -> None:
    """A column can be left out, and be given another kind."""
    config = Config(
        columns={"id": ColumnConfig(ignore=True), "active": ColumnConfig(kind="number")}
    )
    result = found(tmp_path, columns(1), columns(2), config)
    assert column(result, "active")["kind"] == "number"
    assert "id" not in [c["name"] for c in result["columns"]]
