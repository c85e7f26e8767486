"""What the report shows beyond the stages' own facts: for whom and for which items the lists are good, and
examples.

Computed from the exported lists of up to ``SAMPLED_USERS`` users, the first of each partition; their order
has nothing to do with taste. Lists that leave out held-out items get them back, by their scores: otherwise
none could be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmssl_dist.config.training_sections import Excluded
from mmssl_dist.data.columns import HELD_OUT, TEST, USER_ID
from mmssl_dist.data.ids import id_values, one_array
from mmssl_dist.graph.partition_files import read_book
from mmssl_dist.serving.run import Run
from mmssl_dist.serving.seen import SeenItems, read_held_out
from mmssl_dist.storage.export_names import (
    ITEM_ROWS,
    ITEMS,
    RECOMMENDATIONS,
    SCORES,
    embeddings_file,
    parquet_file,
)

SAMPLED_USERS = 5000
_GROUPS = 5
_EXAMPLES = 6
_SHOWN = 10


@dataclass(frozen=True)
class Group:
    """Users or items with a similar number of training interactions. ``recall`` counts held-out test items
    found."""

    name: str
    members: int
    recall: float


@dataclass(frozen=True, kw_only=True)
class UserExample:
    """A user's training items, best new ones, and the most popular that they do not know, external ids;
    ``hits`` and ``popular_hits``: which of the two lists were held out."""

    user: Any
    history: list[Any]
    known: int
    recommended: list[Any]
    hits: list[bool]
    popular: list[Any]
    popular_hits: list[bool]


@dataclass(frozen=True, kw_only=True)
class ListQuality:
    """Of the first ``k`` items of the lists that leave out training items alone, for ``users`` users.

    exclude: what the exported lists leave out, as ``export.exclude``.
    by_activity: users by their number of training items. by_popularity: items by theirs, cold ones first.
    user_degrees, item_degrees: training interactions of every user and of every item.
    coverage: share of the items that are in some list. novelty: bits, mean of -log2 of an item's share of the
        users.
    """

    k: int
    exclude: Excluded
    users: int
    by_activity: list[Group]
    by_popularity: list[Group]
    user_degrees: np.ndarray
    item_degrees: np.ndarray
    coverage: float
    novelty: float
    examples: list[UserExample]


@dataclass(frozen=True)
class _ExportedLists:
    users: np.ndarray  # [n] their rows
    ids: list[Any]
    items: list[np.ndarray]  # of each user, places, best first
    scores: list[np.ndarray]  # float32, of each user


def measure_lists(run: Run, k: int) -> ListQuality | None:
    """Look at a run's exported lists; ``k`` is cut to their length. None where nobody has one.

    Raises:
        ArtifactError: a file is not what its manifest says.
    """
    k = min(k, int(run.facts["k"]))
    # Earlier versions exported exact lists of all users, and did not say so.
    made = run.facts.get("lists", {"made": "exact", "users": run.facts["users"]})
    if made["made"] == "none" or not made["users"]:
        return None
    lists, seen = _read_lists(run, k), run.seen
    if run.exclude == "known":
        lists = _with_held_out(run, lists, k)
    held_out = read_held_out(run.partitions, TEST)
    user_degrees, item_degrees = seen.user_degrees, seen.item_degrees
    held_out_items = [held_out.of(position) for position in lists.users]
    hits = [np.isin(held, items) for held, items in zip(held_out_items, lists.items, strict=True)]
    listed = np.concatenate([np.empty(0, np.int64), *lists.items])
    # A cold item counts as one interaction, or its novelty would be infinite.
    share = np.maximum(item_degrees[listed], 1) / max(1, len(user_degrees))
    return ListQuality(
        k=k,
        exclude=run.exclude,
        users=len(lists.users),
        by_activity=_by_activity(user_degrees[lists.users], hits),
        by_popularity=_by_popularity(item_degrees, held_out_items, hits),
        user_degrees=user_degrees,
        item_degrees=item_degrees,
        coverage=len(np.unique(listed)) / max(1, len(item_degrees)),
        novelty=float(-np.log2(share).mean()) if len(listed) else 0.0,
        examples=_examples(run, lists, seen, held_out),
    )


def _read_lists(run: Run, k: int) -> _ExportedLists:
    positions, ids, items, scores = [], [], [], []
    book = run.partitions.manifest.facts["book"]["users"]
    for part, users in enumerate(book):
        path = run.export.path(parquet_file(RECOMMENDATIONS, part))
        share = min(users, -(-SAMPLED_USERS // len(book)))
        table = pa.Table.from_batches(list(_first(pq.ParquetFile(path), share)))
        users_listed = id_values(one_array(table[USER_ID]))
        # By id, since not every user of the partition has a list where export.users names some.
        positions.append(run.users.positions(users_listed))
        ids += users_listed
        items += [run.items.positions(ranked[:k]) for ranked in table[ITEMS].to_pylist()]
        scores += [np.asarray(listed[:k], np.float32) for listed in table[SCORES].to_pylist()]
    return _ExportedLists(np.concatenate(positions), ids, items, scores)


def _with_held_out(run: Run, lists: _ExportedLists, k: int) -> _ExportedLists:
    """The lists as they are if training items alone are left out: their ``k`` best items and the held-out
    ones in one order. An approximate index might miss some of these; here it misses none."""
    splits = [read_held_out(run.partitions, split) for split in HELD_OUT]
    users = run.user_rows.take(lists.users)
    item_rows = run.export.mapped(embeddings_file, ITEM_ROWS, read_book(run.partitions.manifest).items)
    items, scores = [], []
    for user, row, listed, listed_scores in zip(lists.users, users, lists.items, lists.scores, strict=True):
        held_out = np.unique(np.concatenate([split.of(user) for split in splits]))
        places = np.concatenate([listed, held_out])
        values = np.concatenate([listed_scores, item_rows.take(held_out) @ row])
        order = np.lexsort((places, -values))[:k]  # of equals the lower place first, as in the lists
        items.append(places[order])
        scores.append(values[order])
    return _ExportedLists(lists.users, lists.ids, items, scores)


def _first(file: pq.ParquetFile, rows: int) -> list[pa.RecordBatch]:
    # Only the first batch is read: a partition may have millions of lists.
    for batch in file.iter_batches(max(1, rows)):
        return [batch]
    return [pa.RecordBatch.from_pylist([], file.schema_arrow)]


def _by_activity(degrees: np.ndarray, hits: Sequence[np.ndarray]) -> list[Group]:
    tested = np.asarray([len(user_hits) > 0 for user_hits in hits], bool)
    recall = np.asarray([user_hits.mean() if len(user_hits) else 0.0 for user_hits in hits])
    return [
        Group(name, int((chosen & tested).sum()), float(recall[chosen & tested].mean()))
        for name, chosen in _quantiles(degrees)
        if (chosen & tested).any()
    ]


def _by_popularity(
    degrees: np.ndarray, wanted: Sequence[np.ndarray], hits: Sequence[np.ndarray]
) -> list[Group]:
    items = np.concatenate([np.empty(0, np.int64), *wanted])
    is_hit = np.concatenate([np.empty(0, bool), *hits])
    return [
        Group(name, int(chosen.sum()), float(is_hit[chosen[items]].mean()))
        for name, chosen in _quantiles(degrees)
        if chosen[items].any()
    ]


def _quantiles(degrees: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Groups of about equal size by degree, with the range as name; zero is a group of its own."""
    groups = [("0", degrees == 0)] if (degrees == 0).any() else []
    positive = degrees[degrees > 0]
    if not len(positive):
        return groups
    # ``nearest``, so that edges are degrees that occur.
    edges = np.unique(np.quantile(positive, np.linspace(0, 1, _GROUPS + 1), method="nearest"))
    lows = [int(edges[0]), *(int(edge) + 1 for edge in edges[1:-1])]
    highs = [int(edge) for edge in edges[1:]] or [int(edges[0])]
    for low, high in zip(lows, highs, strict=True):
        name = f"{low}" if low == high else f"{low}-{high}"
        groups.append((name, (degrees >= low) & (degrees <= high)))
    return groups


def _examples(run: Run, lists: _ExportedLists, seen: SeenItems, held_out: SeenItems) -> list[UserExample]:
    examples = []
    by_popularity = np.argsort(-seen.item_degrees, kind="stable")
    for row in np.unique(np.linspace(0, len(lists.ids) - 1, min(_EXAMPLES, len(lists.ids))).astype(int)):
        history, items = seen.of(lists.users[row]), lists.items[row][:_SHOWN]
        held_out_items = held_out.of(lists.users[row])
        # Enough that _SHOWN remain even of a user who knows the most popular ones.
        popular = by_popularity[: len(history) + _SHOWN]
        popular = popular[~np.isin(popular, history)][:_SHOWN]
        examples.append(
            UserExample(
                user=lists.ids[row],
                history=run.items.at(history[:_SHOWN]),
                known=len(history),
                recommended=run.items.at(items),
                hits=np.isin(items, held_out_items).tolist(),
                popular=run.items.at(popular),
                popular_hits=np.isin(popular, held_out_items).tolist(),
            )
        )
    return examples
