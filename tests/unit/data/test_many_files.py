"""A folder of many small files costs what one file of their rows does: as few tasks, and as few rows handed
from task to task."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.data.files import find_files
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import numbered_rows
from mmssl_dist.data.readers.open import open_sources
from mmssl_dist.data.rows import grouped_pieces
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table

ROWS, ITEMS = 3000, 40


@pytest.fixture
def folder(tmp_path):
    """The same rows in one file, in 300, and in one of 300 row groups; features likewise."""
    rng = np.random.default_rng(3)
    table = pa.table({"user_id": rng.integers(0, 100, ROWS), "item_id": rng.integers(0, ITEMS, ROWS)})
    features = pa.table({"item_id": range(ITEMS), "vector": vectors(rng.random((ITEMS, 2)).tolist())})
    for name, whole in (("log", table), ("image", features)):
        columns = dict(zip(whole.column_names, whole.columns, strict=True))
        write_table(tmp_path, f"{name}1/part.parquet", **columns)
        step = max(1, len(whole) // 300)
        (tmp_path / f"raw/{name}300").mkdir()
        (tmp_path / f"raw/{name}groups").mkdir()
        pq.write_table(whole, tmp_path / f"raw/{name}groups/part.parquet", row_group_size=step)
        for number in range(0, len(whole), step):
            path = tmp_path / f"raw/{name}300/part-{number:05}.parquet"
            pq.write_table(whole.slice(number, step), path)
    return tmp_path


def made(folder, layout, counts=None):
    """The sources of one layout and the facts of what prepare's passes make of them."""
    job = raw_job(folder, interactions=f"log{layout}", modalities={"image": f"image{layout}"})
    sources = open_sources(job.data, find_files(job))
    numbers = local_numbers

    def counted(count: int):
        counts.append(count)
        return local_numbers(count)

    if counts is not None:
        numbers = counted
    rows = numbered_rows(job, sources.interactions, sources.features, numbers)
    return sources, rows.held_out_digest


@pytest.mark.parametrize("layout", ["300", "groups"])
def test_as_many_tasks_as_for_one_file_and_the_same_rows(folder, layout):
    one, many = [], []
    sources, digest = made(folder, "1", one)
    split, same = made(folder, layout, many)
    assert len(sources.interactions.pieces) == 1
    assert len(split.interactions.files) == (300 if layout == "300" else 1)
    assert same == digest
    assert many == one
    assert len(grouped_pieces(split.interactions)) == 1


def test_large_files_are_not_put_together(folder, monkeypatch):
    """Tasks hold files up to the limit: neighbours, each file once."""
    sources, _ = made(folder, "300")
    source = sources.interactions
    size = sum(file.size for file in source.files)
    monkeypatch.setattr("mmssl_dist.data.rows._TASK_BYTES", size / 10)
    groups = grouped_pieces(source)
    assert 9 <= len(groups) <= 11
    assert [piece for group in groups for piece in group] == list(range(300))
    monkeypatch.setattr("mmssl_dist.data.rows._TASK_BYTES", 1)
    assert len(grouped_pieces(source)) == 300


def test_rows_of_joined_files_keep_their_place_and_value(tmp_path):
    """Neighbours of equal types are read together, others apart; dictionaries may differ."""
    dictionary = pa.dictionary(pa.int32(), pa.string())
    parts = [
        pa.array(["b", None], dictionary),
        pa.array(["a", "b"], dictionary),
        pa.array([None, None], pa.float64()),
        pa.array(["c", "a"], pa.large_string()),
    ]
    for number, users in enumerate(parts):
        write_table(tmp_path, f"log/{number}.parquet", user_id=users, item_id=[number, 9])
        rows = [[number, 1.0], None]
        write_table(tmp_path, f"image/{number}.parquet", item_id=[number, 9], vector=vectors(rows))
    write_table(tmp_path, "image/9.parquet", item_id=[9], vector=vectors([[9.0, 1.0]]))
    job = raw_job(tmp_path, interactions="log", modalities={"image": "image"})
    sources = open_sources(job.data, find_files(job))
    read = pa.concat_tables(sources.interactions.read_all(sources.interactions.pieces))
    assert read["user_id"].to_pylist() == ["b", None, "a", "b", None, None, "c", "a"]
    assert read["item_id"].to_pylist() == [0, 9, 1, 9, 2, 9, 3, 9]
    assert read["file"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert read["row"].to_pylist() == [0, 1] * 4
    (batch,) = sources.features["image"].read_all(sources.features["image"].pieces)
    assert batch.items.to_pylist() == [0, 1, 2, 3, 9]
    assert batch.files.tolist() == [0, 1, 2, 3, 4]
    assert batch.rows.tolist() == [0] * 5
    assert batch.vectors.tolist() == [[0, 1], [1, 1], [2, 1], [3, 1], [9, 1]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([None, [5.0, float("inf")]], r"image/1.parquet, row 1: found inf in column 1"),
        ([[1.0, 2.0], [5.0]], r"image/1.parquet, row 1: found 1 values"),
    ],
)
def test_a_bad_row_of_joined_files_is_named(tmp_path, bad, message):
    write_table(tmp_path, "interactions.parquet", user_id=[1], item_id=[1])
    for number, rows in enumerate([[[1.0, 2.0], None], bad]):
        ids = [2 * number, 2 * number + 1]
        write_table(tmp_path, f"image/{number}.parquet", item_id=ids, vector=vectors(rows))
    job = raw_job(tmp_path, modalities={"image": "image"})
    source = open_sources(job.data, find_files(job)).features["image"]
    with pytest.raises(InputError, match=message):
        list(source.read_all(source.pieces))


def test_a_bad_interaction_of_joined_files_is_named(tmp_path):
    for number, ids in enumerate(([1.0, 2.0], [None, 2.5])):
        write_table(tmp_path, f"log/{number}.parquet", user_id=ids, item_id=[1, 2])
    write_table(tmp_path, "image.parquet", item_id=[1, 2], vector=vectors([[1.0], [2.0]]))
    job = raw_job(tmp_path, interactions="log")
    source = open_sources(job.data, find_files(job)).interactions
    with pytest.raises(InputError, match=r"log/1.parquet, row 1: found 2.5"):
        list(source.read_all(source.pieces))
