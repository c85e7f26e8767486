"""The item-item graph of a modality: each item's K nearest items by the cosine of their features.

LATTICE's and FREEDOM's observation: what items have in common is worth more as a graph over their ID rows
than as features projected into them.

Up to 100,000 items every pair is compared. Beyond, k-means sorts items into cells, and an item is compared
with those in a constant number of cells near it. A cell is compared by one worker, in pieces that do not
depend on how many workers there are; hence neither does the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Lists, offsets
from mmssl_dist.graph.cells import Cells, assign_cells, learn_cells
from mmssl_dist.graph.homes import Homes
from mmssl_dist.graph.item_units import ItemUnits, smallest
from mmssl_dist.graph.ranked_keys import NO_KEY, ids_in, keys_of, merged
from mmssl_dist.graph.transfer import gather, lookup, send_to_owners, total
from mmssl_dist.kernels.splitmix import mix, salt

EXACT = 100_000  # items up to which every pair is compared
_QUERIES = 4096  # compared with a cell at once
ROUND_BYTES = 1 << 25  # of rows that a worker receives to compare them, in one round
_MEASURED = 256  # items whose neighbours are compared with the exact ones


@dataclass(frozen=True)
class LocalItemGraph:
    """The item-item graph of the items at home here.

    Attributes:
        lists: [own items] rows of item indices, ascending. weight: [E] float32 of each entry.
        recall: share of the exact neighbours that are listed, over a sample of all items.
    """

    lists: Lists
    weight: np.ndarray
    recall: float


def similar_items(
    homes: Homes, features: np.ndarray, size: int, seed: int, exact_up_to: int = EXACT
) -> LocalItemGraph:
    """Each item's ``size`` nearest other items by cosine (collective).

    Args:
        features: [own items, F] float32; items without the modality are zero rows. They have no neighbours
            and are nobody's.
        size: K; fewer where there are no more items.
        seed: of the cells and of the sample.
        exact_up_to: items up to which every pair is compared.
    """
    units = ItemUnits(homes, features)
    # An item is no neighbour of itself.
    size = min(size, units.total - 1)
    # A catalogue in which no item has the modality would give -1.
    best = np.full((len(features), max(size, 0)), NO_KEY)
    recall = 1.0
    if size >= 1 and units.total <= exact_up_to:
        _compare_all(units, best)
    elif size >= 1:
        _compare_cells(units, learn_cells(units, seed), best)
        recall = _recall(units, best, seed)
    lists = _lists(best)
    return LocalItemGraph(lists, symmetric_weights(lists, _listed(homes, lists)), recall)


def symmetric_weights(lists: Lists, listed: np.ndarray) -> np.ndarray:
    """[E] float32: 1 / sqrt(length of the row * rows that list the item), so that hubs count less.

    Args:
        listed: [E] in how many rows each entry's item is.
    """
    return np.asarray(1.0 / np.sqrt(np.repeat(lists.lengths, lists.lengths) * listed), np.float32)


def _listed(homes: Homes, lists: Lists) -> np.ndarray:
    """[E] int64: in how many rows, of all workers, each entry's item is (collective)."""
    items, counts = np.unique(lists.values, return_counts=True)
    items, counts = send_to_owners(homes.items, items, counts)
    table = np.zeros(homes.items.rows, np.int64)
    np.add.at(table, items - homes.items.first, counts)
    return lookup(homes.items, table, lists.values)


def _lists(best: np.ndarray) -> Lists:
    kept = best > NO_KEY
    # Absent entries sort to the end of their row, where the next line drops them.
    values = np.sort(np.where(kept, ids_in(best), np.iinfo(np.int64).max), 1)
    return Lists(offsets(kept.sum(1)), values[values < np.iinfo(np.int64).max])


def _compare_all(units: ItemUnits, best: np.ndarray) -> None:
    """Compare every pair: each worker's blocks go to all, one block of each worker at a time; in place."""
    exchange = units.homes.items
    own = list(units.homes.blocks())
    # Workers with fewer blocks go through the remaining rounds with empty ones, as every round is collective.
    for number in range(exchange.max(len(own))):
        block = own[number] if number < len(own) else slice(0, 0)
        rows, vectors = units.of(block)
        counts = exchange.gather_counts(len(rows))
        ids, others = gather(exchange, rows + exchange.first), gather(exchange, vectors)
        # One sender's rows at a time: pieces that do not depend on the number of workers give the same
        # rounding in faiss.
        cuts = np.cumsum(counts)[:-1]
        for members, of_members in zip(np.split(ids, cuts), np.split(others, cuts), strict=True):
            # Best lists are merged piece by piece, so that all scores are never in memory.
            for piece in own:
                mine, of_mine = units.of(piece)
                keys_found = _nearest(
                    items=mine + exchange.first,
                    vectors=of_mine,
                    others=members,
                    of_others=of_members,
                    size=best.shape[1],
                )
                best[mine] = merged(best[mine], keys_found)


def _compare_cells(units: ItemUnits, cells: Cells, best: np.ndarray) -> None:
    """Compare each item with those in the cells it looks into; in place."""
    exchange = units.homes.items
    own, looked = assign_cells(units, cells)
    rounds = cells.rounds(own, looked, ROUND_BYTES // max(1, 4 * units.width))
    for number in range(rounds.count):
        members = _sent(units, rounds.exchange, *rounds.of(own, number))
        lookers = _sent(units, rounds.exchange, *rounds.of(looked, number))
        answers = list(_answers(members, lookers, best.shape[1]))
        # Behind an empty one, since a worker may have no cell in this round.
        ids = np.concatenate([np.empty(0, np.int64)] + [each for each, _ in answers])
        keys = np.concatenate([np.empty((0, best.shape[1]), np.int64)] + [each for _, each in answers])
        ids, keys = send_to_owners(exchange, ids, keys)
        # An item looks into several cells of one round, so its answers come several times.
        _merge_repeated(best, ids - exchange.first, keys)


@dataclass(frozen=True)
class _CellMembers:
    """Items in some cells, by cell and then by item: cell [n], item [n], vectors [n, F]."""

    cell: np.ndarray
    item: np.ndarray
    vectors: np.ndarray

    def of(self, cell: int) -> slice:
        first, last = np.searchsorted(self.cell, [cell, cell + 1]).tolist()
        return slice(first, last)


def _sent(units: ItemUnits, exchange: Exchange, cell: np.ndarray, row: np.ndarray) -> _CellMembers:
    first = units.homes.items.first
    cell, item, vectors = send_to_owners(exchange, cell, row + first, units.vectors(row))
    if exchange.world_size > 1:  # what one worker sends is in order already
        order = np.lexsort((item, cell))
        cell, item, vectors = cell[order], item[order], vectors[order]
    return _CellMembers(cell, item, vectors)


def _answers(
    members: _CellMembers, lookers: _CellMembers, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Items and the keys of their nearest ``size`` among the members of one cell, cell by cell."""
    for cell in np.unique(members.cell).tolist():
        held, looking = members.of(cell), lookers.of(cell)
        for first in range(looking.start, looking.stop, _QUERIES):
            piece = slice(first, min(first + _QUERIES, looking.stop))
            yield (
                lookers.item[piece],
                _nearest(
                    items=lookers.item[piece],
                    vectors=lookers.vectors[piece],
                    others=members.item[held],
                    of_others=members.vectors[held],
                    size=size,
                ),
            )


def _nearest(
    items: np.ndarray, vectors: np.ndarray, others: np.ndarray, of_others: np.ndarray, size: int
) -> np.ndarray:
    """[n, size] keys of the nearest ``others`` of each of ``items``, itself left out; EMPTY where there are
    fewer."""
    import faiss

    keys = np.full((len(items), size), NO_KEY)
    # One more than wanted, since an item's nearest neighbour may be the item itself.
    count = min(size + 1, len(others))
    if len(items) and count:
        scores, positions = faiss.knn(vectors, of_others, count, metric=faiss.METRIC_INNER_PRODUCT)
        ids = others[positions]
        # Keys order by score, then id: faiss orders equal scores by what it compares them beside.
        keys_found = np.where(ids == items[:, None], NO_KEY, keys_of(scores, ids))
        keys_found.sort(1)
        count = min(size, count)
        keys[:, size - count :] = keys_found[:, keys_found.shape[1] - count :]
    return keys


def _merge_repeated(best: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> None:
    """Merge keys into the rows of ``best``, of which some may come several times; in place."""
    order = np.argsort(rows, kind="stable")
    rows, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    lengths = np.diff(np.append(starts, len(rows)))
    # Assignment with repeated indices keeps the last only, so repeats are merged in turns of distinct rows.
    for turn in range(int(lengths.max(initial=0))):
        position = starts[lengths > turn] + turn
        best[rows[position]] = merged(best[rows[position]], keys[position])


def _recall(units: ItemUnits, best: np.ndarray, seed: int) -> float:
    """The share of the exact neighbours of a sample that ``best`` has (collective)."""
    exchange = units.homes.items
    hashed = mix((units.present + exchange.first).astype(np.uint64) ^ salt(seed, 6))
    own = units.present[smallest(exchange, hashed, _MEASURED)]
    items, vectors = gather(exchange, own + exchange.first), gather(exchange, units.vectors(own))
    exact = np.full((len(items), best.shape[1]), NO_KEY)
    for block in units.homes.blocks():
        rows, of_rows = units.of(block)
        exact = merged(
            exact,
            _nearest(
                items=items,
                vectors=vectors,
                others=rows + exchange.first,
                of_others=of_rows,
                size=best.shape[1],
            ),
        )
    of_all = gather(exchange, exact[None])
    exact = np.sort(np.concatenate(list(of_all), 1), 1)[:, -best.shape[1] :]
    # Each worker counts the hits of its own sampled items; the sum below counts every one once.
    mine = np.isin(items, own + exchange.first)
    hits = sum(
        len(np.intersect1d(ids_in(a[a > NO_KEY]), ids_in(b[b > NO_KEY])))
        for a, b in zip(exact[mine], best[items[mine] - exchange.first], strict=True)
    )
    hits, listed = total(exchange, np.array([hits, (exact[mine] > NO_KEY).sum()])).tolist()
    return hits / listed if listed else 1.0
