"""Delta Lake and Iceberg tables: the rows of the current version; what cannot be read of them is named."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, LongType

from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import find_files
from mmssl_dist.data.fingerprint import dataset_fingerprint
from mmssl_dist.data.readers import open_sources
from mmssl_dist.errors import InputError
from tests.jobs import raw_job
from tests.servers import client, moto_server, upload
from tests.unit.data.raw import vectors, write_table

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


def catalog_and_table(folder: Path, like: pa.Table):
    catalog = SqlCatalog("tests", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/raw")
    catalog.create_namespace("lake")
    return catalog, catalog.create_table("lake.events", schema=like.schema)


def iceberg(folder: Path) -> Path:
    _, table = catalog_and_table(folder, FIRST)
    table.append(FIRST)
    table.append(SECOND)
    table.delete("user_id = 'c'")
    return folder / "raw" / "lake" / "events"


def rows(job: Job) -> list[tuple[str, int]]:
    source = open_sources(job.data, find_files(job)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    pairs = zip(*pa.concat_tables(tables).select(["user_id", "item_id"]).to_pydict().values(), strict=True)
    return sorted(pairs, key=str)


def job_of(folder: Path, name: str, **data) -> Job:
    return raw_job(folder, interactions=name, **data)


def test_rows_of_a_delta_table_are_those_of_its_current_version(folder):
    path = delta(folder)
    assert len(list(path.rglob("*.parquet"))) == 4  # one of them was replaced
    job = job_of(folder, "events")
    assert rows(job) == [("a", 0), ("b", 1), ("d", 3)]
    # A column that only the names of folders have, with an encoded space
    by_day = raw_job(folder, interactions="events", columns={"user": "day"})
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


def metadata_files(table: Path) -> list[Path]:
    return sorted((table / "metadata").glob("*.metadata.json"))


def as_hadoop(
    table: Path, hint: str | None = None, ending: str = ".metadata.json", packed: bool = False
) -> None:
    """Name the files of metadata as engines without a catalog do."""
    for version, path in enumerate(metadata_files(table)):
        content = gzip.compress(path.read_bytes()) if packed else path.read_bytes()
        path.with_name(f"v{version}{ending}").write_bytes(content)
        path.unlink()
    if hint is not None:
        (table / "metadata" / "version-hint.text").write_text(hint)


@pytest.mark.parametrize("ending", [".gz.metadata.json", ".metadata.json.gz"])
@pytest.mark.parametrize("hint", [None, "3\n"])
def test_metadata_of_an_iceberg_table_may_be_compressed(folder, ending, hint):
    as_hadoop(iceberg(folder), hint, ending, packed=True)
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("d", 3)]


@pytest.mark.parametrize("hint", ["2", "v2", "v2.metadata.json"])
def test_the_hint_of_an_iceberg_table_says_which_metadata_counts(folder, hint):
    """Not the highest number: files of a table that lay there before may have one."""
    table = iceberg(folder)
    as_hadoop(table, hint)
    (table / "metadata" / "v3.metadata.json").rename(table / "metadata" / "v7.metadata.json")
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]
    # A commit writes the hint last
    (table / "metadata" / "v7.metadata.json").rename(table / "metadata" / "v3.metadata.json")
    (table / "metadata" / "version-hint.text").write_text("2")
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("d", 3)]


def test_which_metadata_is_current_has_to_be_clear(folder):
    table = iceberg(folder)
    newest = metadata_files(table)[-1]
    shutil.copy(newest, newest.with_name("00003-of-a-commit-that-failed.metadata.json"))
    with pytest.raises(InputError, match="one metadata file must have the highest number") as caught:
        find_files(job_of(folder, "lake/events"))
    assert newest.name in str(caught.value)
    hint = table / "metadata" / "version-hint.text"
    hint.write_text(newest.name)
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("d", 3)]
    for wrong, shown in (("12", "12"), ("1" * 5000, "1" * 80 + r"\.\.\.")):
        hint.write_text(wrong)
        with pytest.raises(
            InputError, match=rf"version-hint\.text: found '{shown}'; it must name a file of the"
        ):
            find_files(job_of(folder, "lake/events"))


def test_columns_of_an_iceberg_table_are_known_by_their_field_ids(folder):
    """Renamed, then another gets the name, and a third is new: files that were written before have other
    names."""
    catalog, table = catalog_and_table(folder, FIRST)
    table.append(FIRST)
    with table.update_schema() as update:
        update.rename_column("user_id", "buyer")
        update.rename_column("day", "user_id")
        update.add_column("at", LongType())
    table = catalog.load_table("lake.events")
    table.append(pa.table({"buyer": ["d"], "item_id": [3], "user_id": ["w"], "at": [5]}))
    job = job_of(folder, "lake/events", columns={"user": "buyer"})
    assert rows(job) == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]
    assert {user for user, _ in rows(job_of(folder, "lake/events"))} == {"w", "x", "y z"}
    # Rows of files without a column have no value in it
    assert rows(job_of(folder, "lake/events", columns={"user": "at"})) == [
        (5, 3),
        (None, 0),
        (None, 1),
        (None, 2),
    ]
    timed = job_of(folder, "lake/events", columns={"time": "at"}, split={"method": "temporal"})
    with pytest.raises(InputError, match="every interaction has a time"):
        rows(timed)
    before = dataset_fingerprint(job, find_files(job))
    with table.update_schema() as update:
        update.rename_column("at", "moment")
    assert dataset_fingerprint(job, find_files(job)) != before


def test_a_column_that_a_table_gained_has_its_default_in_earlier_files(folder):
    catalog, table = catalog_and_table(folder, FIRST)
    table.append(FIRST)
    with table.update_schema() as update:
        update.add_column("shop", LongType(), default_value=7)
        update.add_column("on", DateType(), default_value="2026-01-02")
    table = catalog.load_table("lake.events")
    new = {"shop": [8], "on": [date(2026, 1, 3)]}
    table.append(pa.table({"user_id": ["d"], "item_id": [3], "day": ["x"], **new}))
    assert table.scan().to_arrow()["shop"].to_pylist() == [8, 7, 7, 7]
    assert rows(job_of(folder, "lake/events", columns={"user": "shop"})) == [(7, 0), (7, 1), (7, 2), (8, 3)]
    timed = job_of(folder, "lake/events", columns={"time": "on"}, split={"method": "temporal"})
    source = open_sources(timed.data, find_files(timed)).interactions
    tables = [table for piece in source.pieces for table in source.read(piece)]
    times = sorted(
        zip(*pa.concat_tables(tables).select(["item_id", "time"]).to_pydict().values(), strict=True)
    )
    assert [time - times[0][1] for _, time in times] == [0, 0, 0, 24 * 3600 * 10**9]


def test_files_without_field_ids_need_the_table_s_names_for_them(folder):
    _, table = catalog_and_table(folder, FIRST)
    (folder / "raw" / "lake" / "events" / "data").mkdir()
    path = folder / "raw" / "lake" / "events" / "data" / "old.parquet"
    pq.write_table(FIRST, path)
    table.add_files([f"file://{path}"])  # writes a mapping of names
    with table.update_schema() as update:
        update.rename_column("user_id", "buyer")
    assert rows(job_of(folder, "lake/events", columns={"user": "buyer"})) == [("a", 0), ("b", 1), ("c", 2)]
    with table.transaction() as change:
        change.remove_properties("schema.name-mapping.default")
    with pytest.raises(InputError, match=r"old\.parquet: found columns without field ids"):
        rows(job_of(folder, "lake/events", columns={"user": "buyer"}))


def test_a_column_that_splits_an_iceberg_table_has_its_value_from_the_log(folder):
    """Its name, of a day say, is no guide where the column was renamed."""
    _, table = catalog_and_table(folder, FIRST)
    with table.update_spec() as update:
        update.add_identity("day")
    path = folder / "raw" / "lake" / "events" / "data" / "day=x" / "old.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(FIRST.slice(0, 1), path)
    table.add_files([f"file://{path}"])
    without = pq.read_table(path, partitioning=None).drop_columns(["day"])
    pq.write_table(without, path)  # as Hive's files are
    with table.update_schema() as update:
        update.rename_column("day", "buyer")
    assert rows(job_of(folder, "lake/events", columns={"user": "buyer"})) == [("x", 0)]


def test_files_of_an_iceberg_table_lie_in_its_folder(folder):
    shutil.copytree(iceberg(folder), folder / "raw" / "copied")
    with pytest.raises(InputError, match=r"a file elsewhere \(.*must be in its folder"):
        find_files(job_of(folder, "copied"))


def test_features_may_be_tables_too(folder):
    table = pq.read_table(folder / "raw" / "image.parquet")
    write_deltalake(str(folder / "raw" / "vectors"), table)
    write_table(folder, "interactions.parquet", user_id=[1, 2], item_id=[0, 3])
    job = raw_job(folder, modalities={"image": "vectors"})
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


def test_names_of_columns_that_cannot_be_read(folder):
    table = iceberg(folder)
    newest = metadata_files(table)[-1]
    content = json.loads(newest.read_text())
    for damaged in ("{broken", '[{"field-id": "x", "names": []}]'):
        content["properties"]["schema.name-mapping.default"] = damaged
        newest.write_text(json.dumps(content))
        with pytest.raises(InputError, match="the log of a table of Iceberg must be readable"):
            find_files(job_of(folder, "lake/events"))
    content["properties"]["schema.name-mapping.default"] = '[{"field-id": 1}]'
    newest.write_text(json.dumps(content))
    assert rows(job_of(folder, "lake/events")) == [("a", 0), ("b", 1), ("d", 3)]  # files have ids of fields


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("part-0.orc", FileFormat.ORC, r"found a data file of the format ORC \(part-0\.orc\)"),
        ("part-0.parquet", FileFormat.AVRO, r"found a data file of the format AVRO \(part-0\.parquet\)"),
        ("part-0", FileFormat.PARQUET, r"found a data file part-0; .* names that end in \.parquet"),
    ],
)
def test_data_files_that_are_not_parquet_are_named(folder, name, written, message):
    _, table = catalog_and_table(folder, FIRST)
    path = folder / "raw" / "lake" / "events" / "data" / name
    path.parent.mkdir()
    pq.write_table(FIRST, path)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"file://{path}",
        file_format=written,
        partition=Record(),
        record_count=len(FIRST),
        file_size_in_bytes=path.stat().st_size,
    )
    file.spec_id = 0
    with table.transaction() as change, change.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    with pytest.raises(InputError, match=message):
        rows(job_of(folder, "lake/events"))


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
