"""Delta Lake and Iceberg tables: the rows of the current version; what cannot be read of them is named."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import find_files
from mmssl_dist.data.readers import open_sources
from mmssl_dist.errors import InputError
from tests.servers import client, moto_server, upload
from tests.unit.data.raw import make_job, vectors, write_table

FIRST = pa.table({"user_id": ["a", "b", "c"], "item_id": [0, 1, 2], "day": ["x", "y z", "x"]})
SECOND = pa.table({"user_id": ["d"], "item_id": [3], "day": ["y z"]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path, "image.parquet", item_id=range(4), vector=vectors([[1.0], [2.0], [3.0], [4.0]]))
    return tmp_path


def delta(folder: Path) -> Path:
    """Two appends, and a deletion that rewrote a file."""
    path = folder / "raw" / "events"
    write_deltalake(str(path), FIRST, partition_by=["day"])
    write_deltalake(str(path), SECOND, mode="append")
    DeltaTable(str(path)).delete("user_id = 'c'")
    return path


def iceberg(folder: Path) -> Path:
    catalog = SqlCatalog("tests", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/raw")
    catalog.create_namespace("lake")
    table = catalog.create_table("lake.events", schema=FIRST.schema)
    table.append(FIRST)
    table.append(SECOND)
    table.delete("user_id = 'c'")
    return folder / "raw" / "lake" / "events"


def rows(job: Job) -> list[tuple[str, int]]:
    source = open_sources(job.data, find_files(job)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    pairs = zip(*pa.concat_tables(tables).select(["user_id", "item_id"]).to_pydict().values(), strict=True)
    return sorted(pairs)


def job_of(folder: Path, name: str, **data) -> Job:
    return make_job(folder, interactions=name, **data)


def test_rows_of_a_delta_table_are_those_of_its_current_version(folder):
    path = delta(folder)
    assert len(list(path.rglob("*.parquet"))) == 4  # one of them was replaced
    job = job_of(folder, "events")
    assert rows(job) == [("a", 0), ("b", 1), ("d", 3)]
    # A column that only the names of folders have, with an encoded space
    by_day = make_job(folder, interactions="events", columns={"user": "day"})
    assert {day for day, _ in rows(by_day)} == {"x", "y z"}


def test_a_new_version_is_another_input(folder):
    path = delta(folder)
    before = find_files(job_of(folder, "events")).interactions
    DeltaTable(str(path)).delete("user_id = 'd'")
    after = find_files(job_of(folder, "events")).interactions
    assert {file.name for file in after} < {file.name for file in before}
    assert all(file.size == file.location.info().size for file in after)


def test_rows_of_an_iceberg_table_are_those_of_its_current_version(folder):
    path = iceberg(folder)
    assert len(list(path.rglob("*.parquet"))) == 3
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("d", 3)]


def test_files_of_an_iceberg_table_lie_in_its_folder(folder):
    shutil.copytree(iceberg(folder), folder / "raw" / "copied")
    with pytest.raises(InputError, match=r"a file elsewhere \(.*lie in its folder"):
        find_files(job_of(folder, "copied"))


def test_features_may_be_tables_too(folder):
    table = pq.read_table(folder / "raw" / "image.parquet")
    write_deltalake(str(folder / "raw" / "vectors"), table)
    write_table(folder, "interactions.parquet", user_id=[1, 2], item_id=[0, 3])
    job = make_job(folder, modalities={"image": "vectors"})
    (source,) = open_sources(job.data, find_files(job)).features.values()
    assert sum(len(batch.rows) for piece in source.pieces for batch in source.read(piece)) == 4


def test_a_table_without_rows_is_named(folder):
    write_deltalake(str(folder / "raw" / "events"), FIRST.slice(0, 0))
    with pytest.raises(InputError, match=r"found (a table without files|no row)"):
        find_files(job_of(folder, "events"))


@pytest.mark.parametrize(
    ("make", "name", "module", "extra"),
    [(delta, "events", "deltalake", "delta"), (iceberg, "lake/events", "pyiceberg.table", "iceberg")],
)
def test_the_package_is_named_where_it_is_missing(folder, monkeypatch, make, name, module, extra):
    make(folder)
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    with pytest.raises(InputError) as caught:
        find_files(job_of(folder, name))
    assert f"pip install 'mmssl-dist[{extra}]'" in str(caught.value)


def test_a_log_that_cannot_be_read(folder):
    log = delta(folder) / "_delta_log"
    for path in log.iterdir():
        path.write_text("{broken")
    with pytest.raises(InputError, match="the log of a table of Delta Lake must be readable"):
        find_files(job_of(folder, "events"))
    metadata = iceberg(folder) / "metadata"
    for path in metadata.glob("*.json"):
        path.write_text("{broken")
    with pytest.raises(InputError, match="the log of a table of Iceberg must be readable"):
        find_files(job_of(folder, "lake/events"))


def test_a_file_that_the_log_names_and_that_is_gone(folder):
    path = delta(folder)
    shutil.rmtree(next(path.glob("day=x")))
    with pytest.raises(InputError, match="events/day=x/part-"):
        rows(job_of(folder, "events"))


@pytest.mark.processes
def test_a_delta_table_in_object_storage(folder, monkeypatch):
    """Its log is read as every other file is, with no credentials but those of the storage."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    path = delta(folder)
    with moto_server() as endpoint:
        client(endpoint).create_bucket(Bucket="lake")
        upload(endpoint, "lake", folder / "raw", "raw")
        shutil.rmtree(path)
        job = job_of(folder, "events")
        data = job.data.model_copy(update={"path": "s3://lake/raw"})
        storage = Storage(endpoint=endpoint, region="us-east-1", path_style=True)
        assert rows(job.model_copy(update={"data": data, "storage": storage})) == [
            ("a", 0),
            ("b", 1),
            ("d", 3),
        ]
