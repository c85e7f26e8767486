"""Bad raw files: one message each, with the file and row, the value, the rule and what to do."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from mmssl_dist.data.files import RawFile, find_files
from mmssl_dist.data.readers.base import FeatureSource, InteractionSource
from mmssl_dist.data.readers.numbered import open_numbered
from mmssl_dist.data.readers.open import open_features, open_sources
from mmssl_dist.errors import InputError, StorageError
from mmssl_dist.storage import Location
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_matrix, write_table, write_text


def _read_all(job):
    sources = open_sources(job.data, find_files(job))
    readers: tuple[InteractionSource | FeatureSource, ...] = (
        sources.interactions,
        *sources.features.values(),
    )
    for reader in readers:
        for piece in reader.pieces:
            list(reader.read(piece))


def _message(job):
    with pytest.raises(InputError) as caught:
        _read_all(job)
    assert caught.value.exit_status == 2
    assert caught.value.remedy.endswith(".")
    return str(caught.value).replace(job.data.path, "raw")


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "interactions.parquet", user_id=[1, 1], item_id=[0, 1])
    write_table(tmp_path, "image.parquet", item_id=[0, 1], vector=vectors([[1, 2], [3, 4]]))
    return tmp_path


NPY = {"image": "image.npy"}


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_matrix_with_a_value_that_is_not_finite(folder, value, text):
    matrix = np.zeros((5, 3), np.float32)
    matrix[3, 1] = value
    write_matrix(folder, "image.npy", matrix)
    assert _message(raw_job(folder, modalities=NPY)) == (
        f"raw/image.npy, row 3: found {text} in column 1; features are finite numbers of type float32. "
        "Replace the value."
    )


def test_a_double_too_large_for_float32(folder):
    write_matrix(folder, "image.npy", np.array([[1.0], [1e39]]))
    assert "raw/image.npy, row 1: found inf in column 0" in _message(raw_job(folder, modalities=NPY))


def test_a_matrix_with_too_few_rows(folder):
    write_matrix(folder, "image.npy", np.zeros((5, 3), np.float32))
    write_matrix(folder, "audio.npy", np.zeros((4, 2), np.float32))
    assert _message(raw_job(folder, modalities={"image": "image.npy", "audio": "audio.npy"})).startswith(
        "raw/audio.npy: found 4 rows; row-numbered features have one row per item, 5 as in raw/image.npy."
    )


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.zeros(5), "found shape (5,); features are a matrix"),
        (np.zeros((0, 5)), "found shape (0, 5); features are a matrix"),
        (np.zeros((2, 2), complex), "found values of type complex128; features are real numbers"),
        (np.array([["a"]]), "found values of type <U1; features are real numbers"),
        (
            np.array([[{}]], dtype=object),
            "found values of type object; features are real numbers (pickled objects are refused)",
        ),
    ],
)
def test_arrays_that_are_no_matrix_of_numbers(folder, matrix, expected):
    np.save(folder / "raw" / "image.npy", matrix, allow_pickle=True)
    assert f"raw/image.npy: {expected}" in _message(raw_job(folder, modalities=NPY))


def test_a_matrix_cut_short(folder):
    path = write_matrix(folder, "image.npy", np.zeros((5, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    assert "raw/image.npy: found 184 bytes; shape (5, 3) of float32 makes 188 bytes" in _message(
        raw_job(folder, modalities=NPY)
    )
    path.write_bytes(b"no array")
    assert "raw/image.npy: found" in _message(raw_job(folder, modalities=NPY))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 2], [3, np.nan]], "row 1: found nan in column 1; features are finite"),
        ([[1, 2], None, [3, None]], "row 2: found nan in column 1; features are finite"),
        ([[1, 2], None, [3]], "row 2: found 1 values; vectors of a modality have one length, here 2"),
    ],
)
def test_vectors_in_parquet(folder, rows, expected):
    write_table(folder, "image.parquet", item_id=range(len(rows)), vector=vectors(rows))
    assert f"raw/image.parquet, {expected}" in _message(raw_job(folder))


def test_vectors_without_an_item(folder):
    write_table(folder, "image.parquet", item_id=[0, None], vector=vectors([[1, 2], [3, 4]]))
    assert "raw/image.parquet, row 1: found no item id; every vector belongs to an item" in _message(
        raw_job(folder)
    )


def test_a_column_that_is_no_list(folder):
    write_table(folder, "image.parquet", item_id=[0], vector=[1.0])
    assert "raw/image.parquet, column vector: found type double; features are a list column" in _message(
        raw_job(folder)
    )


def test_ids_of_two_types(folder):
    write_table(folder, "image.parquet", item_id=["0", "1"], vector=vectors([[1, 2], [3, 4]]))
    assert _message(raw_job(folder)) == (
        "raw/interactions.parquet, column item_id: found ids of type int64; item ids have one type; those of "
        "raw/image.parquet, column item_id are string. Write both with the same type, or set "
        "data.columns.types.item."
    )
    write_table(folder, "interactions.parquet", user_id=[1], item_id=["a"])
    write_matrix(folder, "image.npy", np.zeros((5, 3), np.float32))
    assert _message(raw_job(folder, modalities=NPY)).startswith(
        "raw/interactions.parquet, column item_id: found ids of type string; item ids have one type; those "
        "of raw/image.npy, whose rows are items 0, 1, ... are int64."
    )


def test_interaction_files_of_two_types(folder):
    write_table(folder, "e/a.parquet", user_id=[1], item_id=[1])
    write_table(folder, "e/b.parquet", user_id=["1"], item_id=[1])
    assert (
        "raw/e/b.parquet, column user_id: found ids of type string; ids of a column have one type "
        "in all files" in (_message(raw_job(folder, interactions="e")))
    )


def test_a_missing_column(folder):
    assert _message(raw_job(folder, columns={"user": "who"})).startswith(
        "raw/interactions.parquet: found columns user_id, item_id; a column who is needed."
    )
    write_text(folder, "log.csv", ["user_id,item"])
    assert "raw/log.csv, line 1: found columns user_id, item; a column item_id is needed" in _message(
        raw_job(folder, interactions="log.csv")
    )
    write_text(folder, "a.inter", ["user_id:token\titem_id:token"])
    assert (
        "raw/a.inter, line 1: found columns user_id:token, item_id:token; a column x_label is needed"
        in _message(raw_job(folder, layout="inter", split={"method": "given"}))
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "log.csv",
            "user_id:item_id\n1:2\n",
            "found columns user_id:item_id; columns user_id, item_id are needed. Name the right column",
        ),
        (
            "log.csv",
            "user;item,user\n1;2,3\n",
            "found columns user;item, user; columns user_id, item_id are needed. Name the right column",
        ),
        (
            "log.csv",
            "user\n1\n",
            "found columns user; columns user_id, item_id are needed. Name the right column",
        ),
    ],
)
def test_a_header_without_the_columns_is_shown_as_it_is_read(folder, name, text, message):
    (folder / "raw" / name).write_text(text)
    assert f"raw/{name}, line 1: {message}" in _message(raw_job(folder, interactions=name))


def test_every_missing_column_is_named_at_once(folder):
    columns = {"user": "who", "item": "what", "time": "when"}
    expected = "found columns user_id, item_id; columns who, what, when are needed"
    assert expected in _message(raw_job(folder, columns=columns))
    write_text(folder, "log.csv", ["user_id,item_id", "1,2"])
    assert expected in _message(raw_job(folder, columns=columns, interactions="log.csv"))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_text_in_latin_1_is_named_with_its_line(folder, suffix):
    content = "user_id,item_id\n1,2\n1,3\nRené,2\n".encode("latin-1")
    (folder / f"raw/log.{suffix}").write_bytes(gzip.compress(content) if suffix == "csv.gz" else content)
    message = _message(raw_job(folder, interactions=f"log.{suffix}"))
    assert message.startswith(
        f"raw/log.{suffix}, line 4: found the byte(s) e9; delimited text is UTF-8. Save"
    )
    assert "iconv -f cp1252 -t utf-8" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_text_in_utf_16_is_named_as_that(folder, encoding):
    text = "user_id,item_id\n1,2\n" if encoding == "utf-16" else "\ufeffuser_id,item_id\n1,2\n"
    (folder / "raw/log.csv").write_bytes(text.encode(encoding))
    message = _message(raw_job(folder, interactions="log.csv"))
    assert message.startswith("raw/log.csv, line 1: found UTF-16; delimited text is UTF-8.")


def test_files_that_are_not_what_they_are_called(folder):
    write_text(folder, "interactions.parquet", ["text"])
    assert "raw/interactions.parquet: found" in _message(raw_job(folder))
    write_text(folder, "log.csv", ["user_id,item_id", "1,2", "1,2,3"])
    assert "raw/log.csv, line 3: found" in _message(raw_job(folder, interactions="log.csv"))
    write_text(folder, "empty.csv", [])
    assert "raw/empty.csv, line 1: found nothing; the first line names the columns" in _message(
        raw_job(folder, interactions="empty.csv")
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("3,2,x", "line 8: found 'x'; times are numbers, dates or ISO timestamps, all of one kind"),
        ("3,2,", "line 8: found nothing; every interaction has a time"),
        (
            "3,x3,5",
            "line 8: found 'x3'; ids of this column are integers, since they are integers in raw/image",
        ),
    ],
)
def test_bad_values_in_csv(folder, monkeypatch, row, expected):
    monkeypatch.setattr(
        "mmssl_dist.data.readers.delimited.BLOCK_BYTES", 32
    )  # the bad row is in a later block
    write_text(folder, "log.csv", ["user_id,item_id,at", *["1,2,1"] * 6, row])
    assert f"raw/log.csv, {expected}" in _message(
        raw_job(folder, interactions="log.csv", columns={"time": "at"})
    )


def test_a_time_that_is_not_finite(folder):
    write_table(folder, "interactions.parquet", user_id=[1, 1], item_id=[1, 2], at=[1.0, float("inf")])
    assert "raw/interactions.parquet, row 1: found inf; times are finite" in _message(
        raw_job(folder, columns={"time": "at"})
    )


@pytest.mark.parametrize("value", [3, 1.5, "dev", None])
def test_a_split_that_is_none(folder, value):
    write_table(
        folder,
        "interactions.parquet",
        user_id=[1, 1],
        item_id=[1, 2],
        part=pa.array([type(value or 0)(0), value]),
    )
    text = "nothing" if value is None else repr(value)
    assert (
        f"raw/interactions.parquet, row 1: found {text}; a split is 0, 1, 2 or train, validation, test"
        in _message(raw_job(folder, columns={"split": "part"}, split={"method": "given"}))
    )


def test_an_item_id_too_large_for_the_features(folder):
    write_table(folder, "interactions.parquet", user_id=[1, 2], item_id=pa.array([1, 2**63], pa.uint64()))
    assert _message(raw_job(folder)) == (
        "raw/interactions.parquet, row 1: found 9223372036854775808; ids of this column are integers that "
        "fit into int64. Set data.columns.types to string, or write the ids as text in all files."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "raw/train.json: found list; the file maps users to lists of items"),
        ("{", "raw/train.json: found "),
        ('{"a": [1]}', "raw/train.json: found key 'a'; users are row numbers"),
        ('{"3": 1}', "raw/train.json, user 3: found 1; a user has a list of item rows, whole numbers"),
        ('{"3": [1, 2.5]}', "raw/train.json, user 3: found [1, 2.5]; a user has a list"),
        ('{"3": [true]}', "raw/train.json, user 3: found [True]; a user has a list"),
        (
            '{"3": [99999999999999999999]}',
            "raw/train.json, user 3: found [99999999999999999999]; a user has a list",
        ),
    ],
)
def test_bad_json(folder, text, expected):
    for name in ("train", "val", "test"):
        write_text(folder, f"{name}.json", [text if name == "train" else "{}"])
    assert expected in _message(raw_job(folder, layout="mmssl"))


def test_a_storage_that_does_not_answer_is_not_called_a_bad_file(tmp_path):
    elsewhere = pafs.SubTreeFileSystem(
        str(tmp_path), pafs.LocalFileSystem()
    )  # not local, as far as Location can tell
    file = RawFile(location=Location(elsewhere, "gone.npy", "s3://data/gone.npy"), size=100, modified=None)
    with pytest.raises(
        StorageError, match=r"^s3://data/gone.npy: found .*; the storage must answer. Check the URL"
    ):
        open_numbered(file)
    file = RawFile(
        location=Location(pafs.LocalFileSystem(), f"{tmp_path}/gone.npy", "gone.npy"), size=100, modified=None
    )
    with pytest.raises(InputError, match=r"^gone.npy: found .*; the file must be readable"):
        open_numbered(file)


def test_a_large_matrix_by_columns_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("mmssl_dist.data.readers.numbered._MAX_WHOLE_BYTES", 400)
    write_matrix(folder, "image.npy", np.zeros((50, 2), np.float32, order="F"))
    assert (
        "raw/image.npy: found a matrix of 528 bytes stored column by column; one of more than 400 bytes must"
        in _message(raw_job(folder, modalities=NPY))
    )
    write_matrix(folder, "image.npy", np.zeros((50, 2), np.float32))
    _read_all(raw_job(folder, modalities=NPY))


def test_a_matrix_that_shrinks_while_it_is_read(folder):
    path = write_matrix(folder, "image.npy", np.zeros((5, 2), np.float32))
    job = raw_job(folder, modalities=NPY)
    source = open_features(job.data, find_files(job))["image"]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(
        InputError, match="found fewer bytes than when it was opened; raw files must not change"
    ):
        list(source.read(source.pieces[0]))


def test_json_too_large_to_be_read_whole(folder, monkeypatch):
    monkeypatch.setattr("mmssl_dist.data.readers.release._MAX_BYTES", 10)
    for name in ("train", "val", "test"):
        write_text(folder, f"{name}.json", ['{"1": [1, 2, 3]}'])
    assert "raw/train.json: found 17 bytes; JSON is read whole, so a file has at most 10" in _message(
        raw_job(folder, layout="mmssl")
    )


def test_lines_may_end_as_on_any_system(folder):
    (folder / "raw/log.csv").write_bytes(b"user_id,item_id\r1,1\r")
    _read_all(raw_job(folder, interactions="log.csv"))


def test_a_time_column_that_cannot_be_read(folder):
    path = write_table(folder, "interactions.parquet", user_id=[1, 1], item_id=[0, 1], at=[3, 4])
    start = pq.ParquetFile(path).metadata.row_group(0).column(2)
    content = bytearray(path.read_bytes())
    first = min(offset for offset in (start.dictionary_page_offset, start.data_page_offset) if offset)
    content[first : first + 20] = b"\xff" * 20
    path.write_bytes(content)
    assert "raw/interactions.parquet: found" in _message(raw_job(folder, columns={"time": "at"}))


def test_text_that_is_no_utf_8(folder):
    path = write_table(folder, "interactions.parquet", user_id=["a", "zebra", "c"], item_id=[0, 1, 1])
    path.write_bytes(path.read_bytes().replace(b"zebra", b"z\xffbra"))
    assert (
        "raw/interactions.parquet, row 1: found bytes that are not valid UTF-8; texts are UTF-8"
        in _message(raw_job(folder))
    )


@pytest.mark.parametrize(
    "column_type", [pa.binary_view(), pa.list_(pa.int64()), pa.struct([("a", pa.int64())])]
)
def test_columns_that_cannot_hold_ids(folder, column_type):
    write_table(folder, "interactions.parquet", user_id=pa.array([None], column_type), item_id=[0])
    assert (
        f"raw/interactions.parquet, column user_id: found type {column_type}; ids are integers, text"
        in _message(raw_job(folder)).replace("list<element:", "list<item:")
    )


@pytest.mark.parametrize("name", ["events", "events/*"])
def test_files_of_several_formats_are_counted(folder, name):
    write_table(folder, "events/a.parquet", user_id=[1], item_id=[0])
    write_table(folder, "events/d.pq", user_id=[1], item_id=[0])
    write_text(folder, "events/b.csv", ["user_id,item_id", "1,1"])
    write_text(folder, "events/c.tsv", ["user_id\titem_id", "1\t1"])
    assert _message(raw_job(folder, interactions=name)) == (
        "data.interactions: found files of several formats: 2 of Parquet, such as a.parquet; "
        "1 of CSV, such as b.csv; 1 of TSV, such as c.tsv; the files that it names "
        "have one format. Name those of one format by a glob such as events/*.parquet, or convert the others."
    )
    _read_all(raw_job(folder, interactions="events/*.p*"))
