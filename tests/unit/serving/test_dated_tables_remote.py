"""Tables of lists by day in object storage: S3 as moto plays it, and Google's as an emulator does."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import MmsslError
from mmssl_dist.serving.dated import parquet_days
from mmssl_dist.serving.dated.dated_table import DatedTable
from mmssl_dist.storage import Location, moving, open_location, read_manifest
from tests.list_tables import (
    FIRST,
    OTHER_SOURCE,
    SECOND,
    SOURCE,
    Lists,
    rows_of,
    table_of,
    texts_and_numbers,
    write,
)
from tests.servers import REGION, client, gcs_server, moto_with_permissions

pytestmark = pytest.mark.processes
DAY = "2026-11-30"
PAIRS = [("s3", "parquet"), ("s3", "delta"), ("gs", "parquet")]


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Storage]]:
    with moto_with_permissions() as s3, gcs_server("lake") as gs:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            client(s3).create_bucket(Bucket="lake")
            yield {
                "s3": Storage(endpoint=s3, region=REGION, path_style=True, retries=1),
                "gs": Storage(endpoint=gs, anonymous=True, retries=1),
            }


def days(table: DatedTable) -> list[tuple[object, ...]]:
    """All rows, as other programs read them."""
    location = table.location
    if isinstance(table, parquet_days.ParquetDays):
        partitioning = ds.partitioning(pa.schema([("date", pa.date32())]), flavor="hive")
        rows = ds.dataset(location.path, filesystem=location.filesystem, partitioning=partitioning).to_table()
    else:
        assert location.storage is not None
        options = {
            "aws_endpoint_url": str(location.storage.endpoint),
            "aws_region": REGION,
            "allow_http": "true",
        }
        rows = DeltaTable(location.url, storage_options=options).to_pyarrow_table()
    listed = rows.select(["user_id", "rank", "item_id", "score", "date"]).to_pylist()
    return sorted((tuple(row.values()) for row in listed), key=lambda row: (row[4], row[0], row[1]))


@pytest.mark.parametrize(("scheme", "table_format"), PAIRS)
def test_a_day_is_replaced_and_another_is_added(tmp_path, stores, scheme, table_format):
    url, first = f"{scheme}://lake/{table_format}", texts_and_numbers(tmp_path / "1", FIRST)
    table = table_of(url, table_format, "2026-11-29", stores[scheme])
    table.check(None)
    assert not table.holds(SOURCE)
    write(table, first)
    again = table_of(url, table_format, DAY, stores[scheme])
    write(again, first)
    assert days(again) == [*rows_of(FIRST, "2026-11-29"), *rows_of(FIRST, DAY)]
    write(
        table_of(url, table_format, DAY, stores[scheme]),
        texts_and_numbers(tmp_path / "2", SECOND),
        OTHER_SOURCE,
    )
    assert days(again) == [*rows_of(FIRST, "2026-11-29"), *rows_of(SECOND, DAY)]
    assert again.holds(OTHER_SOURCE)
    assert table.holds(SOURCE)


def listed_in_manifest(table: DatedTable) -> list[tuple[object, ...]]:
    """The rows of the files that the day's manifest names."""
    folder = table.location / table.folder
    manifest = read_manifest(folder, "lists of a day", "_manifest.json")
    assert manifest is not None
    files = [f"{folder.path}/{name}" for name in manifest.files]
    rows = ds.dataset(files, filesystem=folder.filesystem).to_table().to_pylist()
    return sorted(tuple(row.values()) for row in rows)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_reader_by_the_manifest_sees_one_run_whenever_the_writer_is_killed(
    tmp_path, stores, scheme, monkeypatch
):
    """Killed before each request of a replacement in turn; the next run repairs what is left."""
    url, old = f"{scheme}://lake/killed", [row[:4] for row in rows_of(FIRST, DAY)]
    new = sorted(row[:4] for lists in (FIRST, SECOND) for row in rows_of(lists, DAY))  # type: ignore[type-var]
    first = texts_and_numbers(tmp_path / "1", FIRST)
    second = texts_and_numbers(tmp_path / "2", FIRST, SECOND)
    write(table_of(url, "parquet", DAY, stores[scheme]), first)
    seen: list[tuple[bool, bool]] = []
    for fatal in range(100):
        table = table_of(url, "parquet", DAY, stores[scheme])
        if killed_after(fatal, table, lambda table=table: write(table, second, OTHER_SOURCE), monkeypatch):
            break
        rows, success = listed_in_manifest(table), (table.location / table.folder / "_SUCCESS").exists()
        assert rows in (old, new)
        if success:  # then the folder holds these rows and no others
            assert [row[:4] for row in days(table)] == rows
        seen.append((rows == new, success))
        write(table_of(url, "parquet", DAY, stores[scheme]), first)
        assert [row[:4] for row in days(table)] == old
    assert len(seen) > 5
    assert set(seen) == {(False, True), (False, False), (True, False), (True, True)}
    assert [row[:4] for row in days(table)] == new


class Killed(BaseException):
    """What a process that is killed does not come to."""


def killed_after(calls: int, table: DatedTable, write_table, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether ``write_table`` ends before it has changed the store more than ``calls`` times; else
    it stops there, and cleans up nothing."""
    left = [calls]

    def counted(function):
        def call(*arguments, **options):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return function(*arguments, **options)

        return call

    def copy_one_by_one(source: Location, target: Location, names: list[str]) -> None:
        for name in names:
            counted(moving.copy_files)(source, target, [name])

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", counted(Location.write_bytes))
        patch.setattr(Location, "remove", counted(Location.remove))
        patch.setattr(parquet_days, "copy_files", copy_one_by_one)
        patch.setattr(parquet_days.ParquetDays, "discard", lambda self: None)
        try:
            write_table()
        except Killed:
            return False
    return True


@pytest.mark.parametrize("table_format", ["parquet", "delta"])
def test_what_the_store_refuses_is_one_message_without_secrets(tmp_path, stores, table_format, monkeypatch):
    secret = "a-secret-of-the-environment"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    lists: Lists = FIRST
    table = table_of("s3://nowhere/lists", table_format, DAY, stores["s3"])
    with pytest.raises(MmsslError) as caught:
        write(table, texts_and_numbers(tmp_path / "1", lists))
    assert "no bucket nowhere" in str(caught.value)
    assert secret not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert open_location("s3://lake", stores["s3"]).exists()
