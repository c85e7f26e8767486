"""Titles of items: of the right ones, whatever the ids' type and the file's; and what is wrong with a
file."""

from __future__ import annotations

import decimal
import gzip
import json
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config.job import Job
from mmssl_dist.data.files import find_files, find_titles
from mmssl_dist.data.prepare import dataset_fingerprint
from mmssl_dist.data.titles import check_titles, read_titles
from mmssl_dist.errors import InputError
from tests.jobs import job_on
from tests.unit.data.raw import SKUS


def job(folder: Path, titles: str) -> Job:
    return job_on(folder, {**SKUS, "titles": titles})


def read(folder: Path, titles: str, items: list[object]) -> dict[str, str]:
    made = job(folder, titles)
    return read_titles(made.data, find_titles(made), items)


@pytest.mark.parametrize("ids", [[7, 8, 9], ["007", "8", "ü, 9"]])
def test_titles_of_the_items_asked_for(tmp_path, ids):
    table = pa.table({"price": [1.0, 2.0, 3.0], "title": ["A, b", "C", "\u4e2d\u6587"], "sku": ids})
    pq.write_table(table, tmp_path / "t.parquet")
    lines = ["price\ttitle\tsku", *("\t".join(map(str, row.values())) for row in table.to_pylist())]
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("t.parquet", "t.tsv.gz"):
        result = read(tmp_path, name, [ids[0], ids[2], "none"])
        assert result == {str(ids[0]): "A, b", str(ids[2]): "\u4e2d\u6587"}


def test_of_items_named_twice_the_last_and_of_those_without_a_title_none(tmp_path):
    pq.write_table(pa.table({"sku": [1, 1, 2], "title": ["old", "new", None]}), tmp_path / "t.parquet")
    assert read(tmp_path, "t.parquet", [1, 2]) == {"1": "new"}


def test_a_job_without_titles_has_none(tmp_path):
    made = job(tmp_path, "t.csv")
    without = made.model_copy(update={"data": made.data.model_copy(update={"titles": None})})
    assert find_titles(without) == ()
    assert read_titles(without.data, (), [1]) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"id,title\n1,x\n", r"t\.csv, line 1: found columns id, title; a column sku is needed"),
        (
            "t.csv",
            b"sku,name\n1,x\n",
            r"t\.csv, line 1: found columns sku, name; a column title is needed.*"
            r"Name the columns in the job \(data\.columns\.title for titles",
        ),
        ("t.parquet", b"PAR1 and no more", r"t\.parquet: found .*; the file must be readable Parquet"),
        ("t.csv", b"", r"t\.csv, line 1: found nothing; .* with a header alone may stay"),
        ("t.jsonl", b'{"sku": 1, "title": ["x"]}\n', r"t\.jsonl, line 1: found a list in title; a value is"),
        ("t.jsonl", b'{"sku": [1], "title": "x"}\n', r"t\.jsonl, line 1: found a list in sku; a value is"),
        ("t.doc", b"sku,title\n", r"data\.titles: found t\.doc; files end in"),
        ("else.csv", b"sku,title\n", "no such file; data.titles names a file"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    made = job(tmp_path, "t.csv" if name == "else.csv" else name)
    with pytest.raises(InputError, match=message):
        check_titles(made.data, find_titles(made))


def named_titles(folder: Path, titles: str, title: str, item: str | None = None) -> Job:
    columns = {"item": "sku", "title": title, "title_item": item}
    return job_on(folder, {**SKUS, "columns": columns, "titles": titles})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.jsonl", "t.parquet"])
@pytest.mark.parametrize("item", [None, "Nr."])
def test_the_job_names_the_columns_of_titles(tmp_path, name, item):
    """Then a column called title is like any other, whatever it has."""
    table = pa.table({item or "sku": [7, 8], "title": [1, 2], "Bezeichnung, kurz": ["Hemd", "Hose, blau"]})
    if name == "t.parquet":
        pq.write_table(table, tmp_path / name)
    elif name == "t.jsonl":
        rows = table.set_column(1, "title", [[["a"], ["b"]]]).to_pylist()
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if "tsv" in name else ","
        lines = [mark.join(f'"{value}"' for value in row) for row in [table.column_names, *rows_of(table)]]
        content = "\n".join(lines).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    made = named_titles(tmp_path, name, "Bezeichnung, kurz", item)
    for file in find_titles(made):
        check_titles(made.data, [file])
    assert read_titles(made.data, find_titles(made), [8, 9]) == {"8": "Hose, blau"}


def rows_of(table: pa.Table) -> list[list[object]]:
    return [list(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"sku,title\n1,x\n", r"t\.csv, line 1: found columns sku, title; a column name is needed"),
        ("t.jsonl", b'{"sku": 1, "title": "x"}\n', r"found columns sku, title; a column name is needed"),
        ("t.jsonl", b'{"sku": 1, "name": ["x"]}\n', r"t\.jsonl, line 1: found a list in name; a value is"),
        ("t.csv", b"sku,name,name\n1,x,y\n", r"found 2 columns name; column names must be unique"),
        ("t.parquet", {"sku": [1], "title": ["x"]}, r"found columns sku, title; a column name is needed"),
        (
            "t.parquet",
            {"sku": [1], "name": [2]},
            r"column name: found type int64; titles are texts.*columns\.t",
        ),
    ],
)
def test_what_is_wrong_with_a_named_column_is_told(tmp_path, name, content, message):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(pa.table(content), tmp_path / name)
    made = named_titles(tmp_path, name, "name")
    for look in (check_titles, lambda data, files: read_titles(data, files, [1])):
        with pytest.raises(InputError, match=message):
            look(made.data, find_titles(made))


def test_a_dataset_is_the_same_whatever_its_items_are_called(tmp_path):
    for name in ("interactions.parquet", "image.npy", "t.csv"):
        (tmp_path / name).touch()
    made = job(tmp_path, "t.csv")
    without = made.model_copy(update={"data": made.data.model_copy(update={"titles": None})})
    for other in (without, named_titles(tmp_path, "t.csv", "name", "nr")):
        assert dataset_fingerprint(made, find_files(made)) == dataset_fingerprint(other, find_files(other))


def test_a_broken_line_is_told(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"sku,title\n1,x\n2\n")
    with pytest.raises(InputError, match=r"t\.csv, line 3: found .*; every line has the header's columns"):
        read(tmp_path, "t.csv", [1])


def test_titles_of_several_lines_end_no_row(tmp_path):
    rows = "".join(f'{number},"title\n{number + 1},x"\n' for number in range(0, 400_000, 2))
    (tmp_path / "t.csv").write_text(f"sku,title\n{rows}", encoding="utf-8")
    titles = read(tmp_path, "t.csv", [0, 399_998, 399_999])
    assert titles == {"0": "title\n1,x", "399998": "title\n399999,x"}


def test_files_without_rows_may_stay_and_ids_have_any_type(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.csv").write_text("sku,title\n", encoding="utf-8")
    empty = pa.schema([("sku", pa.null()), ("title", pa.null())]).empty_table()
    pq.write_table(empty, tmp_path / "t/b.parquet")
    pq.write_table(pa.table({"sku": [1.0, None], "title": ["one", "none"]}), tmp_path / "t/c.parquet")
    texts = pa.array(["one again", "two"]).dictionary_encode()
    ids = pa.array([b"\0" * 15 + b"\1", b"\0" * 16], pa.uuid())
    pq.write_table(pa.table({"sku": ids, "title": texts}), tmp_path / "t/d.parquet")
    assert read(tmp_path, "t", [1, b"\0" * 16]) == {"1": "one", str(b"\0" * 16): "two"}
    as_text = "00000000-0000-0000-0000-000000000001"  # of a dataset whose ids are texts
    assert read(tmp_path, "t", [uuid.UUID(as_text)]) == {as_text: "one again"}
    none = pa.table({"sku": pa.array([None], pa.uuid()), "title": ["nobody's"]})
    for number in (0, 1):
        pq.write_table(none.slice(number), tmp_path / f"t/e{number}.parquet")
    assert read(tmp_path, "t", [as_text]) == {as_text: "one again"}


def test_integers_may_be_written_with_a_point(tmp_path):
    (tmp_path / "t").mkdir()
    large = 12_345_678_901_234_567
    (tmp_path / "t/a.csv").write_text('sku,title\n7.0,seven\n8.50,other\n"2.0",two\n', encoding="utf-8")
    decimals = pa.array([decimal.Decimal("9.00"), decimal.Decimal(large)], pa.decimal128(30, 2))
    pq.write_table(pa.table({"sku": decimals, "title": ["nine", "large"]}), tmp_path / "t/b.parquet")
    pq.write_table(
        pa.table({"sku": [2.0**53, 1e7], "title": ["exact", "ten million"]}), tmp_path / "t/c.parquet"
    )
    assert read(tmp_path, "t", [7, 8, 2, 9, large, 2**53, 10**7]) == {
        "7": "seven",
        "2": "two",
        "9": "nine",
        str(large): "large",
        str(2**53): "exact",
        str(10**7): "ten million",
    }
    assert read(tmp_path, "t/a.csv", ["7", "7.0"]) == {"7.0": "seven"}  # of a dataset whose ids are texts


def test_a_title_that_is_not_utf_8_is_named(tmp_path):
    """Parquet's readers believe that texts are UTF-8."""
    texts = pa.array([b"A", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"sku": [1, 2], "title": texts}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet, column title, row 1: .*UTF-8"):
        read(tmp_path, "t.parquet", [2])
