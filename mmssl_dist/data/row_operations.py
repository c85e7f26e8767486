"""Operations on many rows, wherever they are: Ray Data's, or this process's (``local_rows``).

Known errors of a step are carried by ``TaskFailure``, since Ray Data writes advice of its own into the
arguments of what a task raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from types import GeneratorType
from typing import Any, Protocol

import pyarrow as pa

from mmssl_dist.data.columns import BUCKET
from mmssl_dist.data.packed_rows import TableFunction, from_fragments
from mmssl_dist.errors import MmsslError


class Groups(Protocol):
    """Rows to be handed over group by group."""

    def map_groups(self, function: Any, *, batch_format: str) -> RowDataset: ...


class RowDataset(Protocol):
    """What prepare does with rows: the part of Ray Data's ``Dataset`` that it uses."""

    def map_batches(self, function: Any, *, batch_format: str, batch_size: int | None) -> RowDataset: ...
    def groupby(self, column: str, num_partitions: int) -> Groups: ...
    def union(self, *others: Any) -> RowDataset: ...
    def materialize(self) -> RowDataset: ...
    def select_columns(self, columns: Sequence[str]) -> RowDataset: ...
    def iter_rows(self) -> Iterator[dict[str, Any]]: ...


Numbers = Callable[[int], RowDataset]
"""Makes rows of the numbers 0 to n - 1 in column ``id``, to begin with."""


class TaskFailure(Exception):
    """Carries an error through Ray Data, which writes advice of its own into the arguments of what a task
    raises."""

    def __init__(self, cause: MmsslError, *context: str) -> None:
        super().__init__(cause, *context)
        self.cause = cause


def guarded(function: TableFunction) -> TableFunction:
    """``function`` with its known errors carried by ``TaskFailure``."""

    @wraps(function)
    def call(batch: pa.Table) -> pa.Table | Iterator[pa.Table]:
        try:
            result = function(batch)
        except MmsslError as error:
            raise TaskFailure(error) from error
        # A generator raises when it is read, long after this call has returned.
        return _guarded_items(result) if isinstance(result, GeneratorType) else result

    return call


def _guarded_items(items: Iterator[pa.Table]) -> Iterator[pa.Table]:
    try:
        yield from items
    except MmsslError as error:
        raise TaskFailure(error) from error


def by_bucket(fragments: RowDataset, function: TableFunction, buckets: int) -> RowDataset:
    """``function`` of all rows of each bucket at once, which come as ``to_fragments`` makes them."""
    grouped = fragments.groupby(BUCKET, num_partitions=buckets)
    return grouped.map_groups(guarded(from_fragments(function)), batch_format="pyarrow")


def map_tables(rows: RowDataset, function: TableFunction, batch_size: int | None = None) -> RowDataset:
    """``function`` applied to tables of ``batch_size`` rows, or of whole blocks."""
    return rows.map_batches(guarded(function), batch_format="pyarrow", batch_size=batch_size)
