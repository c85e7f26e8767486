"""Every layout comes out as the same columns, with the row each interaction came from."""

from __future__ import annotations

import csv
import datetime
import gzip
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import RawFile, find_files
from mmssl_dist.data.readers.delimited import text_blocks
from mmssl_dist.data.readers.dialect import first_line
from mmssl_dist.data.readers.open import open_features, open_sources
from mmssl_dist.data.rows import live_and_tallies, read_interactions, tallied
from mmssl_dist.storage import open_location
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_matrix, write_table, write_text


def _read(job):
    source = open_sources(job.data, find_files(job)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    return source, pa.concat_tables(tables).to_pydict()


def _features(job):
    sources = open_features(job.data, find_files(job))
    read = {}
    for name, source in sources.items():
        batches = [batch for piece in source.pieces for batch in source.read(piece)]
        read[name] = (
            [item for b in batches for item in b.items.to_pylist()],
            np.concatenate([b.vectors for b in batches]),
        )
    return sources, read


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "image.parquet", item_id=[1, 2], vector=vectors([[1, 2], [3, 4]]))
    return tmp_path


def test_parquet_of_several_files_and_types(folder):
    write_table(
        folder,
        "events/a.parquet",
        who=pa.array(["x", "y"], pa.large_string()),
        what=pa.array([1, 2], pa.int16()),
    )
    write_table(
        folder, "events/b.parquet", who=pa.array(["z"]).dictionary_encode(), what=pa.array([3], pa.uint64())
    )
    source, read = _read(raw_job(folder, interactions="events", columns={"user": "who", "item": "what"}))
    assert read == {"user_id": ["x", "y", "z"], "item_id": [1, 2, 3], "row": [0, 1, 0]}
    assert (source.user_type, source.item_type, source.unit) == (pa.string(), pa.int64(), "row")


def test_parquet_row_numbers_go_on_over_row_groups(folder, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr("mmssl_dist.data.readers.open.PIECE_ROWS", 4)
    pq.write_table(
        pa.table({"user_id": range(10), "item_id": range(10)}),
        folder / "raw" / "interactions.parquet",
        row_group_size=3,
    )
    source, read = _read(raw_job(folder))
    assert len(source.pieces) == 2
    assert read["row"] == read["user_id"] == list(range(10))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (pa.array([3, 1], pa.int32()), [3, 1]),
        (pa.array([3.5, 1.0]), [3.5, 1.0]),
        (
            pa.array(
                [datetime.datetime(1970, 1, 1, 0, 0, 2), datetime.datetime(1970, 1, 1)], pa.timestamp("ns")
            ),
            [2_000_000_000, 0],
        ),
        (pa.array([datetime.date(1970, 1, 2), datetime.date(1970, 1, 1)]), [86_400_000_000_000, 0]),
        (pa.array(["1970-01-01T00:00:01", "1970-01-01 00:00:00"]), [1_000_000_000, 0]),
    ],
)
def test_times_of_any_kind_become_numbers(folder, times, expected):
    write_table(folder, "interactions.parquet", user_id=[1, 1], item_id=[1, 2], at=times)
    _, read = _read(raw_job(folder, columns={"time": "at"}, split={"method": "temporal"}))
    assert read["time"] == expected


def test_csv_keeps_ids_that_only_look_like_numbers(folder):
    write_text(
        folder, "log.csv", ["user_id,noise,item_id,at", '007,"a,b",1,0.5', "12,c,2,7", '"x ""y""",d,1,1e3']
    )
    source, read = _read(raw_job(folder, interactions="log.csv", columns={"time": "at"}))
    assert read == {
        "user_id": ["007", "12", 'x "y"'],
        "item_id": [1, 2, 1],
        "time": [0.5, 7.0, 1000.0],  # 1e3 makes them floats
        "row": [2, 3, 4],
    }
    assert source.unit == "line"


def test_csv_may_be_compressed_and_tsv_has_tabs(folder):
    with gzip.open(folder / "raw" / "log.csv.gz", "wt") as stream:
        stream.write("user_id,item_id\n1,2\n")
    assert _read(raw_job(folder, interactions="log.csv.gz"))[1] == {
        "user_id": [1],
        "item_id": [2],
        "row": [2],
    }
    write_text(folder, "log.tsv", ["user_id\titem_id", "a,b\t2"])
    assert _read(raw_job(folder, interactions="log.tsv"))[1]["user_id"] == ["a,b"]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_shows_another_delimiter_than_the_name_of_a_file(folder, name, delimiter):
    rows = ["user_id,noise,item_id", '"7,5;0|x","a\n1,2",1', "u;1,c,2" if delimiter == "," else "u1,c,2"]
    text = "\n".join(
        delimiter.join(f'"{cell}"' for cell in row) for row in csv.reader(io.StringIO("\n".join(rows)))
    )
    content = b"\xef\xbb\xbf" + text.encode()
    (folder / "raw" / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    read = _read(raw_job(folder, interactions=name))[1]
    assert read["user_id"] == ["7,5;0|x", "u;1" if delimiter == "," else "u1"]
    assert read["item_id"] == [1, 2]


@pytest.mark.parametrize(
    "header",
    [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\tx_label:token",
        "userID\titemID\trating\ttimestamp\tx_label",
    ],
)
def test_inter_files_of_recbole_and_mmrec(folder, header):
    write_text(folder, "baby.inter", [header, "0\t1\t5.0\t100\t0", "0\t2\t4.0\t200\t1", '1\t1\t"\t300\t2'])
    _, read = _read(raw_job(folder, layout="inter", split={"method": "given"}))
    assert read == {"user_id": [0, 0, 1], "item_id": [1, 2, 1], "split": [0, 1, 2], "row": [2, 3, 4]}
    _, read = _read(raw_job(folder, layout="inter", split={"method": "leave_last_out"}))
    assert read["time"] == [100, 200, 300]


def test_inter_columns_can_be_named(folder):
    write_text(folder, "a.inter", ["session:token\tuser_id:token\titem_id:token", "s\t1\t2"])
    assert _read(raw_job(folder, layout="inter", columns={"user": "session"}))[1]["user_id"] == ["s"]


def test_the_release_layout_carries_its_split(folder):
    for name, text in (("train", '{"0": [1, 2], "5": []}'), ("val", '{"0": [3]}'), ("test", '{"7": [1]}')):
        write_text(folder, f"{name}.json", [text])
    source, read = _read(raw_job(folder, layout="mmssl", split={"method": "given"}))
    assert read == {
        "user_id": [0, 0, 0, 7],
        "item_id": [1, 2, 3, 1],
        "row": [0, 0, 0, 7],
        "split": [0, 0, 1, 2],
    }
    assert source.unit == "user"
    assert "split" not in _read(raw_job(folder, layout="mmssl", split={"method": "ratio"}))[1]


def test_splits_by_name_or_number(folder):
    write_table(
        folder,
        "interactions.parquet",
        user_id=[1, 1, 1],
        item_id=[1, 2, 3],
        part=["train", " test", "validation"],
    )
    job = raw_job(folder, columns={"split": "part"}, split={"method": "given"})
    assert _read(job)[1]["split"] == [0, 2, 1]
    write_table(folder, "interactions.parquet", user_id=[1, 1, 1], item_id=[1, 2, 3], part=[0.0, 2.0, 1.0])
    assert _read(job)[1]["split"] == [0, 2, 1]


def test_rows_without_an_id_become_a_tally(folder):
    write_table(
        folder,
        "interactions.parquet",
        user_id=["a", None, "b", "c"],
        item_id=pa.array([1.0, 1.0, None, np.nan]),
    )
    job = raw_job(folder)
    source = open_sources(job.data, find_files(job)).interactions
    rows = pa.concat_tables(read_interactions(pa.table({"id": [0]}), source, ((0,),), 4))
    live, tallies = live_and_tallies(rows)
    assert live["user_id"].to_pylist() == ["a"]
    assert tallied(tallies)["null_id"] == sum(tallied(tallies).values()) == 3


@pytest.mark.parametrize(
    ("raw", "kept"), [("f2", "f2"), ("f4", "f4"), ("f8", "f4"), ("i8", "f4"), (">f4", "f4")]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_matrices_by_row(folder, raw, kept, order, monkeypatch):
    monkeypatch.setattr("mmssl_dist.data.readers.numbered.PIECE_BYTES", 20)
    matrix = np.arange(21).reshape(7, 3)
    write_matrix(folder, "image.npy", np.asarray(matrix, dtype=raw, order=order))
    sources, read = _features(
        raw_job(folder, modalities={"image": "image.npy"}, interactions="image.parquet")
    )
    items, values = read["image"]
    assert items == list(range(7))
    np.testing.assert_array_equal(values, matrix)
    assert values.dtype == sources["image"].dtype == np.dtype(kept)
    assert (sources["image"].rows, sources["image"].dimension) == (7, 3)
    assert len(sources["image"].pieces) == (
        1
        if order == "F"
        else 7 // max(1, 20 // (3 * np.dtype(raw).itemsize))
        + (7 % max(1, 20 // (3 * np.dtype(raw).itemsize)) > 0)
    )


@pytest.mark.parametrize(
    "list_type",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float16()),
        pa.list_(pa.int32(), 2),
    ],
)
def test_vectors_in_parquet_of_any_list_type(folder, list_type):
    column = pa.array(
        [[np.float16(1), np.float16(2)], None, [np.float16(5), np.float16(6)]], pa.list_(pa.float16())
    )
    values = (
        column.cast(pa.list_(pa.float32())).cast(list_type) if list_type != pa.list_(pa.float16()) else column
    )
    write_table(folder, "image.parquet", item_id=["a", "b", "c"], vector=values)
    _, read = _features(raw_job(folder, interactions="image.parquet"))
    items, values = read["image"]
    assert items == ["a", "c"]
    np.testing.assert_array_equal(values, [[1, 2], [5, 6]])
    assert values.dtype == (np.float16 if list_type == pa.list_(pa.float16()) else np.float32)


def test_pandas_writes_what_is_read(folder):
    frame = pd.DataFrame({"item_id": ["a", "b"], "vector": [np.ones(2), np.zeros(2)]})
    frame.to_parquet(folder / "raw" / "image.parquet")
    assert _features(raw_job(folder, interactions="image.parquet"))[1]["image"][0] == ["a", "b"]


@pytest.mark.parametrize("name", ["interactions.parquet", "log.csv"])
def test_a_column_may_serve_as_id_and_as_time(folder, name):
    if name.endswith(".csv"):
        write_text(folder, name, ["user_id,item_id", "1,20", "2,10"])
    else:
        write_table(folder, name, user_id=[1, 2], item_id=[20, 10])
    job = raw_job(folder, interactions=name, columns={"time": "item_id"}, split={"method": "leave_last_out"})
    source = open_sources(job.data, find_files(job)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    assert [value for table in tables for value in table["item_id"].to_pylist()] == [20, 10]
    assert [value for table in tables for value in table["time"].to_pylist()] == [20, 10]


def test_the_first_row_shows_what_separates_a_header_with_commas(folder):
    write_text(folder, "log.csv", ["user_id;price, in euro;item_id", "7;1,50;8", "9;2;8"])
    read = _read(raw_job(folder, interactions="log.csv"))[1]
    assert (read["user_id"], read["item_id"]) == ([7, 9], [8, 8])


@pytest.mark.parametrize(
    ("name", "lines", "column"),
    [
        ("log.csv", ["user_id,item_id,action|drama|comedy|war", "7,8,0|1|0|0", "9,8,1|0|1|0"], "user_id"),
        ("log.csv", ["user_id,item_id,genre|sub|x|y", "7,8,war"], "user_id"),
        ("log.tsv", ["user_id\titem_id\ta,b,c,d", "7\t8\t1,2,3,4", "9\t8\t"], "user_id"),
        ("log.csv", ["user_id;note, long;item_id", "7;1,50;8", "9;2;8"], "user_id"),
    ],
)
def test_a_delimiter_within_columns_is_no_other_delimiter(folder, name, lines, column):
    write_text(folder, name, lines)
    read = _read(raw_job(folder, interactions=name))[1]
    assert (read[column], set(read["item_id"])) == ([7, 9][: len(lines) - 1], {8})


def test_one_column_stays_one(folder):
    write_text(folder, "ids.csv", ["name;x", "1", "2"])
    file = RawFile(location=open_location(str(folder / "raw/ids.csv"), Storage()), size=11, modified=None)
    assert first_line(file) == (("name;x",), ",", ("name;x",))
    assert [columns["name;x"].to_pylist() for columns in text_blocks(file, ["name;x"], ())] == [["1", "2"]]
