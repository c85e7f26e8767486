"""Clusters of users and items by size-constrained label propagation, in synchronous sub-rounds."""

from __future__ import annotations

import numpy as np
import torch

from mmssl_dist.exchange.exchange import Route
from mmssl_dist.graph.homes import Homes
from mmssl_dist.graph.transfer import gather, lookup, send_to_owners, tensor
from mmssl_dist.graph.voting_side import SUB_ROUNDS, VotingSide
from mmssl_dist.kernels.splitmix import mix, salt

ROUNDS = 4
_HEAVIEST = 1 << 16  # clusters dealt one by one; lighter ones go by rows of one for each part


def clusters(
    homes: Homes, users: VotingSide, items: VotingSide, limit: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """A cluster of each user and item at home here, named by an item's index (collective).

    Args:
        limit: edges of its users that a cluster holds, about.
    """
    of_users = np.full(homes.users.rows, -1, np.int64)
    of_items = np.arange(homes.items.first, homes.items.first + homes.items.rows)
    # an item that everybody knows tells little about anybody
    degrees = np.empty(homes.items.rows, np.int64)
    degrees[items.rows] = items.lengths
    # Rounded to integers, since only integer sums are the same in any order.
    weight = users.fetch(np.ceil(255 / np.sqrt(np.maximum(degrees, 1))).astype(np.int64))
    for round_ in range(ROUNDS):
        _adopt_with_limit(
            homes=homes,
            side=users,
            labels=of_users,
            of_others=users.fetch(of_items),
            weight=weight,
            limit=limit,
            draw=(seed, round_),
        )
        names, position = np.unique(items.fetch(of_users), return_inverse=True)
        of_others = np.where(names[position] >= 0, position, -1)
        for sub_round in range(SUB_ROUNDS):
            label = items.best_labels(sub_round, of_others, names)
            row = items.rows[items.bounds[sub_round] : items.bounds[sub_round + 1]]
            of_items[row[label >= 0]] = names[label[label >= 0]]
    return of_users, of_items


def deal_clusters(
    homes: Homes,
    sides: tuple[VotingSide, VotingSide],
    of_users: np.ndarray,
    of_items: np.ndarray,
    parts: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The part of each user and item at home here: clusters whole, heaviest first, to the part that stays
    the lightest in nodes and edges of both sides (collective)."""
    weight = np.zeros((homes.items.rows, 4), np.int64)
    for column, (side, labels) in enumerate(zip(sides, (of_users, of_items), strict=True)):
        label = labels[side.rows]
        numbers, position = np.unique(label[label >= 0], return_inverse=True)
        sums = np.stack(
            [
                np.bincount(position, minlength=len(numbers)),
                np.bincount(position, side.lengths[label >= 0], minlength=len(numbers)),
            ],
            1,
        ).astype(np.int64)
        numbers, sums = send_to_owners(homes.items, numbers, sums)
        np.add.at(weight[:, 2 * column : 2 * column + 2], numbers - homes.items.first, sums)
    # A cluster bears the name of an item and is summed at that item's home; empty clusters are left out.
    own = np.flatnonzero(weight.any(1))
    names = gather(homes.items, own + homes.items.first)
    part = _dealt(names, gather(homes.items, weight[own]), parts)
    of_label = np.zeros(homes.items.rows, np.int64)
    mine = (names >= homes.items.first) & (names < homes.items.first + homes.items.rows)
    of_label[names[mine] - homes.items.first] = part[mine]
    # who has no neighbours has no cluster either
    alone = mix(np.arange(homes.users.first, homes.users.first + homes.users.rows).astype(np.uint64))
    by_hash = (alone % np.uint64(parts)).astype(np.int64)
    of_all = lookup(homes.items, of_label, np.maximum(of_users, 0))
    return np.where(of_users >= 0, of_all, by_hash), lookup(homes.items, of_label, of_items)


def _dealt(names: np.ndarray, weight: np.ndarray, parts: int) -> np.ndarray:
    """The part of each cluster.

    Args:
        weight: [n, 4] int64, what a cluster has of each thing to balance.
    """
    share = weight * (parts / np.maximum(weight.sum(0), 1))
    # Between equally heavy clusters a hash decides: names follow the dataset's order, which may be sorted.
    order = np.lexsort((mix(names.astype(np.uint64)), -share.sum(1)))
    part, load = np.empty(len(names), np.int64), np.zeros((parts, share.shape[1]))
    # Longest processing time first: large clusters go while there is still room to balance them.
    for number in order[:_HEAVIEST].tolist():
        part[number] = chosen = int((load + share[number]).max(1).argmin())
        load[chosen] += share[number]
    for first in range(_HEAVIEST, len(order), parts):
        numbers = order[first : first + parts]
        chosen_parts = np.argsort(load.max(1), kind="stable")[: len(numbers)]
        part[numbers] = chosen_parts
        load[chosen_parts] += share[numbers]
    return part


def _adopt_with_limit(
    homes: Homes,
    side: VotingSide,
    labels: np.ndarray,
    of_others: np.ndarray,
    weight: np.ndarray,
    limit: int,
    draw: tuple[int, int],
) -> None:
    """Each row takes the label with most weight among its neighbours, of those with room; in place.

    Where more rows want a label than there is room for, a hash decides.
    """
    names, position = np.unique(of_others, return_inverse=True)
    size = _ClusterSizes(homes, homes.items.route(tensor(names)), limit)
    seed, round_ = draw
    chance = (mix(side.index.astype(np.uint64) ^ salt(seed, 16 + round_)) >> np.uint64(32)).astype(np.int64)
    for sub_round in range(SUB_ROUNDS):
        # A full label is no candidate at all: rows that want it would else waste their turn.
        open_ = size.room() > 0
        heard = np.where(open_[position], position, -1)
        first, last = side.bounds[sub_round], side.bounds[sub_round + 1]
        chosen = side.best_labels(sub_round, heard, names, weight)
        edges = side.lengths[first:last]
        share = size.share(np.bincount(chosen[chosen >= 0], edges[chosen >= 0], minlength=len(names)))
        # Every worker admits the same share by the same hashes, so none has to know what others have chosen.
        taken = (chosen >= 0) & (chance[first:last] < share[chosen])
        labels[side.rows[first:last][taken]] = names[chosen[taken]]
        size.add(np.bincount(chosen[taken], edges[taken], minlength=len(names)))


class _ClusterSizes:
    """Edges by label, at the home of the label; asked and told of those on a route (collective)."""

    def __init__(self, homes: Homes, route: Route, limit: int) -> None:
        self.exchange, self.route, self.limit = homes.items, route, limit
        self.edges = np.zeros(homes.items.rows, np.int64)

    def room(self) -> np.ndarray:
        """Edges that each label of the route has room for."""
        return self._fetch(self.limit - self.edges)

    def share(self, wanted: np.ndarray) -> np.ndarray:
        """Of 2^32, the share of what is wanted that each label has room for."""
        demand = self._sum(wanted)
        room = np.maximum(self.limit - self.edges, 0)
        share = np.minimum(room / np.maximum(demand, 1), 1.0) * 2**32
        # A worker without labels still indexes its result below, hence one entry at least.
        result = self._fetch(share.astype(np.int64))
        return result if len(result) else np.zeros(1, np.int64)

    def add(self, edges: np.ndarray) -> None:
        self.edges += self._sum(edges)

    def _fetch(self, table: np.ndarray) -> np.ndarray:
        requested = torch.from_numpy(table).index_select(0, self.route.requested)
        return self.exchange.fetch(self.route, requested).numpy()

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """[rows] int64: what all workers have of each label at home here."""
        sent = tensor(values.astype(np.int64))
        arrived = self.exchange.send(sent, self.route.received_counts, self.route.requested_counts).numpy()
        result = np.zeros(len(self.edges), np.int64)
        # ``add.at``, since several workers may send for one label, and ``+=`` would count one of them.
        np.add.at(result, self.route.requested.numpy(), arrived)
        return result
