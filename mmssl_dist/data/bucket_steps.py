"""What happens inside one hash bucket: duplicates go, ids get numbers, interactions get their split.

Each function sees all rows of its ids, sorts before it decides, and draws from hashes of ids; hence the
result does not depend on the order in which blocks arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.config.data_sections import Split
from mmssl_dist.data import splits
from mmssl_dist.data.columns import (
    BUCKET,
    FILE,
    HELD_OUT,
    ITEM,
    ITEM_ID,
    ROW,
    ROW_KIND,
    SPLIT,
    SPLITS,
    TIME,
    USER,
    USER_ID,
    VECTOR,
)
from mmssl_dist.data.files import TEXT_TABLE_SUFFIXES, RawFile
from mmssl_dist.data.ids import buckets_of, hashes, one_array, positions, ranked, scalar_text
from mmssl_dist.data.order import order_of, sorted_rows
from mmssl_dist.data.packed_rows import pack, unpack
from mmssl_dist.data.readers.base import row_location
from mmssl_dist.data.rows import BELOW_EVENTS, DUPLICATE, item_schema, live_and_tallies, tallied
from mmssl_dist.errors import InputError
from mmssl_dist.kernels.splitmix import mix, salt

ITEMS_DROPPED = "items_dropped"
UNKNOWN_ITEMS, UNKNOWN_INTERACTIONS = "unknown_items", "unknown_interactions"
UNKNOWN_EXAMPLES = "unknown_examples"
EARLIEST, LATEST = "earliest", "latest"
_EXAMPLES = 5


@dataclass(frozen=True)
class Catalogue:
    """What an item bucket has to know about the files rows come from.

    Attributes:
        features: files of each modality.
        shapes: F and dtype of each modality.
        core: items without interactions are dropped.
        keep_unknown: items without features stay; else their interactions go.
    """

    features: dict[str, tuple[RawFile, ...]]
    shapes: dict[str, tuple[int, np.dtype]]
    core: bool
    keep_unknown: bool


def distinct_interactions(table: pa.Table, least: int = 1) -> tuple[pa.Table, dict[str, int]]:
    """Interactions without repetitions of a user-item pair, sorted, and how many rows went for which reason.

    Of several the one in the earliest split stays, then the earliest in time, then the first in the files.
    Pairs in fewer than ``least`` rows go.
    """
    live, rare = _frequent(table, least)
    order, _, _ = _first_of_pairs(live)
    return live.take(order), {BELOW_EVENTS: rare, DUPLICATE: live.num_rows - len(order)}


def settle_users(table: pa.Table, split: Split, method: str, least: int = 1) -> pa.Table:
    """One user bucket, packed: its users in order, and its interactions with local user numbers and a split,
    or, for the temporal method, a time key. Pairs in fewer than ``least`` rows go, as do repetitions. Where
    interactions have times, the first and the last of them are columns of their own."""
    live, tallies = live_and_tallies(table)
    live, rare = _frequent(live, least)
    order, user_ids, users = _first_of_pairs(live)
    dropped = tallied(tallies)
    dropped[BELOW_EVENTS] += rare
    dropped[DUPLICATE] += live.num_rows - len(order)
    live = live.drop_columns([USER_ID]).take(order)
    period = _period(live) if TIME in live.column_names else {}
    items = one_array(live[ITEM_ID])
    made = {USER: pa.array(users), ITEM_ID: items, FILE: live[FILE], ROW: live[ROW]}
    if method == "given":
        made[SPLIT] = live[SPLIT]
    elif method == "temporal":
        made[TIME] = pa.array(splits.time_keys(live[TIME].to_numpy()))
    else:
        made[SPLIT] = pa.array(
            _held_out(user_ids=user_ids, users=users, items=items, live=live, split=split, method=method)
        )
    counts = {"users": len(user_ids), "interactions": live.num_rows, **dropped}
    tables = {"users": pa.table({USER_ID: user_ids}), "interactions": pa.table(made)}
    packed = pack(table[BUCKET][0].as_py(), counts, tables)
    for name, time in period.items():
        packed = packed.append_column(name, time)
    return packed


def _period(interactions: pa.Table) -> dict[str, pa.Array]:
    """The first and the last time, each as an array of one; null where there are no interactions."""
    bounds = pc.min_max(interactions[TIME])
    times = interactions.schema.field(TIME).type
    return {
        EARLIEST: pa.array([bounds["min"].as_py()], times),
        LATEST: pa.array([bounds["max"].as_py()], times),
    }


def _frequent(table: pa.Table, least: int) -> tuple[pa.Table, int]:
    """The rows of pairs that have at least ``least`` of them, and how many others there were."""
    if least == 1 or not table.num_rows:
        return table, 0
    _, users = ranked(one_array(table[USER_ID]))
    item_ids, items = ranked(one_array(table[ITEM_ID]))
    _, pairs, counts = np.unique(
        users.astype(np.int64) * len(item_ids) + items, return_inverse=True, return_counts=True
    )
    kept = table.filter(pa.array(counts[pairs] >= least))
    return kept, table.num_rows - kept.num_rows


def _first_of_pairs(table: pa.Table) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """The rows that ``distinct_interactions`` keeps, sorted; the user ids, sorted; each kept row's position
    among those."""
    user_ids, users = ranked(one_array(table[USER_ID]))
    _, items = ranked(one_array(table[ITEM_ID]))
    order = order_of(users, items)
    again = _as_before(users[order], items[order])
    # Only tied rows are sorted by all keys: repetitions are rare, and a full sort takes several times longer.
    if again.any():
        tied = np.flatnonzero(again | np.append(again[1:], False))
        rows = order[tied]
        # By split, then time, then place in the files: which of equal pairs stays must not depend on arrival.
        keys = [
            users,
            items,
            *(table[name].to_numpy() for name in (SPLIT, TIME) if name in table.column_names),
            table[FILE].to_numpy(),
            table[ROW].to_numpy(),
        ]
        order[tied] = rows[np.lexsort([key[rows] for key in keys[::-1]])]
        order = order[~again]
    return order, user_ids, users[order]


def _as_before(*sorted_keys: np.ndarray) -> np.ndarray:
    """[n] bool: rows that are equal to the one before them."""
    same = np.ones(len(sorted_keys[0]), bool)
    same[:1] = False
    for key in sorted_keys:
        same[1:] &= key[1:] == key[:-1]
    return same


def rows_by_item(
    batch: pa.Table,
    offsets: np.ndarray,
    thresholds: tuple[int | None, int | None] | None,
    item_type: pa.DataType,
    buckets: int,
) -> Iterator[pa.Table]:
    """Interactions of packed user buckets as ``item_schema``, with dataset numbers of users and the final
    split."""
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        table = unpack(row, "interactions")
        n = table.num_rows
        yield pa.table(
            {
                ITEM_ID: table[ITEM_ID],
                ROW_KIND: pa.array(np.full(n, -1, np.int16)),
                USER: pa.array(table[USER].to_numpy() + offsets[row[BUCKET][0].as_py()]),
                SPLIT: pa.array(_held(table, thresholds)),
                FILE: table[FILE],
                ROW: table[ROW],
                "vector": pa.nulls(n, pa.large_binary()),
                BUCKET: buckets_of(one_array(table[ITEM_ID]), buckets),
            },
            schema=item_schema(item_type),
        )


def settle_items(table: pa.Table, catalogue: Catalogue) -> pa.Table:
    """One item bucket, packed: its items in order, and interactions and features with local item numbers.

    Its counts say how many items without features there were, and how many interactions they had; the table
    ``UNKNOWN_EXAMPLES`` names the first of these rows. ``used_count`` of a modality counts its items with
    interactions.

    Raises:
        InputError: an item with two vectors of one modality.
    """
    # One table for both kinds of rows, so that a single shuffle brings interactions and features together.
    kinds = table[ROW_KIND].to_numpy()
    interactions = table.select([ITEM_ID, USER, SPLIT, FILE, ROW]).filter(pa.array(kinds < 0))
    features = table.select([ITEM_ID, ROW_KIND, FILE, ROW, "vector"]).filter(pa.array(kinds >= 0))
    feature_items, _ = ranked(one_array(features[ITEM_ID]))
    lacks_features = positions(one_array(interactions[ITEM_ID]), feature_items) < 0
    unknown = interactions.filter(pa.array(lacks_features))
    unknown_ids = pc.unique(one_array(unknown[ITEM_ID]))
    items = feature_items
    if len(unknown_ids) and catalogue.keep_unknown:
        items, _ = ranked(pa.concat_arrays([feature_items, unknown_ids]))
    elif len(unknown_ids):
        interactions = interactions.filter(pa.array(~lacks_features))
    items_before_core = len(items)
    interaction_items = one_array(interactions[ITEM_ID])
    # The core is of interactions: an item without any has fewer than every positive bound.
    if catalogue.core:
        items, local = ranked(interaction_items)
    else:
        local = positions(interaction_items, items)
    counts = {
        "items": len(items),
        ITEMS_DROPPED: items_before_core - len(items),
        UNKNOWN_ITEMS: len(unknown_ids),
        UNKNOWN_INTERACTIONS: unknown.num_rows,
    }
    tables = {"items": pa.table({ITEM_ID: items}), UNKNOWN_EXAMPLES: _first_rows(unknown)}
    for name, pairs in _pairs_by_split(interactions, local).items():
        tables[name], counts[name] = pairs, pairs.num_rows
    used, _ = ranked(interaction_items)
    for number, name in enumerate(catalogue.features):
        rows = features.filter(pc.equal(features[ROW_KIND], number))
        tables[feature_table_name(name)] = _features(rows, items, name, catalogue)
        counts[feature_table_name(name)] = tables[feature_table_name(name)].num_rows
        counts[used_count(name)] = int((positions(one_array(rows[ITEM_ID]), used) >= 0).sum())
    return pack(table[BUCKET][0].as_py(), counts, tables)


def _pairs_by_split(interactions: pa.Table, items: np.ndarray) -> dict[str, pa.Table]:
    """Users and items of each split; ``items``: of each interaction, its number within the bucket."""
    # Sorted by split, user and item, so that the published files are the same whatever order blocks came in.
    split, users, items = sorted_rows(interactions[SPLIT].to_numpy(), interactions[USER].to_numpy(), items)
    bounds = np.searchsorted(split, np.arange(len(SPLITS) + 1)).tolist()
    return {
        name: pa.table({USER: users[first:last], ITEM: items[first:last]})
        for name, first, last in zip(SPLITS, bounds[:-1], bounds[1:], strict=True)
    }


def feature_table_name(modality: str) -> str:
    """The name, in a packed item bucket, of a modality's table and of its count."""
    return f"features.{modality}"


def used_count(modality: str) -> str:
    """The name of the count of a modality's items that somebody interacted with."""
    return f"used.{modality}"


def _held_out(
    user_ids: pa.Array,
    users: np.ndarray,
    items: pa.Array,
    live: pa.Table,
    split: Split,
    method: str,
) -> np.ndarray:
    user_hashes = hashes(user_ids)
    # From the external ids: numbering, bucket count and machine may change, and the split stays.
    order = mix(mix(user_hashes ^ salt(split.seed, 0))[users] ^ hashes(items))
    if method == "leave_last_out":
        return splits.leave_last_out(users, live[TIME].to_numpy(), order)
    draws = (mix(user_hashes ^ salt(split.seed, 1)), mix(user_hashes ^ salt(split.seed, 2)))
    return splits.ratio(
        users=users,
        order=order,
        draws=(_unit(draws[0]), _unit(draws[1])),
        validation=split.validation,
        test=split.test,
    )


def _unit(values: np.ndarray) -> np.ndarray:
    """uint64 -> float64 in [0, 1)."""
    # 53 bits, which a float64 holds exactly; more would round some values up to 1.
    return (values >> np.uint64(11)).astype(np.float64) / (1 << 53)


def _first_rows(unknown: pa.Table) -> pa.Table:
    """The first row of each of the first few items, by their place in the files."""
    table = unknown.select([ITEM_ID, FILE, ROW]).sort_by([(FILE, "ascending"), (ROW, "ascending")])
    _, numbers = ranked(one_array(table[ITEM_ID]))
    # One row for each item, since a popular unknown item would fill all examples by itself.
    first = np.sort(np.unique(numbers, return_index=True)[1])[:_EXAMPLES]
    return table.take(pa.array(first))


def held_out_digests(batch: pa.Table, thresholds: tuple[int | None, int | None] | None) -> pa.Table:
    """A digest of the held-out (user, item) pairs of packed user buckets, one row: for each held-out split a
    sum of hashes of external ids, so that neither order, numbering nor the number of buckets matters.
    """
    totals = dict.fromkeys(HELD_OUT, 0)
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        table = unpack(row, "interactions")
        held = _held(table, thresholds)
        users = hashes(one_array(unpack(row, "users")[USER_ID]))[table[USER].to_numpy()]
        pairs = mix(mix(users) ^ hashes(one_array(table[ITEM_ID])))
        for name in HELD_OUT:
            # A sum of hashes, modulo 2^64: addition commutes, so no order of rows or buckets changes it.
            totals[name] += int(pairs[held == SPLITS.index(name)].sum(dtype=np.uint64))
    return pa.table({name: pa.array([total % (1 << 64)], pa.uint64()) for name, total in totals.items()})


def _held(table: pa.Table, thresholds: tuple[int | None, int | None] | None) -> np.ndarray:
    """[n] int8: the split of each interaction of an unpacked user bucket."""
    if thresholds is None:
        split: np.ndarray = table[SPLIT].to_numpy()
        return split
    return splits.temporal(table[TIME].to_numpy(), *thresholds)


def _features(rows: pa.Table, items: pa.Array, modality: str, catalogue: Catalogue) -> pa.Table:
    dimension, dtype = catalogue.shapes[modality]
    local = positions(one_array(rows[ITEM_ID]), items)
    place_of = np.lexsort((rows[ROW].to_numpy(), rows[FILE].to_numpy(), local))
    # Features of dropped items; they were read like all others, as nothing was known of them by then.
    place_of = place_of[local[place_of] >= 0]
    local = local[place_of]
    twice = np.flatnonzero(local[1:] == local[:-1])
    if len(twice):
        second = rows.slice(int(place_of[twice[0] + 1]), 1)
        files, file = catalogue.features[modality], second[FILE][0].as_py()
        # A table of raw content may be text, of which lines are counted.
        unit = "line" if files[file].location.path.endswith(TEXT_TABLE_SUFFIXES) else "row"
        raise InputError(
            row_location(files, file, unit, second[ROW][0].as_py()),
            f"a duplicate row for item {scalar_text(second[ITEM_ID][0])}",
            "an item has at most one row in a modality",
            "Drop one of the rows.",
        )
    vectors = one_array(rows["vector"]).take(pa.array(place_of))
    # Vectors travelled as bytes; taken in order their buffer is the matrix itself.
    values = np.frombuffer(vectors.buffers()[2] or b"", dtype, len(vectors) * dimension)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), dimension)
    return pa.table({ITEM: pa.array(local), VECTOR: column})
