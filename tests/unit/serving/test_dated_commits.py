"""Commits of a day that fail, of Parquet folders and of Delta Lake: what readers find then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from deltalake import DeltaTable, transaction
from deltalake.exceptions import DeltaError

from mmssl_dist.errors import StorageError, StorageFault
from mmssl_dist.serving.dated.day_writing import write_day
from mmssl_dist.serving.dated.delta_days import DeltaDays
from mmssl_dist.storage import moving
from tests.list_tables import (
    FIRST,
    OTHER_SOURCE,
    SECOND,
    SOURCE,
    read,
    rows_of,
    table_of,
    texts_and_numbers,
    write,
)
from tests.tasks import in_this_process

FORMATS = ("parquet", "delta")


def test_a_folder_that_cannot_get_its_name_leaves_the_earlier_one(tmp_path, monkeypatch):
    url, rename = tmp_path / "lists", os.rename
    write(table_of(url, "parquet", "2026-11-30"), texts_and_numbers(tmp_path / "1", FIRST))
    renames: list[str] = []

    def second_fails(source: str, target: str) -> None:
        renames.append(target)
        if len(renames) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(moving, "_exchanged", lambda one, other: False)
    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(StorageError, match="Input/output error"):
        write(table_of(url, "parquet", "2026-11-30"), texts_and_numbers(tmp_path / "2", SECOND))
    assert read(url, "parquet") == rows_of(FIRST, "2026-11-30")
    assert list((url / "_writing").iterdir()) == []


def test_a_day_whose_log_entry_is_written_keeps_its_files_whatever_follows(tmp_path, monkeypatch):
    """Ctrl-C, and an answer that is lost: both after the first and after a later commit."""
    url, created, changed = (
        tmp_path / "t",
        transaction.create_table_with_add_actions,
        "create_write_transaction",
    )

    def interrupted(function, error):
        def call(*arguments, **options):
            function(*arguments, **options)
            raise error

        return call

    for number, error in enumerate((KeyboardInterrupt(), OSError("connection reset"))):
        folder = url / str(number)
        for source, lists in ((SOURCE, FIRST), (OTHER_SOURCE, SECOND)):
            table = table_of(folder, "delta", "2026-11-30")
            with monkeypatch.context() as patch:
                patch.setattr(transaction, created.__name__, interrupted(created, error))
                patch.setattr(DeltaTable, changed, interrupted(getattr(DeltaTable, changed), error))
                with pytest.raises((KeyboardInterrupt, StorageError)):
                    write(table, texts_and_numbers(tmp_path / "lists", lists), source)
            assert table.holds(source)
            assert read(folder, "delta") == rows_of(lists, "2026-11-30")


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_file_that_is_gone_or_cut_before_the_commit_is_named(tmp_path, table_format):
    url, lists = tmp_path / "t", texts_and_numbers(tmp_path / "1", FIRST, SECOND)
    write(table_of(url, table_format, "2026-11-30"), texts_and_numbers(tmp_path / "2", FIRST))
    for damage, found in ((Path.unlink, "nothing"), (lambda path: path.write_bytes(b"PAR1"), "4 bytes")):
        table = table_of(url, table_format, "2026-11-30")

        def run_tasks(function, calls, table=table, damage=damage):
            files = in_this_process(function, calls)
            damage(Path(table.target.path) / min(files[0]))
            return files

        with pytest.raises(StorageError, match=rf"found {found}; a task has written .* see the same folder"):
            write_day(table, lists, OTHER_SOURCE, run_tasks)
        assert read(url, table_format) == rows_of(FIRST, "2026-11-30")
        assert len(list(url.rglob("part-*"))) == 1


def test_two_writers_of_one_day(tmp_path):
    """The second to commit is refused, and the table is as the first left it."""
    url, lists = tmp_path / "t", texts_and_numbers(tmp_path / "1", FIRST)
    write(table_of(url, "delta", "2026-11-30"), lists)
    slow = table_of(url, "delta", "2026-11-30")
    assert isinstance(slow, DeltaDays)
    stale = slow._opened()
    write(table_of(url, "delta", "2026-11-30"), texts_and_numbers(tmp_path / "2", SECOND))
    object.__setattr__(slow, "_opened", lambda: stale)
    with pytest.raises(StorageFault, match=r"nobody else may change the day .* Re-run the command"):
        write(slow, lists)
    assert read(url, "delta") == rows_of(SECOND, "2026-11-30")


def test_what_delta_lake_refuses_is_not_blamed_on_others(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise DeltaError("Generic error: writer version 7")

    monkeypatch.setattr(transaction, "create_table_with_add_actions", refuse)
    with pytest.raises(
        StorageFault, match=r"writer version 7; Delta Lake must accept what is written\. Check"
    ):
        write(table_of(tmp_path / "t", "delta", "2026-11-30"), texts_and_numbers(tmp_path / "1", FIRST))
