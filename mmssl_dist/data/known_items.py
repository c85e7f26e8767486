"""Interactions of items without features (``data.unknown_items``): left out, or an error that names the
first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from mmssl_dist.data.bucket_steps import UNKNOWN_EXAMPLES, UNKNOWN_INTERACTIONS, UNKNOWN_ITEMS
from mmssl_dist.data.columns import BUCKET, FILE, ITEM_ID, ROW, USER_ID
from mmssl_dist.data.ids import one_array, positions, scalar_text
from mmssl_dist.data.packed_rows import from_fragments, read_stream, stream_column, to_fragments
from mmssl_dist.data.readers import FeatureSource, InteractionSource
from mmssl_dist.data.readers.base import row_location
from mmssl_dist.data.row_operations import RowDataset, by_bucket, map_tables
from mmssl_dist.data.rows import UNKNOWN_ITEM, live_and_tallies, tally, with_bucket
from mmssl_dist.errors import InputError

_EXAMPLES = 5
_LOOKED_AT_BYTES = 1 << 26  # of a modality, once there is an error


def of_known_items(interactions: RowDataset, features: RowDataset, buckets: int) -> RowDataset:
    """Fragments of interactions by user without those whose item no row of ``features``, fragments by item,
    has; they become tallies.

    Before interactions are counted and split: else a user could keep a test item and nothing to train on.
    """
    by_item = map_tables(
        interactions, from_fragments(to_fragments(partial(with_bucket, column=ITEM_ID, buckets=buckets)))
    )
    ids = map_tables(features, from_fragments(to_fragments(_ids)))
    return by_bucket(by_item.union(ids), to_fragments(partial(_known, buckets=buckets)), buckets)


def unknown_items(
    items: RowDataset,
    counts: Mapping[str, int],
    source: InteractionSource,
    features: dict[str, FeatureSource],
) -> InputError:
    """The error for items without features: how many, and the first rows that name one.

    Args:
        items: packed buckets of ``settle_items``.
        counts: over all of them.
        source: of the interactions.
        features: of every modality, by name.
    """
    column = stream_column(UNKNOWN_EXAMPLES)
    tables = (read_stream(row[column]) for row in items.select_columns([column]).iter_rows())
    rows = sorted(
        example
        for table in tables
        for example in zip(*(table[name].to_pylist() for name in (FILE, ROW, ITEM_ID)), strict=True)
    )
    examples = ", ".join(
        f"{scalar_text(pa.scalar(item))} ({row_location(source.files, file, source.unit, number)})"
        for file, number, item in rows[:_EXAMPLES]
    )
    catalogues = []
    for feature in features.values():
        more = f" and {len(feature.files) - 1} more" if len(feature.files) > 1 else ""
        numbering = "" if feature.rows is None else f" (ids are its row numbers, 0 to {feature.rows - 1})"
        catalogues.append(f"{feature.files[0].name}{more}{numbering}")
    alike = _spelled_alike([item for _, _, item in rows], features)
    return InputError(
        "data.unknown_items",
        f"{counts[UNKNOWN_ITEMS]} item(s) without features, in {counts[UNKNOWN_INTERACTIONS]} "
        f"interaction(s): {examples}",
        f"every item needs features, in {' or '.join(catalogues)}{alike}",
        "Add the features, or set data.unknown_items: drop leaves these interactions out, keep lets the "
        "items take part, known by their interactions alone.",
    )


def _spelled_alike(unknown: Sequence[object], features: Mapping[str, FeatureSource]) -> str:
    """What to say of items that differ from one with features in case or leading zeros alone, as spreadsheets
    make them; nothing where files are too large to look."""
    wanted = {_plain(item): item for item in unknown if isinstance(item, str)}
    for source in features.values():
        if not wanted or sum(file.size for file in source.files) > _LOOKED_AT_BYTES:
            continue
        for batch in source.read_all(source.pieces):
            for item in batch.items.to_pylist():
                other = wanted.get(_plain(item)) if isinstance(item, str) else None
                if other is not None:
                    return f"; ids are compared as they are written, and {other!r} is not {item!r}"
    return ""


def _plain(item: str) -> str:
    return item.strip().casefold().lstrip("0")


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
