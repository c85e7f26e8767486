"""What footers and statistics of Parquet files show of ids and times; rows are read where these do not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import ITEM_ID, TIME, USER_ID
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.ids import canonical_type, is_text, storage_type
from mmssl_dist.data.readers.base import ColumnSummaries, Piece, row_location
from mmssl_dist.data.readers.id_types import Example, IdSummary, declared_ids, joined_ids, text_ids
from mmssl_dist.data.readers.moments import is_moment
from mmssl_dist.data.readers.parquet import (
    BATCH_ROWS,
    Footer,
    batches,
    column_statistics,
    folder_column,
    is_folder_key,
    last_groups,
    require_column,
)
from mmssl_dist.data.readers.times import (
    TimeSummary,
    joined_times,
    number_summary,
    require_time_type,
    time_summary,
)
from mmssl_dist.data.readers.values import checked_values
from mmssl_dist.errors import InputError

_INT64_DIGITS = 18  # decimals of so many digits fit


def summarize_parquet(
    files: Sequence[RawFile],
    footers: Sequence[Footer],
    names: Mapping[str, str],
    settings: Mapping[str, str | None],
    whole: bool,
) -> ColumnSummaries:
    """Ids and times of interactions in ``files``.

    Args:
        files: the files.
        footers: theirs.
        names: raw column names by canonical name.
        settings: the types of ids that the job sets, by canonical name.
        whole: texts that are times are all looked at, else those of the first rows.

    Raises:
        InputError: a column is missing or of a type that cannot be used.
    """
    ids = {name: id_summary(files, footers, names[name], settings.get(name)) for name in (USER_ID, ITEM_ID)}
    if TIME not in names:
        return ColumnSummaries(ids, [])
    times = partial(_times, files=files, footers=footers, names=names, whole=whole)
    return ColumnSummaries(ids, [times(number=number) for number in range(len(files))])


def id_summary(
    files: Sequence[RawFile], footers: Sequence[Footer], column: str, setting: str | None
) -> IdSummary:
    """The ids of a column in all ``files``; those without a value in it have no say in its type.

    Raises:
        InputError: the column is missing, cannot hold ids, or has two types.
    """
    pairs = list(zip(files, footers, strict=True))
    if _same_plain_type(pairs, column):
        # One file with a value stands for all: a folder may hold thousands
        pairs = [next((pair for pair in pairs if has_value(*pair, column)), pairs[0])]
    return joined_ids((_ids(file, footer, column) for file, footer in pairs), setting)


def _same_plain_type(pairs: Sequence[tuple[RawFile, Footer]], column: str) -> bool:
    """Whether the schemas of all files give a column one type, and no value of it can give it another."""
    types = {require_column(file, footer.schema, column) for file, footer in pairs}
    if len(types) > 1 or any(is_folder_key(file, footer.schema, column) for file, footer in pairs):
        return False
    stored = storage_type(next(iter(types)))
    return canonical_type(stored) is not None and not (
        pa.types.is_uint64(stored) or pa.types.is_decimal(stored)
    )


def _ids(file: RawFile, footer: Footer, column: str) -> IdSummary:
    raw = require_column(file, footer.schema, column)
    source, stored = f"{file.name}, column {column}", storage_type(raw)
    if is_folder_key(file, footer.schema, column):
        return text_ids(folder_column(file, column, 1), source, lambda index: source)
    summary = declared_ids(source, raw)
    if not has_value(file, footer, column):
        return declared_ids(source, pa.null())
    long_decimal = pa.types.is_decimal(stored) and stored.precision - stored.scale > _INT64_DIGITS
    if not (pa.types.is_uint64(stored) or long_decimal):
        return summary
    low, high = _bounds(file, footer, column)
    return declared_ids(source, raw, beyond_int64=low < -(2**63) or high >= 2**63)


def _times(
    files: Sequence[RawFile], footers: Sequence[Footer], names: Mapping[str, str], whole: bool, number: int
) -> TimeSummary:
    file, footer, column = files[number], footers[number], names[TIME]
    raw = require_column(file, footer.schema, column)
    source, stored = f"{file.name}, column {column}", storage_type(raw)
    if is_folder_key(file, footer.schema, column):
        return time_summary(folder_column(file, column, 1), lambda index: source)
    require_time_type(raw, source)
    _require_true_int96(footer, column, source)
    if not has_value(file, footer, column):
        return TimeSummary()
    example = Example(lambda: source, f"a value of type {raw}")
    if is_moment(stored):
        return TimeSummary(moment=example)
    if not is_text(stored):
        low, high = _bounds(file, footer, column)
        return number_summary(stored, example, (float(low), float(high)))
    columns_read = list(dict.fromkeys(names[name] for name in (USER_ID, ITEM_ID, TIME)))
    everything = Piece(0, 0, len(footer.group_rows))
    summaries = []
    for piece in (everything, *([] if whole else last_groups([footer]))):
        row = piece.row
        for batch in batches(file, piece, columns_read, BATCH_ROWS):
            columns = pa.Table.from_batches([batch])
            valid = pc.and_(columns[names[USER_ID]].is_valid(), columns[names[ITEM_ID]].is_valid())

            def where(index: int, row: int = row) -> str:
                return row_location(files=tuple(files), file=number, unit="row", row=row + index)

            texts = checked_values(columns[column], where)
            live = pc.if_else(valid.combine_chunks(), texts, pa.scalar(None, pa.string()))
            summaries.append(time_summary(live, where))
            row += len(texts)
            if piece is everything and not whole:
                break
    return joined_times(summaries)


def _require_true_int96(footer: Footer, column: str, source: str) -> None:
    """Refuse times that fastparquet took for nanoseconds when it wrote them as int96: nothing but its note on
    what they were shows it."""
    schema, stored = footer.metadata.schema, footer.stored.get(column)
    if not any(
        leaf.path == stored and leaf.physical_type == "INT96"
        for leaf in map(schema.column, range(len(schema)))
    ):
        return
    try:
        note = json.loads((footer.metadata.metadata or {}).get(b"pandas", b"{}"))
        writer = note["creator"]["library"]
        written = next(str(entry["numpy_type"]) for entry in note["columns"] if entry["name"] == stored)
    except (ValueError, TypeError, LookupError, StopIteration):
        return
    # With a time zone it is "datetime64[ns, UTC]"
    if writer == "fastparquet" and not written.startswith("datetime64[ns"):
        raise InputError(
            source,
            f"{written}, which fastparquet wrote as int96",
            "it then stores them as if they were nanoseconds, so the file has times of 1970",
            "Write them with times='int64', its default.",
        )


def has_value(file: RawFile, footer: Footer, column: str) -> bool:
    """Whether there is a value that is neither null nor NaN."""
    raw = storage_type(footer.schema.field(column).type)
    if pa.types.is_null(raw):
        return False
    if pa.types.is_floating(raw):  # NaN has no part in statistics
        return any(pc.any(pc.is_finite(values)).as_py() for values in _values(file, footer, column))
    statistics = column_statistics(file, footer, column)
    if all(of_rows is not None and of_rows.has_null_count for _, of_rows in statistics):
        return any(of_rows.null_count < rows for rows, of_rows in statistics if of_rows is not None)
    return any(values.null_count < len(values) for values in _values(file, footer, column))


def _bounds(file: RawFile, footer: Footer, column: str) -> tuple[float, float]:
    """The smallest and largest of a column's numbers: Python numbers, exact for integers and decimals."""
    raw = storage_type(footer.schema.field(column).type)
    by_group = [statistics for rows, statistics in column_statistics(file, footer, column) if rows]
    usable = [statistics for statistics in by_group if statistics is not None and statistics.has_min_max]
    if len(usable) == len(by_group) and not pa.types.is_floating(raw):
        pairs = [(statistics.min, statistics.max) for statistics in usable]
    else:
        pairs = []
        for values in _values(file, footer, column):
            low, high = (bound.as_py() for bound in pc.min_max(values).values())
            if low is not None:
                pairs.append((low, high))
    return min(low for low, _ in pairs), max(high for _, high in pairs)


def _values(file: RawFile, footer: Footer, column: str) -> Iterator[pa.Array]:
    for columns in _read(file, footer, [column]):
        yield checked_values(columns[column], lambda index: f"{file.name}, column {column}")


def _read(file: RawFile, footer: Footer, columns: list[str]) -> Iterator[pa.Table]:
    for batch in batches(file, Piece(0, 0, len(footer.group_rows)), columns, BATCH_ROWS):
        yield pa.Table.from_batches([batch])
