"""One type for the ids of a column: what all files show, what the features are, or what the job says."""

from __future__ import annotations

import decimal
import gzip
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers.open import open_sources
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_matrix, write_table, write_text


def features(folder, ids):
    write_table(folder, "image.parquet", item_id=ids, vector=vectors([[1.0, 2.0]] * len(ids)))


@pytest.fixture
def folder(tmp_path):
    features(tmp_path, pa.array([1, 2]))
    return tmp_path


def csv_parts(folder, *parts):
    for number, rows in enumerate(parts):
        write_text(folder, f"events/{number}.csv", ["user_id,item_id", *rows])


def parts(folder, *tables):
    for number, (users, items) in enumerate(tables):
        write_table(folder, f"events/{number}.parquet", user_id=users, item_id=items)


def read(folder, **data):
    """Users, items, and the items of the features."""
    job = raw_job(folder, interactions="events", **data)
    sources = open_sources(job.data, find_files(job))
    source = sources.interactions
    rows = pa.concat_tables(table for piece in source.pieces for table in source.read(piece))
    assert rows["user_id"].type == source.user_type
    assert rows["item_id"].type == source.item_type
    batches = [
        batch.items for f in sources.features.values() for piece in f.pieces for batch in f.read(piece)
    ]
    assert {items.type for items in batches} == {source.item_type}
    known = [item for items in batches for item in items.to_pylist()]
    return rows["user_id"].to_pylist(), rows["item_id"].to_pylist(), known


def refusal(folder, **data):
    job = raw_job(folder, interactions="events", **data)
    with pytest.raises(InputError) as caught:
        read(folder, **data)
    return str(caught.value).replace(job.data.path, "raw")


def test_text_in_the_second_file_makes_all_ids_text(folder):
    csv_parts(folder, ["7,1", "8,2"], ["a7,1", "7,2"])
    assert read(folder)[:2] == (["7", "8", "a7", "7"], [1, 2, 1, 2])


@pytest.mark.parametrize("late", ["x", "007", "-0", "+5", "1e5", "1_0", "0x1F", "9223372036854775808"])
def test_text_after_the_first_block_makes_all_ids_text(folder, monkeypatch, late):
    monkeypatch.setattr("mmssl_dist.data.readers.delimited.BLOCK_BYTES", 32)
    csv_parts(folder, [*["7,1"] * 20, f"{late},1"])
    assert read(folder)[0] == [*["7"] * 20, late]


def test_integers_to_the_end_of_int64(folder):
    least, largest = -(2**63), 2**63 - 1
    csv_parts(folder, [f"{largest},1", f"{least},2", f"{largest - 1},1"])
    assert read(folder)[0] == [largest, least, largest - 1]
    parts(folder, (pa.array([largest, 5], pa.uint64()), [1, 2]))
    (folder / "raw/events/0.csv").unlink()
    assert read(folder)[0] == [largest, 5]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("column_type", [pa.uint64(), pa.decimal128(20, 0)])
def test_integers_beyond_int64_are_text_in_all_files(folder, column_type, statistics):
    (folder / "raw/events").mkdir()
    wide = pa.table({"user_id": pa.array([5, 2**64 - 1], column_type), "item_id": [1, 2]})
    pq.write_table(pa.table({"user_id": [5, 6], "item_id": [1, 2]}), folder / "raw/events/0.parquet")
    pq.write_table(wide, folder / "raw/events/1.parquet", write_statistics=statistics)
    assert read(folder)[0] == ["5", "6", "5", str(2**64 - 1)]


def test_digits_beside_text_in_the_features(tmp_path):
    features(tmp_path, ["1", "10", "007"])
    csv_parts(tmp_path, ["1, 10", "2,1 ", "3,007"])
    assert read(tmp_path) == ([1, 2, 3], ["10", "1", "007"], ["1", "10", "007"])


def test_spaces_around_integers(folder):
    csv_parts(folder, ["1, 2", " 2 ,1", "3,\t2"])
    assert read(folder)[:2] == ([1, 2, 3], [2, 1, 2])


def test_text_items_beside_integers_of_the_features_are_named(folder):
    csv_parts(folder, ["1,1", "1,007"])
    assert refusal(folder) == (
        "raw/events/0.csv, line 3: found '007'; ids of this column are integers, since they are integers in "
        "raw/image.parquet, column item_id. Correct the id, or write the integers as text, "
        "with leading zeros where these ids have them."
    )
    write_matrix(folder, "image.npy", np.zeros((3, 2), np.float32))
    assert "since they are integers in raw/image.npy, whose rows are items 0, 1, ..." in refusal(
        folder, modalities={"image": "image.npy"}
    )


@pytest.mark.parametrize("column_type", [pa.null(), pa.float64(), pa.string(), pa.int8(), pa.date32()])
@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("first", [True, False])
def test_files_without_a_value_have_no_say(tmp_path, column_type, rows, first):
    features(tmp_path, ["a", "b"])
    empty, full = (
        (pa.nulls(rows, column_type), pa.nulls(rows, column_type)),
        (pa.array([3, 4]), pa.array(["a", "b"])),
    )
    parts(tmp_path, *((empty, full) if first else (full, empty)))
    users, items, _ = read(tmp_path)
    assert [user for user in users if user is not None] == [3, 4]
    assert [item for item in items if item is not None] == ["a", "b"]
    assert len(users) == 2 + rows


def test_nan_alone_is_no_value(tmp_path):
    features(tmp_path, ["a", "b"])
    parts(tmp_path, (pa.array([float("nan")]), pa.array([float("nan")])), (["x"], ["a"]))
    assert read(tmp_path)[:2] == ([None, "x"], [None, "a"])


def test_features_without_a_value_have_no_say(folder):
    job = {"image": "image.parquet", "text": "text"}
    write_table(folder, "text/0.parquet", item_id=pa.nulls(1), vector=vectors([None]))
    write_table(folder, "text/1.parquet", item_id=["a"], vector=vectors([[1]]))
    features(folder, pa.array(["a", "b"]))
    csv_parts(folder, ["1,a"])
    assert read(folder, modalities=job) == ([1], ["a"], ["a", "b", "a"])


@pytest.mark.parametrize(
    "items",
    [
        pa.array([1.0, None, 2.0]),
        pa.array([1.0, float("nan"), 2.0], pa.float32()),
        pa.array([decimal.Decimal(1), None, decimal.Decimal(2)], pa.decimal128(20, 0)),
        pa.array([decimal.Decimal("1.00"), None, decimal.Decimal(2)], pa.decimal128(20, 2)),
        pa.array([1, None, 2], pa.uint64()).dictionary_encode(),
    ],
)
def test_whole_numbers_of_any_type_are_integers(folder, items):
    parts(folder, (["a", "b", "c"], items))
    assert read(folder)[1] == [1, None, 2]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        (pa.array([1.0, 1.5]), "1.5"),
        (pa.array([1.0, 2.0**53 + 2]), "9007199254740994.0"),
        (pa.array([1.0, float("inf")]), "inf"),
        (pa.array([decimal.Decimal("1.00"), decimal.Decimal("1.50")]), "Decimal('1.50')"),
    ],
)
def test_fractions_are_refused_with_their_value(folder, items, text):
    parts(folder, ([1, 2], items))
    assert f"raw/events/0.parquet, row 1: found {text}; ids are integers or text" in refusal(folder)


def test_floats_in_csv(folder):
    csv_parts(folder, ["1,1", "2,2"], ["1.0,2.0", "3.00,1"])
    assert read(folder)[:2] == ([1, 2, 1, 3], [1, 2, 2, 1])
    csv_parts(folder, ["1,1", "1.5,2"])
    assert refusal(folder).startswith(
        "raw/events/0.csv, line 3: found '1.5'; ids are integers or text, and all ids"
    )
    csv_parts(folder, ["1,1", "1.5,2", "v2,2"])
    assert read(folder)[0] == ["1", "1.5", "v2", "1.0", "3.00"]


def test_the_job_decides(tmp_path):
    features(tmp_path, ["1", "2"])
    parts(tmp_path, ([1, 2], ["1", "2"]), (["3", "4"], pa.array([2, 1])))
    string = {"types": {"user": "string", "item": "string"}}
    assert read(tmp_path, columns=string) == (["1", "2", "3", "4"], ["1", "2", "2", "1"], ["1", "2"])
    integer = {"types": {"user": "int", "item": "int"}}
    assert read(tmp_path, columns=integer) == ([1, 2, 3, 4], [1, 2, 2, 1], [1, 2])
    write_matrix(tmp_path, "image.npy", np.zeros((2, 2), np.float32))
    assert read(tmp_path, columns=string, modalities={"image": "image.npy"})[2] == ["0", "1"]
    parts(tmp_path, (["1", "007"], ["1", "2"]))
    assert refusal(tmp_path, columns=integer).startswith(
        "raw/events/0.parquet, row 1: found '007'; ids of this column are integers that fit into"
    )
    parts(tmp_path, ([b"1"], ["1"]), ([b"1"], ["1"]))
    assert "column user_id: found ids of type binary; data.columns.types.user is int" in refusal(
        tmp_path, columns=integer
    )


def test_uuids_become_text_where_the_job_says_so(tmp_path):
    values = [uuid.UUID(int=0xF << 124 | 0xABC << 60 | number) for number in range(3)]
    stored = pa.array([b"-" * 16, *(value.bytes for value in values), None], pa.uuid())
    columns = {"types": {"item": "string"}}
    texts = [str(value) for value in values]
    features(tmp_path, stored[1:4])
    parts(tmp_path, ([1, 2, 3, 4], stored[1:]), ([5, 6], [texts[2], texts[0]]))
    expected = [*texts, None, texts[2], texts[0]]
    assert read(tmp_path, columns=columns)[1:] == (expected, texts)
    assert "found ids of type string; ids of a column have one type in all files" in refusal(tmp_path)
    integers = {"types": {"item": "int"}}
    parts(tmp_path, ([1], stored[1:2]), ([2], stored[2:3]))
    assert "data.columns.types.item is int, which integers and text" in refusal(tmp_path, columns=integers)


def test_the_job_decides_in_csv(folder):
    csv_parts(folder, ["1.5,1", "2,2"])
    assert read(folder, columns={"types": {"user": "string"}})[0] == ["1.5", "2"]
    assert (
        "line 2: found '1.5'; ids of this column are integers, since data.columns.types.user is int"
        in refusal(folder, columns={"types": {"user": "int"}})
    )


def test_declared_types_that_disagree_name_both_files(folder):
    parts(folder, ([1], [1]), (["1"], [1]))
    assert refusal(folder) == (
        "raw/events/1.parquet, column user_id: found ids of type string; ids of a column have one type in "
        "all files, int64 in raw/events/0.parquet, column user_id. Write all files with the same types, with "
        "leading zeros alike; or set data.columns.types."
    )


def test_texts_and_bytes_of_any_width_are_one_type(folder):
    texts = [pa.string(), pa.large_string(), pa.string_view()]
    parts(
        folder,
        *((pa.array(["a"], column_type), [1]) for column_type in texts),
        (pa.array(["a"]).dictionary_encode(), [1]),
    )
    assert read(folder)[0] == ["a"] * 4
    parts(
        folder,
        *((pa.array([b"a"], column_type), [1]) for column_type in (pa.binary(), pa.large_binary()) * 2),
    )
    assert read(folder)[0] == [b"a"] * 4


def test_extension_types_are_their_storage(folder):
    value = uuid.UUID(int=5)
    parts(folder, (pa.array([value.bytes], pa.uuid()), [1]), (pa.array([value.bytes], pa.binary(16)), [2]))
    assert read(folder)[0] == [value.bytes] * 2


@pytest.mark.parametrize(
    "null", ["", "nan", "NaN", "NULL", "null", "None", "<NA>", "NA", " nan ", '""', '"NULL"']
)
def test_missing_ids_in_text(folder, null):
    csv_parts(folder, ["1,1", f"{null},2", f"2,{null}"])
    assert read(folder)[:2] == ([1, None, 2], [1, 2, None])


def test_what_is_missing_can_be_set(folder):
    csv_parts(folder, ["NA,1", "-1,2"])
    assert read(folder, columns={"null_values": ["-1"]})[0] == ["NA", None]


def test_files_with_a_header_only(folder):
    csv_parts(folder, [], ["a,1"], [])
    with gzip.open(folder / "raw/events/3.csv.gz", "wb") as stream:
        stream.write(b"user_id,item_id")
    assert read(folder)[:2] == (["a"], [1])
