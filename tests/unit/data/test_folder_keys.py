"""Folders named as in Hive give columns: as ids, times and splits, in every kind of file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mmssl_dist.data.columns import ITEM_ID, SPLIT, TIME, USER_ID
from mmssl_dist.data.files import find_files, find_titles
from mmssl_dist.data.images import read_images
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import numbered_rows
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.titles import read_titles
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.unit.data.raw import vectors, write_table, write_text

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\1\0\0\0\1" + b"\x08\x02\0\0\0" + b"\0" * 8


def _read(job):
    sources = open_sources(job.data, find_files(job))
    numbered_rows(job, sources.interactions, sources.features, local_numbers)
    source = sources.interactions
    return pa.concat_tables(table for piece in source.pieces for table in source.read(piece))


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path, "image.parquet", item_id=[1, 2, 3], vector=vectors([[1], [2], [3]]))
    return tmp_path


def _write(folder, name, suffix, **columns):
    if suffix == "parquet":
        return write_table(folder, f"{name}.parquet", **columns)
    rows = zip(*columns.values(), strict=True)
    return write_text(folder, f"{name}.{suffix}", [",".join(columns), *(",".join(map(str, r)) for r in rows)])


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("pattern", ["events", "events/day=*/*"])
def test_a_time(folder, suffix, pattern):
    users = list(range(5))
    for day, item in (("2024-01-10", 3), ("2024-01-02", 1), ("2024-01-09", 2)):
        _write(folder, f"events/day={day}/a", suffix, user_id=users, item_id=[item] * 5)
    job = raw_job(folder, interactions=pattern, columns={"time": "day"}, split={"method": "leave_last_out"})
    table = _read(job)
    order = np.argsort(table[TIME].to_numpy(), kind="stable")
    assert table[ITEM_ID].take(pa.array(order)).to_pylist() == [1] * 5 + [2] * 5 + [3] * 5


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("values", "expected"), [(("7", "10"), [7, 10]), (("007", "x%2F%C3%BC%3D1"), ["007", "x/ü=1"])]
)
def test_users(folder, suffix, values, expected):
    for value in values:
        _write(folder, f"events/user={value}/a", suffix, item_id=[1, 2, 3])
    job = raw_job(
        folder,
        interactions="events",
        columns={"user": "user"},
        split={"method": "ratio", "validation": 0, "test": 0.3},
    )
    assert sorted(_read(job)[USER_ID].unique().to_pylist(), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_splits_and_a_null(folder, suffix):
    for split in ("train", "validation", "test"):
        _write(folder, f"events/split={split}/user=1/a", suffix, item_id=[1, 2, 3])
    _write(folder, "events/split=train/user=__HIVE_DEFAULT_PARTITION__/a", suffix, item_id=[1])
    job = raw_job(
        folder,
        interactions="events",
        columns={"user": "user", "split": "split"},
        split={"method": "given"},
        min_interactions=0,
    )
    source = open_sources(job.data, find_files(job)).interactions
    table = pa.concat_tables(table for piece in source.pieces for table in source.read(piece))
    live = table.filter(table[USER_ID].is_valid())
    assert (live.num_rows, table.num_rows) == (9, 10)
    assert sorted(set(live[SPLIT].to_pylist())) == [0, 1, 2]


def test_items_of_features_titles_and_images(folder):
    pictures = {1: PNG + b"a", 2: PNG + b"b"}
    for item in (1, 2):
        write_table(folder, f"vectors/item_id={item}/a.parquet", vector=vectors([[item, 0]]))
        write_table(folder, f"titles/item_id={item}/a.parquet", title=[f"title {item}"])
        write_table(folder, f"pictures/item_id={item}/a.parquet", image=[pictures[item]])
    write_text(folder, "names/item_id=2/a.csv", ["title", '"two', 'lines"'])
    write_table(folder, "interactions.parquet", user_id=[1, 2] * 2, item_id=[1, 1, 2, 2])
    job = raw_job(
        folder,
        modalities={"image": "vectors"},
        titles="titles",
        images="pictures",
        split={"method": "ratio", "validation": 0, "test": 0.5},
    )
    _read(job)
    features = open_sources(job.data, find_files(job)).features["image"]
    read = [batch for piece in features.pieces for batch in features.read(piece)]
    assert {b.items[0].as_py(): b.vectors[0].tolist() for b in read} == {1: [1, 0], 2: [2, 0]}
    assert read_titles(job.data, find_titles(job), [2, 1]) == {"1": "title 1", "2": "title 2"}
    images = read_images(job, find_files(job).images, [1, 2]).by_item
    assert {name: image.content for name, image in images.items()} == {
        str(item): content for item, content in pictures.items()
    }
    named = raw_job(folder, titles="names")
    assert read_titles(named.data, find_titles(named), [2]) == {"2": "two\nlines"}


def test_a_column_of_the_file_comes_first_and_a_missing_key_is_named(folder):
    write_table(folder, "events/user_id=9/a.parquet", user_id=[1, 2], item_id=[1, 2])
    job = raw_job(folder, interactions="events", split={"method": "ratio", "test": 0, "validation": 0})
    assert _read(job)[USER_ID].to_pylist() == [1, 2]
    write_table(folder, "events/b.parquet", item_id=[1])
    with pytest.raises(InputError, match=r"b.parquet: found columns item_id; a column user_id is needed"):
        _read(job)
