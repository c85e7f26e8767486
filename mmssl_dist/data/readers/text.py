"""Interactions in CSV, TSV and ``.inter`` files of RecBole and MMRec, streamed; all rows decide on types."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.base import (
    NAME_OR_RENAME,
    ColumnSummaries,
    Piece,
    row_location,
    with_file,
    without_columns,
)
from mmssl_dist.data.readers.delimited import FIRST_RECORD, header, text_blocks
from mmssl_dist.data.readers.id_types import IdSummary, joined_ids, text_ids
from mmssl_dist.data.readers.json_lines import Holds, is_json_lines, json_columns
from mmssl_dist.data.readers.last_block import LastBlocks
from mmssl_dist.data.readers.times import TimeFormat, TimeSummary, joined_times, time_summary
from mmssl_dist.data.readers.values import canonical_table
from mmssl_dist.errors import InputError

_THREADS = 8
_SAMPLED_BLOCKS = 16  # of a file that is not read whole


@dataclass(frozen=True, kw_only=True)
class TextInteractions:
    """Interactions in delimited text.

    Attributes:
        files: the files.
        names: raw column names by canonical name, without ``:type``.
        types: types of user_id and item_id.
        times: what the times are, where they are asked for.
        null_values: texts that stand for a missing value.
        last_pieces: see ``InteractionSource``; empty unless they were asked for.
        left_out: files that have none since they are compressed and too many.
    """

    files: tuple[RawFile, ...]
    names: dict[str, str]
    types: dict[str, pa.DataType]
    times: TimeFormat | None
    null_values: tuple[str, ...]
    last_pieces: tuple[Piece, ...] = ()
    left_out: int = 0
    unit: str = "line"

    @property
    def user_type(self) -> pa.DataType:
        """See ``InteractionSource``."""
        return self.types[USER_ID]

    @property
    def item_type(self) -> pa.DataType:
        """See ``InteractionSource``."""
        return self.types[ITEM_ID]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """See ``InteractionSource``."""
        return tuple(Piece(number) for number in range(len(self.files)))

    def read_all(self, pieces: Sequence[Piece]) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        return with_file(self, pieces)

    def read(self, piece: Piece) -> Iterator[pa.Table]:
        """See ``InteractionSource``."""
        row = FIRST_RECORD
        for columns in named_blocks(self.files[piece.file], self.names, self.null_values, piece.first):

            def where(index: int, first: int = row) -> str:
                return row_location(
                    files=self.files, file=piece.file, unit=self.unit, row=first + index, start=piece.first
                )

            rows = np.arange(row, row + len(columns[USER_ID]), dtype=np.int64)
            yield canonical_table(
                columns={name: pa.chunked_array([column]) for name, column in columns.items()},
                types=self.types,
                times=self.times,
                rows=rows,
                where=where,
            )
            row += len(rows)


def summarize_text(
    files: Sequence[RawFile],
    names: Mapping[str, str],
    null_values: Sequence[str],
    last: LastBlocks | None,
) -> ColumnSummaries:
    """Look at the ids and times of ``files``: at all rows if ``last`` is None, else at those where files
    begin and those in ``last``.

    Raises:
        InputError: a column is missing, there is no row, or the text cannot be read.
    """
    for file in files:
        raw_names(file, names)
    summarize = partial(_file_summary, files, names, null_values, last)
    # Threads suffice: Arrow parses without Python's lock, and one process holds what all files show
    with ThreadPoolExecutor(_THREADS) as pool:
        summaries = list(pool.map(summarize, range(len(files))))
    if not any(rows for rows, _ in summaries):
        raise InputError(
            files[0].name, "no row below the header", "interactions have at least one row", "Check the file."
        )
    return ColumnSummaries(
        ids={name: joined_ids(summary.ids[name] for _, summary in summaries) for name in (USER_ID, ITEM_ID)},
        times=[time for _, summary in summaries for time in summary.times],
    )


def bare(name: str) -> str:
    """A RecBole column name without its type: "user_id:token" is user_id."""
    return name.split(":", 1)[0]


def raw_names(
    file: RawFile,
    names: Mapping[str, str],
    remedy: str = NAME_OR_RENAME,
    written: Sequence[str] | None = None,
) -> dict[str, str]:
    """``names`` as the header of ``file``, or a folder's name above it, writes them.

    Args:
        remedy: for a column that is missing.
        written: the header, where it has been read.

    Raises:
        InputError: a column is missing, or there are two of its name.
    """
    written = header(file) if written is None else list(written)
    typed = file.location.path.endswith(".inter")
    # Columns of the file itself come second, so that they win over a folder's name.
    by_name = {name: name for name in file.keys}
    by_name |= {bare(name) if typed else name: name for name in written}
    missing = [name for name in dict.fromkeys(names.values()) if name not in by_name]
    if missing:
        raise without_columns(
            f"{file.name}, line 1",
            (*written, *file.keys),
            missing,
            remedy,
        )
    for name in names.values():
        if written.count(by_name[name]) > 1:
            raise InputError(
                f"{file.name}, line 1",
                f"{written.count(by_name[name])} columns {name}",
                "column names must be unique",
                "Rename one of them.",
            )
    return {name: by_name[raw] for name, raw in names.items()}


def _file_summary(
    files: Sequence[RawFile],
    names: Mapping[str, str],
    null_values: Sequence[str],
    last: LastBlocks | None,
    number: int,
) -> tuple[int, ColumnSummaries]:
    """The rows that were looked at, and what they show."""
    summarize = partial(_summary_from, tuple(files), names, null_values, number)
    if last is None:
        return summarize(0, None)
    rows, first = summarize(0, _SAMPLED_BLOCKS)
    start = last.starts[number]
    if start is None:
        return rows, first
    more, end = summarize(start, None)
    ids = {name: joined_ids((first.ids[name], end.ids[name])) for name in first.ids}
    times = [joined_times((*first.times, *end.times))] if TIME in names else []
    return rows + more, ColumnSummaries(ids, times)


def _summary_from(
    files: tuple[RawFile, ...],
    names: Mapping[str, str],
    null_values: Sequence[str],
    number: int,
    start: int,
    blocks: int | None,
) -> tuple[int, ColumnSummaries]:
    """``_file_summary`` of a number of blocks, or of all, from the byte ``start`` on."""
    row, file = FIRST_RECORD, files[number]
    ids = {
        name: IdSummary(type=pa.null(), source=f"{file.name}, column {names[name]}", declared=False)
        for name in (USER_ID, ITEM_ID)
    }
    times = TimeSummary()
    for columns in islice(named_blocks(file, names, null_values, start), blocks):

        def where(index: int, row: int = row) -> str:
            return row_location(files=files, file=number, unit="line", row=row + index, start=start)

        for name, summary in ids.items():
            if not summary.text:  # one text makes all of them texts
                ids[name] = joined_ids((summary, text_ids(columns[name], summary.source, where)))
        if TIME in columns:
            live = pc.and_(columns[USER_ID].is_valid(), columns[ITEM_ID].is_valid())
            live_times = pc.if_else(live, columns[TIME], pa.scalar(None, pa.string()))
            times = joined_times((times, time_summary(live_times, where)))
        row += len(columns[USER_ID])
    return row - FIRST_RECORD, ColumnSummaries(ids, [times] if TIME in names else [])


def named_blocks(
    file: RawFile,
    names: Mapping[str, str],
    null_values: Sequence[str],
    start: int = 0,
    lists: Collection[str] = (),
) -> Iterator[dict[str, pa.Array]]:
    """``text_blocks`` by the keys of ``names``; a column that a folder's name gives has its text in every
    row, and in JSON lines those of the keys ``lists`` may be of lists."""
    written = header(file)
    raw = raw_names(file, names, written=written)
    # Where folders give all wanted columns, one of the file's own still has to be read: it has the rows
    stored = list(dict.fromkeys(column for column in raw.values() if column in written))
    stored = stored or (columns_with("values", file, written) or written)[:1]
    may_be = {raw[name] for name in lists} - {column for name, column in raw.items() if name not in lists}
    of_lists = [name for name in columns_with("lists", file, stored) if name in may_be] if may_be else []
    for columns in text_blocks(file=file, names=stored, null_values=null_values, start=start, lists=of_lists):
        rows = len(next(iter(columns.values())))
        for column in set(raw.values()) - set(stored):
            text = file.keys[column]
            columns[column] = pa.repeat(pa.scalar(None if text in null_values else text, pa.string()), rows)
        yield {name: columns[column] for name, column in raw.items()}


def columns_with(holds: Holds, file: RawFile, names: Sequence[str]) -> list[str]:
    """Those of the columns ``names`` that have what ``holds`` says; only JSON lines have more than values."""
    if not is_json_lines(file.location.path):
        return list(names) if holds == "values" else []
    held = json_columns(file)
    return [name for name in names if held.get(name) == holds]
