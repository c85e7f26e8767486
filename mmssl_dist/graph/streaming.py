"""A cut for graphs that METIS has no memory for: passes over the edges, with a few numbers per node.

Size-constrained label propagation finds clusters, which are dealt to the parts whole, heaviest first; then
nodes move, sub-round by sub-round, each to the part that holds most of its neighbours and has room
(restreaming linear deterministic greedy: Stanton and Kliot, KDD 2012; Nishimura and Ugander, KDD 2013).

Every decision is made of integers that are summed over the workers, and hashes of indices; so the cut is the
same for any number of workers.
"""

from __future__ import annotations

import numpy as np

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.bipartite import Lists
from mmssl_dist.graph.clusters import clusters, deal_clusters
from mmssl_dist.graph.homes import Homes
from mmssl_dist.graph.transfer import gather, total
from mmssl_dist.graph.voting_side import SUB_ROUNDS, VotingSide
from mmssl_dist.kernels.splitmix import mix, salt

NODE_BYTES = 40  # of one node, beyond the lists
ROUNDS = 8
_CLUSTERS_PER_PART = 16  # a cluster holds at most this fraction of a part's edges
_SLACK = 1.05  # a part takes at most this much over its even share
_LEVELS = 16  # of how much a row wants to move; those that want it most go first
_BINS = 256  # a level and a hash: rows that want to move as much go in shares
_LEAST = 1e-3  # of a neighbour: rows without any in a part with room go where most room is


def streaming_cut(
    homes: Homes, of_user: Lists, of_item: Lists, parts: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of each user and item at home here (collective).

    Args:
        of_user, of_item: neighbours' indices of those at home here.
    """
    if parts == 1:
        return np.zeros(homes.users.rows, np.int64), np.zeros(homes.items.rows, np.int64)
    users = VotingSide(own=homes.users, other=homes.items, lists=of_user, seed=seed, purpose=10)
    items = VotingSide(own=homes.items, other=homes.users, lists=of_item, seed=seed, purpose=11)
    interactions = int(total(homes.users, np.array([users.lengths.sum()]))[0])
    # Clusters much smaller than a part pack evenly; one as large as a part could only be dealt badly.
    limit = interactions // (parts * _CLUSTERS_PER_PART) + 1
    labels = clusters(homes=homes, users=users, items=items, limit=limit, seed=seed)
    part_of_users, part_of_items = deal_clusters(homes, (users, items), *labels, parts)
    loads = [_Loads(side, part, parts) for side, part in ((users, part_of_users), (items, part_of_items))]
    # Users and items take turns: each side votes by where the other stands now, so both never move at once
    # and swap places for ever.
    for round_ in range(ROUNDS):
        _deal(
            side=users,
            part=part_of_users,
            of_others=users.fetch(part_of_items),
            loads=loads[0],
            draw=salt(seed, 32 + round_),
        )
        _deal(
            side=items,
            part=part_of_items,
            of_others=items.fetch(part_of_users),
            loads=loads[1],
            draw=salt(seed, 64 + round_),
        )
    # The rounds bound edges and nodes that move in; nodes that clusters put beyond the limit move last.
    for side, part, load in ((users, part_of_users, loads[0]), (items, part_of_items, loads[1])):
        _even_out(side.own, part, load)
    return part_of_users, part_of_items


class _Loads:
    """What the parts hold of one side, in nodes and in edges, and what they may (collective)."""

    def __init__(self, side: VotingSide, part: np.ndarray, parts: int) -> None:
        self.exchange, self.parts = side.own, parts
        self.held = np.zeros((2, parts), np.int64)
        self.held += self.of(part[side.rows], side.lengths)
        nodes, edges = self.held.sum(1).tolist()
        # A row is never split, so a limit below the longest row would leave it without any part.
        longest = side.own.max(int(side.lengths.max(initial=0)))
        self.limit = np.array(
            [
                [max(int(_SLACK * nodes / parts), -(-nodes // parts))],
                [max(int(_SLACK * max(edges / parts, longest)), 1)],
            ]
        )

    def of(self, part: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """[2, P] nodes and edges of all workers' rows with these parts and lengths (collective)."""
        nodes = np.bincount(part, minlength=self.parts)
        edges = np.bincount(part, lengths, minlength=self.parts).astype(np.int64)
        return total(self.exchange, np.stack([nodes, edges]))

    def room_without(self, leaving: np.ndarray) -> np.ndarray:
        """[P] share of each part that is free once ``leaving`` [2, P] has gone; 0 when it is full."""
        used = ((self.held - leaving) / self.limit).max(0)
        # A part over its limit attracts nobody, so its own rows are those that want most to leave.
        full = (self.held > self.limit).any(0)
        return np.where(full, 0.0, np.maximum(1.0 - used, 0.0))

    def admitted(self, part: np.ndarray, bin_: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which of the rows that want ``part`` fit in, those of lower bins first (collective)."""
        room = self.limit - self.held
        small = lengths <= room[1][part]  # a row that fits in no case must not stand before others
        cell = np.where(small, part * _BINS + bin_, 0)
        lengths = np.where(small, lengths, 0)
        nodes = np.bincount(cell, small, minlength=self.parts * _BINS).astype(np.int64)
        edges = np.bincount(cell, lengths, minlength=self.parts * _BINS).astype(np.int64)
        requested = total(self.exchange, np.stack([nodes, edges]))
        # Whole bins are admitted or turned away by sums over all workers, so who gets in does not depend on
        # the order in which workers are asked.
        inflow = np.cumsum(requested.reshape(2, self.parts, _BINS), 2)
        fits = (inflow <= room[:, :, None]).all(0)
        last = np.cumprod(fits, 1).sum(1)  # bins of each part that fit in whole
        return np.asarray(small & (bin_ < last[part]))


def _deal(side: VotingSide, part: np.ndarray, of_others: np.ndarray, loads: _Loads, draw: np.uint64) -> None:
    """Each row moves to the part that holds most of its neighbours, weighted by the room there; in place."""
    hashed = (mix(side.index.astype(np.uint64) ^ draw) % np.uint64(_BINS // _LEVELS)).astype(np.int64)
    for sub_round in range(SUB_ROUNDS):
        span = slice(side.bounds[sub_round], side.bounds[sub_round + 1])
        rows, lengths = side.rows[span], side.lengths[span]
        now = part[rows]
        # Room is judged as if the whole sub-round had left its parts: else rows in a full part could never
        # stay or swap.
        leaving = loads.of(now, lengths)
        room = loads.room_without(leaving)
        preferred, gain = side.wishes(sub_round=sub_round, parts=of_others, now=now, room=room, least=_LEAST)
        moving = np.flatnonzero(preferred != now)
        # A gain of exactly 1 belongs to the top level, not to one beyond it.
        level = np.minimum(gain[moving] * _LEVELS, _LEVELS - 1).astype(np.int64)
        bin_ = (_LEVELS - 1 - level) * (_BINS // _LEVELS) + hashed[span][moving]
        goes = moving[loads.admitted(preferred[moving], bin_, lengths[moving])]
        part[rows[goes]] = preferred[goes]
        loads.held += loads.of(preferred[goes], lengths[goes]) - loads.of(now[goes], lengths[goes])


def _even_out(exchange: Exchange, part: np.ndarray, loads: _Loads) -> None:
    """Move what a part holds of nodes beyond its limit to those with room, by a hash; in place."""
    room = loads.limit[0] - loads.held[0]
    index = np.arange(exchange.first, exchange.first + exchange.rows)
    hashed = mix(index.astype(np.uint64)).view(np.int64)
    chosen = [np.empty(0, np.int64)]
    for over in np.flatnonzero(room < 0).tolist():
        members = np.flatnonzero(part == over)
        # At most the overflow of the whole part: that bounds the message, whatever this worker's share.
        chosen.append(members[np.argsort(hashed[members])[: -room[over]]])
    candidates = np.concatenate(chosen)
    everywhere = gather(exchange, np.stack([part[candidates], hashed[candidates], index[candidates]], 1))
    # Every worker sorts the same candidates, so all of them agree on who moves without a further message.
    everywhere = everywhere[np.lexsort((everywhere[:, 1], everywhere[:, 0]))]
    rank = np.arange(len(everywhere)) - np.searchsorted(everywhere[:, 0], everywhere[:, 0])
    moved = everywhere[rank < -room[everywhere[:, 0]], 2]
    target = np.repeat(np.arange(loads.parts), np.maximum(room, 0))[: len(moved)]
    mine = (moved >= exchange.first) & (moved < exchange.first + exchange.rows)
    part[moved[mine] - exchange.first] = target[mine]
