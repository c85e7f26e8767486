"""Interactions of items that have features, where the job leaves the others out
(``data.unknown_items: drop``)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.columns import BUCKET, FILE, ITEM_ID, USER_ID
from mmssl_dist.data.ids import one_array, positions
from mmssl_dist.data.packed_rows import cut, joined
from mmssl_dist.data.row_operations import Rows, by_bucket, map_tables
from mmssl_dist.data.rows import UNKNOWN_ITEM, live_and_tallies, tally, with_bucket


def of_known_items(interactions: Rows, features: Rows, buckets: int) -> Rows:
    """Fragments of interactions by user without those whose item no row of ``features``, fragments by item,
    has; they become tallies.

    Before interactions are counted and split: else a user could keep a test item and nothing to train on.
    """
    by_item = map_tables(interactions, joined(cut(partial(with_bucket, column=ITEM_ID, buckets=buckets))))
    ids = map_tables(features, joined(cut(_ids)))
    return by_bucket(by_item.union(ids), cut(partial(_known, buckets=buckets)), buckets)


def _ids(features: pa.Table) -> pa.Table:
    # Without a file: that tells them from interactions, with which they are joined
    return features.select([ITEM_ID, BUCKET])


def _known(table: pa.Table, buckets: int) -> Iterator[pa.Table]:
    """Of one item bucket, bucketed by user."""
    if FILE not in table.column_names:
        return  # no interactions
    of_features = pc.is_null(table[FILE])
    known, rows = table.filter(of_features), table.filter(pc.invert(of_features))
    live, tallies = live_and_tallies(rows)
    ids = pc.unique(one_array(known[ITEM_ID]))
    kept = live.filter(pa.array(positions(one_array(live[ITEM_ID]), ids) >= 0))
    bucket = table[BUCKET][0].as_py()
    dropped = tally(rows.schema, UNKNOWN_ITEM, live.num_rows - kept.num_rows, bucket)
    yield with_bucket(pa.concat_tables([kept, tallies, dropped]), USER_ID, buckets)
