"""Tables of lists by day: what readers of Parquet folders and of Delta Lake find there, after a rerun, on
another day, and where a writer was killed."""

from __future__ import annotations

import shutil
import sys
import uuid
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mmssl_dist.errors import InputError
from mmssl_dist.serving.dated import day_writing
from mmssl_dist.serving.dated.day_writing import write_rows
from mmssl_dist.serving.dated.ranked_rows import ranked_rows, resized_tables, row_columns
from mmssl_dist.storage import moving
from tests.list_tables import (
    FIRST,
    OTHER_SOURCE,
    SECOND,
    SOURCE,
    Lists,
    published,
    read,
    rows_of,
    table_of,
    texts_and_numbers,
    write,
)

FORMATS = ("parquet", "delta")


def test_lists_become_rows():
    lists = pa.table(
        {
            "user_id": pa.array(["a", "b", "c", "d"]).dictionary_encode(),
            "items": [[5, 6], [], [7], [8, 9]],
            "scores": pa.array([[0.5, 0.25], [], None, [4.0, 3.0]], pa.list_(pa.float32())),
            "titles": [["five", None], [], ["seven"], ["eight", "nine"]],
        }
    )
    rows = ranked_rows(lists, lambda ids: ids)
    assert rows.schema.names == ["user_id", "rank", "item_id", "score", "title"]
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("a", 1, 5, 0.5, "five"),
        ("a", 2, 6, 0.25, None),
        ("c", 1, 7, None, "seven"),
        ("d", 1, 8, 4.0, "eight"),
        ("d", 2, 9, 3.0, "nine"),
    ]
    # A part of a larger table, whose offsets do not begin at 0
    assert ranked_rows(lists.slice(2), lambda ids: ids).equals(rows.slice(2))
    assert [len(piece) for piece in resized_tables([rows, rows, rows], 6)] == [10, 5]


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_day_is_replaced_and_another_is_added(tmp_path, table_format):
    url = tmp_path / "lake" / "lists"
    first, second = texts_and_numbers(tmp_path / "1", FIRST), texts_and_numbers(tmp_path / "2", FIRST, SECOND)
    table = table_of(url, table_format, "2026-11-29")
    table.check(None)
    assert not table.holds(SOURCE)
    assert write(table, first) == 3
    assert read(url, table_format) == rows_of(FIRST, "2026-11-29")
    assert table.holds(SOURCE)
    assert not table.holds(OTHER_SOURCE)
    # Another day
    assert write(table_of(url, table_format, "2026-11-30"), first) == 3
    days = [*rows_of(FIRST, "2026-11-29"), *rows_of(FIRST, "2026-11-30")]
    assert read(url, table_format) == days
    # The same day again: of two files of lists
    again = table_of(url, table_format, "2026-11-30")
    assert write(again, second, OTHER_SOURCE) == 6
    both = sorted([*rows_of(FIRST, "2026-11-30"), *rows_of(SECOND, "2026-11-30")], key=lambda row: row[:2])  # type: ignore[arg-type, return-value]
    assert read(url, table_format) == [*rows_of(FIRST, "2026-11-29"), *both]
    assert again.holds(OTHER_SOURCE)
    assert not again.holds(SOURCE)
    assert table.holds(SOURCE)  # of the day before
    if table_format == "parquet":
        names = sorted(path.name for path in (url / "date=2026-11-30").iterdir())
        assert (names[:2], len(names)) == (["_SUCCESS", "_manifest.json"], 4)
        assert list((url / "_writing").iterdir()) == []


def test_pandas_reads_the_days_of_parquet(tmp_path):
    import pandas as pd

    write(table_of(tmp_path / "lists", "parquet", "2026-11-30"), texts_and_numbers(tmp_path / "1", FIRST))
    frame = pd.read_parquet(tmp_path / "lists", filters=[("date", "=", "2026-11-30")])
    assert list(frame["user_id"]) == ["u1", "u1", "u3"]
    assert list(frame["date"].astype(str).unique()) == ["2026-11-30"]


@pytest.mark.parametrize("table_format", FORMATS)
def test_large_lists_are_several_files(tmp_path, table_format, monkeypatch):
    monkeypatch.setattr(day_writing, "ROWS_OF_A_FILE", 5)
    monkeypatch.setattr(day_writing, "_USERS_AT_ONCE", 2)
    many: Lists = {f"u{user}": [(item, 1.0) for item in range(3)] for user in range(10, 17)}
    write(table_of(tmp_path / "t", table_format, "2026-11-30"), texts_and_numbers(tmp_path / "1", many))
    assert read(tmp_path / "t", table_format) == rows_of(many, "2026-11-30")
    files = list((tmp_path / "t" / "date=2026-11-30").glob("*.parquet"))
    assert sorted(pq.read_metadata(path).num_rows for path in files) == [3, 6, 6, 6]


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_writer_that_is_killed_changes_nothing(tmp_path, table_format):
    url, lists = tmp_path / "lists", texts_and_numbers(tmp_path / "1", FIRST)
    write(table_of(url, table_format, "2026-11-30"), lists)
    killed = table_of(url, table_format, "2026-11-30")
    ((name, record),) = lists.records.items()
    assert write_rows(
        table=killed, lists=lists.location / name, record=record, source=OTHER_SOURCE, part=0
    )  # and no commit
    assert read(url, table_format) == rows_of(FIRST, "2026-11-30")
    assert killed.holds(SOURCE)
    # A command that fails, rather than dies, takes its files with it
    with pytest.raises(RuntimeError), killed.begun():
        raise RuntimeError
    assert len(list(url.rglob("*.parquet"))) == 1
    # One that died before there was a table
    new = table_of(tmp_path / "new", table_format, "2026-11-30")
    write_rows(table=new, lists=lists.location / name, record=record, source=OTHER_SOURCE, part=0)
    write(table_of(tmp_path / "new", table_format, "2026-11-30"), lists)
    assert read(tmp_path / "new", table_format) == rows_of(FIRST, "2026-11-30")


def test_folders_are_exchanged_also_where_the_system_cannot_do_it_at_once(tmp_path, monkeypatch):
    calls: list[str] = []
    exchanged = moving._exchanged
    monkeypatch.setattr(moving, "_exchanged", lambda one, other: bool(calls.append(one)))
    url = tmp_path / "lists"
    for number, lists in enumerate((FIRST, SECOND)):
        write(table_of(url, "parquet", "2026-11-30"), texts_and_numbers(tmp_path / str(number), lists))
        assert read(url, "parquet") == rows_of(lists, "2026-11-30")
    assert len(calls) == 1
    assert list((url / "_writing").iterdir()) == []
    one, other = (str(tmp_path / str(number)) for number in range(2))
    if sys.platform == "linux":
        before = sorted(path.name for path in Path(one).rglob("*"))
        (Path(other) / "more").touch()
        assert exchanged(one, other)
        assert sorted(path.name for path in Path(other).rglob("*")) == before
        assert (Path(one) / "more").exists()
    assert not exchanged(one, str(tmp_path / "nowhere"))


IDS = (
    (pa.binary(16), [uuid.UUID(int=number).bytes for number in range(3)], "parquet", None),
    (
        pa.binary(16),
        [uuid.UUID(int=number).bytes for number in range(3)],
        "delta",
        [str(uuid.UUID(int=number)) for number in range(3)],
    ),
    (pa.int64(), [-(2**63), 0, 2**63 - 1], "delta", None),
    (pa.timestamp("ms"), [datetime(2026, 1, 1 + number) for number in range(3)], "delta", None),
    (pa.date32(), [date(2026, 1, 1 + number) for number in range(3)], "delta", None),
    (pa.binary(3), [b"abc", b"abd", b"abe"], "delta", None),
)


@pytest.mark.parametrize(("id_type", "ids", "table_format", "shown"), IDS, ids=lambda value: str(value)[:30])
def test_ids_keep_their_type_where_the_table_has_it(tmp_path, id_type, ids, table_format, shown):
    lists: Lists = {user: [(item, 1.0) for item in ids] for user in ids}
    files = published(tmp_path / "1", [lists], id_type, id_type)
    write(table_of(tmp_path / "t", table_format, "2026-11-30"), files)
    rows = read(tmp_path / "t", table_format)
    expected = ids if shown is None else shown
    assert [row[0] for row in rows] == [user for user in expected for _ in range(3)]
    assert [row[2] for row in rows] == expected * 3
    # And the next day finds the table as it would write it
    write(table_of(tmp_path / "t", table_format, "2026-12-01"), files)
    assert len(read(tmp_path / "t", table_format)) == 18


def test_ids_that_delta_lake_does_not_have(tmp_path):
    lists: Lists = {1: [(2, 1.0)]}
    files = published(tmp_path / "1", [lists], pa.duration("s"), pa.int64())
    with pytest.raises(InputError, match=r"ids of type duration\[s\]; Delta Lake has .* Set the format parq"):
        write(table_of(tmp_path / "t", "delta", "2026-11-30"), files)
    assert not (tmp_path / "t").exists()


def refused(tmp_path: Path, table_format: str) -> str:
    lists = texts_and_numbers(tmp_path / "lists-1", FIRST)
    before = {path: path.read_bytes() for path in (tmp_path / "t").rglob("*") if path.is_file()}
    with pytest.raises(InputError) as caught:
        write(table_of(tmp_path / "t", table_format, "2026-11-30"), lists)
    assert {path: path.read_bytes() for path in (tmp_path / "t").rglob("*") if path.is_file()} == before
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("export.table.path: found ")
    return message


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_table_of_other_columns_is_refused(tmp_path, table_format):
    other: Lists = {1: [(2, 1.0)]}
    files = published(tmp_path / "other", [other], pa.int64(), pa.int64())
    write(table_of(tmp_path / "t", table_format, "2026-11-28"), files)
    message = refused(tmp_path, table_format)
    assert "rows with user_id of type int64, instead of string" in message


@pytest.mark.parametrize("table_format", FORMATS)
def test_columns_other_than_ids_are_compared_before_anything_runs(tmp_path, table_format):
    rows = {"user_id": ["a"], "rank": pa.array([1], pa.int32()), "item_id": [1]}
    score = pa.array([1.0], pa.float32())
    cases = {
        "1": ({**rows, "score": [1.0]}, None, "rows with score of type double, instead of float"),
        "2": ({**rows, "score": score, "title": ["x"]}, None, "rows with a column title"),
        "3": ({**rows, "score": score}, row_columns(titles=True), "rows with no column title"),
        "4": ({**rows, "score": score}, None, None),
    }
    for name, (present, wanted, message) in cases.items():
        url = tmp_path / name
        if table_format == "delta":
            days = pa.table({**present, "date": [date(2026, 1, 1)]})
            write_deltalake(str(url), days, partition_by=["date"])
        else:
            (url / "date=2026-01-01").mkdir(parents=True)
            pq.write_table(pa.table(present), url / "date=2026-01-01" / "x.parquet")
        table = table_of(url, table_format, "2026-11-30")
        if message is None:
            table.check(wanted)
            continue
        with pytest.raises(InputError, match=message):
            table.check(wanted)


def test_a_delta_table_of_somebody_else_is_refused(tmp_path):
    write_deltalake(str(tmp_path / "t"), pa.table({"user_id": ["a"], "day": ["x"]}), partition_by=["day"])
    assert "which has a table split by day; a table of lists is a new folder" in refused(tmp_path, "delta")
    assert "which has a Delta Lake table; " in refused(tmp_path, "parquet")
    shutil.rmtree(tmp_path / "t")
    mine = pa.table({"user_id": ["a"], "date": [date(2026, 1, 1)]})
    write_deltalake(str(tmp_path / "t"), mine)
    assert "which has a table that is not split" in refused(tmp_path, "delta")
    shutil.rmtree(tmp_path / "t")
    write_deltalake(str(tmp_path / "t"), mine, partition_by=["date"])
    assert "which has rows with no column rank" in refused(tmp_path, "delta")
    (log,) = (tmp_path / "t" / "_delta_log").glob("*.json")
    log.write_text("{broken")
    assert "which has a log that cannot be read" in refused(tmp_path, "delta")


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_folder_with_something_else_is_refused(tmp_path, table_format):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "notes.txt").write_text("mine")
    assert "which has something else (notes.txt)" in refused(tmp_path, table_format)
    shutil.rmtree(tmp_path / "t")
    (tmp_path / "t").write_text("mine")
    assert "which has a file" in refused(tmp_path, table_format)


def test_rows_of_the_day_that_somebody_else_wrote_are_never_deleted(tmp_path):
    folder = tmp_path / "t" / "date=2026-11-30"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": ["a"]}), folder / "mine.parquet")
    assert "rows of this day that something else has written" in refused(tmp_path, "parquet")


def test_delta_is_refused_over_days_of_parquet(tmp_path):
    write(table_of(tmp_path / "t", "parquet", "2026-11-29"), texts_and_numbers(tmp_path / "1", FIRST))
    assert "which has something else (date=2026-11-29/_SUCCESS)" in refused(tmp_path, "delta")


@pytest.mark.parametrize("table_format", FORMATS)
def test_what_a_killed_task_has_begun_is_no_obstacle(tmp_path, table_format):
    url, lists = tmp_path / "t", texts_and_numbers(tmp_path / "1", FIRST)
    for _ in range(2):
        table = table_of(url, table_format, "2026-11-30")
        folder = Path(table.target.path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{table.file_name(SOURCE, '0')}.4711.partial").write_bytes(b"PAR1")
        (url / f".probe-{uuid.uuid4().hex}").write_bytes(b"x")
        table.check(None)
        write(table, lists)
        assert read(url, table_format) == rows_of(FIRST, "2026-11-30")
    if table_format == "parquet":
        names = sorted(path.name for path in (url / "date=2026-11-30").iterdir())
        assert (names[:2], len(names)) == (["_SUCCESS", "_manifest.json"], 3)


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)  # as where it is not installed
    message = refused(tmp_path, "delta")
    assert message.endswith("Install it: pip install 'mmssl-dist[delta]'.")


def test_formats_and_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="found csv; a table's format is parquet or delta"):
        table_of(tmp_path, "csv", "2026-11-30")
    for table_format in FORMATS:
        with pytest.raises(InputError, match=r"Use s3://, gs://, abfs:// or a folder"):
            table_of("https://example.com/lists", table_format, "2026-11-30").check(None)
