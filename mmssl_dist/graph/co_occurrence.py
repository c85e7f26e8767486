"""Whether items that are near each other by a modality are in the same users' training items.

Features whose ids or order do not match the items, or that say nothing of what users choose, are files like
any others. But their neighbours are in one user's items as often as popularity alone would have it, and all
that a model makes of them is noise in every row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mmssl_dist.graph.item_units import smallest
from mmssl_dist.graph.own_lists import OwnLists
from mmssl_dist.graph.transfer import lookup, send_to_owners, total
from mmssl_dist.kernels.splitmix import mix, salt

_USERS = 20_000  # sampled
_ITEMS = 8  # sampled of each: 56 ordered pairs
_ENOUGH = 30.0  # pairs expected by chance, from which on their number means something
_ERRORS = 4  # standard errors of a count by chance; pairs of one user are not independent
_DENSE = 0.1  # share of pairs expected by chance; above it lists hold too much of the catalogue for any lift


@dataclass(frozen=True)
class CoOccurrence:
    """Ordered pairs of items in one user's training items.

    Attributes:
        pairs: how many there are.
        listed: pairs of which the first item lists the second as a neighbour.
        by_chance: how many would be if the second were the item of any interaction.
    """

    pairs: int
    listed: int
    by_chance: float

    @property
    def lift(self) -> float | None:
        """How many times as often as by chance; None where chance has none."""
        return self.listed / self.by_chance if self.by_chance else None

    @property
    def can_tell(self) -> bool:
        """Whether the sample is large enough, and lists hold little enough of the catalogue, to judge."""
        return _ENOUGH <= self.by_chance <= _DENSE * self.pairs

    def is_chance(self, lift: float) -> bool:
        """Whether there are about as many as by chance, in a sample that can tell: less than ``lift`` times
        as many and more than 1 / ``lift``, or within four standard errors. Far fewer mean something, too:
        similar items may stand in for each other."""
        error = _ERRORS * math.sqrt(self.by_chance)
        low = min(self.by_chance / lift, self.by_chance - error)
        high = max(self.by_chance * lift, self.by_chance + error)
        return self.can_tell and low < self.listed < high


def sampled_pairs(own: OwnLists, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Node ids of ordered pairs of different items, each of one of this worker's users (collective).

    They are all pairs of at most 8 items of each of at most 20,000 users of all workers, the same ones for
    any number of workers.
    """
    hashed = mix(own.users.astype(np.uint64) ^ salt(seed, 7))
    able = np.flatnonzero(own.of_users.lengths > 1)
    chosen = able[smallest(own.owner, hashed[able], _USERS)]
    lists = own.of_users.take(chosen)
    user = np.repeat(np.arange(len(chosen)), lists.lengths)
    order = np.lexsort((mix(hashed[chosen][user] ^ mix(lists.values.astype(np.uint64))), user))
    place = np.arange(len(user)) - lists.indptr[user]
    items = lists.values[order[place < _ITEMS]]
    count = np.minimum(lists.lengths, _ITEMS)
    first = np.repeat(np.cumsum(count) - count, count)
    place, count = np.arange(len(items)) - first, np.repeat(count, count)
    # Every item beside the one ``shift`` further on in its user's circle: each ordered pair once.
    shifts = [(shift, shift < count) for shift in range(1, _ITEMS)]
    beside = [items[(first + (place + shift) % count)[able]] for shift, able in shifts]
    return np.concatenate([items[able] for _, able in shifts]), np.concatenate(beside)


def co_occurrence(
    own: OwnLists, pairs: tuple[np.ndarray, np.ndarray], row: np.ndarray, neighbours: np.ndarray
) -> CoOccurrence:
    """How many of ``pairs``, which the workers hold by user, are in the item-item graph (collective).

    Args:
        row, neighbours: [E] node ids of this worker's items and of what they list, sorted by both.
    """
    owner = own.owner
    degrees = np.zeros(owner.rows, np.int64)
    degrees[own.items - owner.first] = own.of_items.lengths
    popularity = np.zeros(owner.rows, np.int64)
    np.add.at(popularity, row - owner.first, lookup(owner, degrees, neighbours))
    first, second = send_to_owners(owner, *pairs)
    keys, wanted = _keys(row, neighbours), _keys(first, second)
    place = np.searchsorted(keys, wanted)
    found = place < len(keys)
    found[found] = keys[place[found]] == wanted[found]
    # Integers until all workers' are summed, so that the sum does not depend on their number.
    counts = [len(first), found.sum(), popularity[first - owner.first].sum(), own.of_items.lengths.sum()]
    pairs_of_all, listed, popular, interactions = total(owner, np.array(counts, np.int64)).tolist()
    by_chance = popular / interactions if interactions else 0.0
    return CoOccurrence(pairs=pairs_of_all, listed=listed, by_chance=by_chance)


def _keys(row: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Node ids as one integer; int64 holds those below 2^31."""
    assert len(row) == 0 or int(row.max()) < 2**31
    return np.asarray((row.astype(np.int64) << 32) | value, np.int64)
