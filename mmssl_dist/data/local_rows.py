"""Rows in the memory of this process, with the operations of a Ray Data ``Dataset`` that prepare uses.

`validate` runs prepare's own steps on them, so that what one refuses the other refuses too, without Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Function = Callable[[pa.Table], pa.Table | Iterable[pa.Table]]


@dataclass(frozen=True)
class LocalRows:
    """Blocks of rows; every operation works at once."""

    blocks: tuple[pa.Table, ...]

    def map_batches(
        self, function: Function, batch_format: str = "pyarrow", batch_size: int | None = None
    ) -> LocalRows:
        """``function`` of every block, or of every ``batch_size`` rows."""
        return LocalRows(
            tuple(
                made
                for block in self.blocks
                for batch in _batches(block, batch_size)
                for made in _tables(function(batch))
            )
        )

    def groupby(self, column: str, num_partitions: int | None = None) -> LocalGroups:
        """The rows grouped by the value in ``column``."""
        return LocalGroups(self._joined(), column)

    def union(self, *others: LocalRows) -> LocalRows:
        """The rows of all."""
        return LocalRows((*self.blocks, *(block for other in others for block in other.blocks)))

    def materialize(self) -> LocalRows:
        """The same rows; nothing is put off."""
        return self

    def select_columns(self, columns: Sequence[str]) -> LocalRows:
        """The rows with some of their columns."""
        return LocalRows(tuple(block.select(columns) for block in self.blocks))

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Each row as Python values by column."""
        for block in self.blocks:
            yield from block.to_pylist()

    def _joined(self) -> pa.Table | None:
        blocks = [block for block in self.blocks if block.num_rows]
        # Permissive, as Ray Data joins blocks: a column without values may be of type null in one of them.
        return pa.concat_tables(blocks, promote_options="permissive") if blocks else None


@dataclass(frozen=True)
class LocalGroups:
    """Rows to be handed over group by group."""

    table: pa.Table | None
    column: str

    def map_groups(self, function: Function, batch_format: str = "pyarrow") -> LocalRows:
        """``function`` of all rows of each group."""
        if self.table is None:
            return LocalRows(())
        values = pc.unique(self.table[self.column])
        groups = (self.table.filter(pc.equal(self.table[self.column], value)) for value in values)
        return LocalRows(tuple(made for group in groups for made in _tables(function(group))))


def local_numbers(count: int) -> LocalRows:
    """0..count-1 in column ``id``, a block each, as ``runtime.numbers`` gives to Ray Data."""
    return LocalRows(tuple(pa.table({"id": pa.array([number], pa.int64())}) for number in range(count)))


def _batches(block: pa.Table, batch_size: int | None) -> Iterator[pa.Table]:
    if batch_size is None:
        yield block
        return
    yield from (block.slice(first, batch_size) for first in range(0, block.num_rows, batch_size))


def _tables(made: pa.Table | Iterable[pa.Table]) -> Iterable[pa.Table]:
    return (made,) if isinstance(made, pa.Table) else made
