"""Which items may be listed: some alone, all but some, or those with a value in a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmssl_dist.serving.id_lookup import Ids
from mmssl_dist.serving.item_table import ItemTable


@dataclass(frozen=True)
class ItemFilter:
    """Conditions that all hold for an item that is listed.

    Lists of ids come from other systems, so that ids which the run does not know are no mistake there.

    Attributes:
        allow: external ids; nothing else is listed. None: everything may be. An array has those of a file.
        block: external ids that are not listed.
        where: column of the table of items -> the value that an item has there, several of which it has one,
            or bounds of a number by "gt", "gte", "lt" and "lte".
    """

    allow: Sequence[object] | pa.Array | None = None
    block: Sequence[object] | pa.Array = ()
    where: Mapping[str, object] = field(default_factory=dict)

    @property
    def selects(self) -> bool:
        """Whether it lets some items through by name or value, rather than leaving a few out."""
        return self.allow is not None or bool(self.where)

    def blocked(self, items: Ids) -> np.ndarray:
        """int64, places of the items in ``block``, each once."""
        return np.unique(_known(items, self.block))

    def mask(self, items: Ids, table: ItemTable) -> np.ndarray:
        """bool [I], the items that may be listed.

        Raises:
            InputError: ``where`` names a column or a value that the table cannot have.
        """
        mask = np.full(len(items), self.allow is None)
        if self.allow is not None:
            mask[_known(items, self.allow)] = True
        for column, value in self.where.items():
            mask &= table.has(column, value)
        # Last, so that no other condition brings a blocked item back.
        mask[self.blocked(items)] = False
        return mask

    def fixed(self, items: Ids, table: ItemTable) -> ItemFilter:
        """The same filter of one run with everything looked up, for many searches there; raises as ``mask``
        does."""
        return _FixedFilter(
            self.allow, self.block, self.where, positions=self.blocked(items), listed=self.mask(items, table)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _FixedFilter(ItemFilter):
    """A filter that knows its answers for one run.

    Attributes:
        positions: int64, places of the items in ``block``.
        listed: bool [I], the items that may be listed.
    """

    positions: np.ndarray
    listed: np.ndarray

    def blocked(self, items: Ids) -> np.ndarray:
        """As of ``ItemFilter``."""
        return self.positions

    def mask(self, items: Ids, table: ItemTable) -> np.ndarray:
        """As of ``ItemFilter``; not to be written to."""
        return self.listed


def _known(items: Ids, ids: Sequence[object] | pa.Array) -> np.ndarray:
    positions = items.find(ids)
    return positions[positions >= 0]
