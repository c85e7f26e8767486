"""JSON lines stand beside CSV: the same ids, times and missing values, and every mistake with its line."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from mmssl_dist.data.columns import ITEM_ID, RATING, SPLIT, TIME, USER_ID
from mmssl_dist.data.files import find_files, find_titles
from mmssl_dist.data.readers import json_lines, open_sources
from mmssl_dist.data.titles import read_titles
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table, write_text


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "image.parquet", item_id=[1, 2, 3], vector=vectors([[1], [2], [3]]))
    return tmp_path


def write(folder, *records, name="log.jsonl"):
    return write_text(folder, name, [r if isinstance(r, str) else json.dumps(r) for r in records])


def read(folder, whole=True, **data):
    job = raw_job(folder, **{"interactions": "log.jsonl", **data})
    source = open_sources(job.data, find_files(job), whole=whole).interactions
    return pa.concat_tables(table for piece in source.pieces for table in source.read(piece))


def columns(folder, *names, **data):
    return read(folder, **data).select(names).to_pydict()


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "jsonl.gz", "ndjson.zst"])
def test_rows_of_every_ending(folder, suffix):
    text = '{"user_id": "a", "item_id": 1, "note": {"x": [1]}}\r\n\n{"item_id": 2, "user_id": "b"}'
    path = folder / "raw" / f"log.{suffix}"
    if suffix.endswith("gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        codec = pa.Codec("zstd") if suffix.endswith("zst") else None
        path.write_bytes(
            codec.compress(text.encode(), asbytes=True) if codec else b"\xef\xbb\xbf" + text.encode()
        )
    for whole in (True, False):
        table = read(folder, whole, interactions=f"log.{suffix}")
        assert table[USER_ID].to_pylist() == ["a", "b"]
        assert table[ITEM_ID].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ([7, "8", 9.0], [7, 8, 9]),
        (["007", 7, True], ["007", "7", "true"]),
        ([2**63, 1], [str(2**63), "1"]),
        ([" a ", "\u00fc", "x"], ["a", "\u00fc", "x"]),
        ([None, "NaN", 3], [None, None, 3]),
        ([float("nan"), 1, 2], [None, 1, 2]),
    ],
)
def test_ids_are_those_of_csv(folder, users, expected):
    write(folder, *({"user_id": user, "item_id": 1} for user in users))
    assert columns(folder, USER_ID)[USER_ID] == expected
    write_text(
        folder, "log.csv", ["user_id,item_id", *(f"{'' if u is None else str(u).lower()},1" for u in users)]
    )
    assert columns(folder, USER_ID, interactions="log.csv")[USER_ID] == expected


@pytest.mark.parametrize("users", [["", " ", "NA", "x"], ["", " ", "NA", 2**70, 1.5, "x"]])
def test_nothing_is_null_whatever_the_null_values_are(folder, users):
    settings = {"null_values": ["NA"]}
    expected = [None] * 3 + [str(user) for user in users[3:]]
    write(folder, *({"user_id": user, "item_id": 1} for user in users))
    assert columns(folder, USER_ID, columns=settings)[USER_ID] == expected
    write_text(folder, "log.csv", ["user_id,item_id", *(f"{user},1" for user in users)])
    assert columns(folder, USER_ID, interactions="log.csv", columns=settings)[USER_ID] == expected


@pytest.mark.parametrize("beside", ["3", '"x"', "1.5", str(2**70)])
def test_minus_zero_is_zero_whatever_is_beside_it(folder, beside):
    write(folder, *(f'{{"user_id": {user}, "item_id": 1}}' for user in ("-0", beside, '"y"')))
    assert columns(folder, USER_ID)[USER_ID][0] == "0"
    write(folder, *(f'{{"user_id": {user}, "item_id": 1}}' for user in ("-0", "3")))
    assert columns(folder, USER_ID)[USER_ID] == [0, 3]


def test_times_splits_and_ratings(folder):
    write(
        folder,
        {"user_id": 1, "item_id": 1, "at": "2024-01-02T00:00:00Z", "part": "train", "stars": 4.5},
        {"user_id": 1, "item_id": 2, "at": "2024-01-02", "part": 2, "stars": "3"},
    )
    settings = {"columns": {"time": "at", "split": "part", "rating": "stars"}, "split": {"method": "given"}}
    table = read(folder, min_rating=1, **settings)
    assert table[SPLIT].to_pylist() == [0, 2]
    assert table[RATING].to_pylist() == [4.5, 3.0]
    assert len(set(table[TIME].to_pylist())) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": 1, "item_id": }', r"log\.jsonl, line 4: found Expecting value"),
        ('{"user_id": 1, "item_id": 2} {"user_id": 2, "item_id": 2}', "line 4: found Extra data"),
        ("[1, 2]", "line 4: found a list; every line is a JSON object"),
        ('{"user_id": [1], "item_id": 2}', "line 4: found a list in user_id; a value is a text, a number"),
        ('{"user_id": {"id": 1}, "item_id": 2}', "line 4: found an object in user_id"),
        ('{"user_id": "\\ud800", "item_id": 2}', "line 4: found half of a surrogate pair in user_id"),
        ("null", "line 4: found null; every line is a JSON object"),
        ("7", "line 4: found 7; every line is a JSON object"),
        (
            '{"user_id": -Infinity, "item_id": 2}',
            "line 4: found an infinite number in user_id; a value",
        ),
        ("[" * 100_000, "line 4: found maximum recursion"),
        ('{"user_id": 1.5, "item_id": 2}', "line 4: found '1.5'; ids are integers or text"),
        ('{"user_id": 1, "item_id": "x"}', "line 4: found 'x'; ids of this column are integers"),
    ],
)
@pytest.mark.parametrize("before", [["", "\t"], ['{"user_id": 3, "item_id": 1}'] * 2])
def test_a_mistake_has_its_line(folder, line, message, before):
    write(folder, {"user_id": 3, "item_id": 1}, *before, line, {"user_id": 3, "item_id": 3})
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.parametrize("line", ["null", "7", '"x"', "[1]"])
def test_a_line_beyond_the_first_ones_that_is_no_object(folder, monkeypatch, line):
    monkeypatch.setattr("mmssl_dist.data.readers.json_lines._SAMPLE_BYTES", 100)
    write(folder, *([{"user_id": "u", "item_id": 1}] * 10), f" {line}", {"user_id": "v", "item_id": 1})
    with pytest.raises(InputError, match=rf"line 11: found (a list|{line}); every line is a JSON object"):
        read(folder)


def test_text_that_is_not_utf_8(folder):
    path = write(folder, {"user_id": "a", "item_id": 1})
    path.write_bytes(path.read_bytes() + b'{"user_id": "caf\xe9", "item_id": 1}\n')
    with pytest.raises(InputError, match=r"line 2: found 'utf-8' codec can't decode byte"):
        read(folder)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"user": 1, "item_id": 1}], r"line 1: found columns user, item_id; a column user_id is needed"),
        ([{"u": {"a": 1}}], r"line 1: found columns u; columns user_id, item_id are needed"),
        ([{"user_id": {"a": 1}, "item_id": 1}], "line 1: found an object in user_id"),
        ([{}], "found no object with a key"),
        ([""], "found no object with a key; the first lines name the columns"),
    ],
)
def test_columns_that_are_not_there(folder, records, message):
    write(folder, *records)
    with pytest.raises(InputError, match=message):
        read(folder)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_blocks_and_the_last_one(folder, monkeypatch, ending):
    """Lines across blocks, in both ways to parse them; and the end of a file alone, for `validate`."""
    for module in ("json_lines", "delimited"):
        monkeypatch.setattr(f"mmssl_dist.data.readers.{module}.BLOCK_BYTES", 200)
    lines = [json.dumps({"user_id": f"u{n}" if n % 3 else n, "item_id": n % 3 + 1}) for n in range(100)]
    content = "\n".join(lines).encode()
    path = folder / "raw" / f"log.{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    name = f"log.{ending}"
    assert columns(folder, USER_ID, interactions=name)[USER_ID] == [
        f"u{n}" if n % 3 else str(n) for n in range(100)
    ]
    job = raw_job(folder, interactions=name)
    source = open_sources(job.data, find_files(job), whole=False).interactions
    (last,) = source.last_pieces
    rows = pa.concat_tables(source.read(last))
    assert 1 < len(rows) < 20
    assert rows[USER_ID][-1].as_py() == "99"
    broken = b"\n".join([*content.split(b"\n")[:-1], b'{"user_id": 1, "item_id": "x"}'])
    path.write_bytes(gzip.compress(broken) if ending.endswith("gz") else broken)
    for whole in (True, False):
        with pytest.raises(InputError, match="line 100: found 'x'"):
            read(folder, whole, interactions=name)
    long = b'{"user_id": "' + b"x" * 1000 + b'", "item_id": 1}\n'
    path.write_bytes(gzip.compress(long) if ending.endswith("gz") else long)
    with pytest.raises(InputError, match="line 1: found more than 200 bytes; every object must be on a line"):
        read(folder, interactions=name)


def test_a_first_line_longer_than_what_names_the_columns(folder, monkeypatch):
    monkeypatch.setattr("mmssl_dist.data.readers.json_lines._SAMPLE_BYTES", 100)
    users = ["u" * 1000, "v"]
    write(folder, "", *({"user_id": user, "item_id": 1} for user in users))
    assert columns(folder, USER_ID)[USER_ID] == users
    monkeypatch.setattr("mmssl_dist.data.readers.json_lines.BLOCK_BYTES", 500)
    with pytest.raises(InputError, match="line 2: found more than 500 bytes"):
        read(folder)


def test_titles(folder):
    write(folder, {"user_id": 1, "item_id": 1})
    write(
        folder,
        {"item_id": 1, "title": "A \u4e2d"},
        {"item_id": 2},
        {"item_id": "3", "title": 7},
        {"item_id": 4, "title": float("nan")},
        name="t.jsonl",
    )
    job = raw_job(folder, interactions="log.jsonl", titles="t.jsonl")
    assert read_titles(job.data, find_titles(job), [1, 2, 3, 4]) == {"1": "A \u4e2d", "3": "7"}


def test_both_ways_to_parse_agree():
    """Arrow's, for texts and integers; and ours, for what it refuses."""
    records = [{"a": "x", "b": 5, "c": None}, {"b": -7, "a": "\u00fc\n"}, {"a": None, "b": 2**62}]
    text = "\n\n".join(json.dumps(record) for record in records).encode()
    names = ["a", "b", "c"]
    by_arrow = json_lines._by_arrow(text, names)
    assert by_arrow == json_lines._by_python(text=text, name="t", line=1, names=names, lists=())
    assert by_arrow["b"].to_pylist() == ["5", "-7", str(2**62)]
