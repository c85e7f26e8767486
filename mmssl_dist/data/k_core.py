"""k-core: users and items with fewer than k interactions go, which leaves others with fewer, until nothing
changes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from mmssl_dist.data.bucket_steps import distinct_interactions
from mmssl_dist.data.columns import BUCKET, ITEM_ID, USER_ID
from mmssl_dist.data.ids import one_array, ranked
from mmssl_dist.data.packed_rows import ROWS, from_fragments, to_fragments
from mmssl_dist.data.row_operations import RowDataset, by_bucket, map_tables
from mmssl_dist.data.rows import live_and_tallies, tally, with_bucket


def k_core(
    interactions: RowDataset, least: int, buckets: int, least_events: int = 1
) -> tuple[RowDataset, int]:
    """The ``least``-core of fragments of interactions by user, as such fragments again, and how many rows
    went; pairs in fewer than ``least_events`` rows are no part of it.

    Users and items are counted in turns, each turn a shuffle.
    """
    once = partial(without_repetitions, buckets=buckets, least=least_events)
    rows = by_bucket(interactions, to_fragments(once), buckets).materialize()
    count, dropped, turn = _count(rows), 0, 0
    # Two turns without a loss end it: each side has then been counted on what the other one left.
    while True:
        side, other = ((ITEM_ID, USER_ID), (USER_ID, ITEM_ID))[turn % 2]
        drop = partial(drop_rare, side=side, other=other, least=least, buckets=buckets)
        rows = by_bucket(rows, to_fragments(drop), buckets).materialize()
        left = _count(rows)
        dropped, gone, count, turn = dropped + count - left, count - left, left, turn + 1
        # Callers expect fragments by user; this turn left them by item.
        if gone == 0 and turn >= 2 and other == ITEM_ID:
            rows = map_tables(
                rows, from_fragments(to_fragments(partial(with_bucket, column=USER_ID, buckets=buckets)))
            )
        if gone == 0 and turn >= 2:
            return rows, dropped


def _count(rows: RowDataset) -> int:
    return sum(fragment[ROWS] for fragment in rows.select_columns([ROWS]).iter_rows())


def without_repetitions(table: pa.Table, buckets: int, least: int) -> pa.Table:
    """One user bucket without repeated pairs and those in fewer than ``least`` rows, re-bucketed by item."""
    live, tallies = live_and_tallies(table)
    live, dropped = distinct_interactions(live, least)
    # Tallies go along, as the counts of what was dropped have no other way to the end.
    bucket = table[BUCKET][0].as_py()
    counted = [tally(table.schema, reason, count, bucket) for reason, count in dropped.items()]
    return with_bucket(pa.concat_tables([live, tallies, *counted]), ITEM_ID, buckets)


def drop_rare(table: pa.Table, side: str, other: str, least: int, buckets: int) -> pa.Table:
    """One bucket of ``side`` without the ids that have fewer than ``least`` rows, re-bucketed by
    ``other``."""
    live, tallies = live_and_tallies(table)
    _, codes = ranked(one_array(live[side]))
    kept = live.filter(pa.array(np.bincount(codes)[codes] >= least))
    return with_bucket(pa.concat_tables([kept, tallies]), other, buckets)
