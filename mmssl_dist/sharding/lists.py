"""Learned modality lists: for each local user and modality the best unseen items found so far, with their
scores.

The top of a dense user x item similarity (MMSSL's modality graph) without the matrix: whenever a user is in a
batch its list is merged with the batch's candidates; a stored item that is among them takes its new score.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sharding.topology import Adjacency, adjacency_from_pairs

NO_ITEM = -1


class ModalityLists:
    """Lists of one modality for n local nodes; item rows stay empty.

    Attributes:
        items: int64 [n, K] item node ids, best first; EMPTY where the list is shorter.
        scores: float32 [n, K], -inf where empty.
        published: int64 [n, K], the items when they were last published; what the sampler sees.
    """

    def __init__(self, num_rows: int, size: int) -> None:
        self.items = torch.full((num_rows, size), NO_ITEM, dtype=torch.int64)
        self.scores = torch.full((num_rows, size), -torch.inf)
        self.published = self.items.clone()

    @torch.no_grad()
    def merge(self, rows: Tensor, candidates: Tensor, scores: Tensor) -> None:
        """Keep the K best of the stored items and the candidates, for each of the local ``rows``.

        Args:
            rows: int64 [B], unique.
            candidates: int64 [C] item node ids, sorted and unique.
            scores: float32 [B, C], -inf for pairs that must not be listed.
        """
        size = self.items.shape[1]
        stored, stored_scores = self.items[rows], self.scores[rows]
        # -1, an empty entry, finds slot 0, which holds no such item.
        slots = torch.searchsorted(candidates, stored).clamp(max=len(candidates) - 1)
        # The fresh score counts.
        stored_scores = stored_scores.masked_fill(candidates[slots] == stored, -torch.inf)
        # First among the candidates alone: the merge below is then over 2 K columns and not over all of them.
        fresh, index = scores.topk(min(size, len(candidates)), dim=1)
        best, order = torch.cat([stored_scores, fresh], 1).topk(size, dim=1)
        items = torch.cat([stored, candidates[index]], 1).gather(1, order)
        self.items[rows] = items.masked_fill(best == -torch.inf, NO_ITEM)
        self.scores[rows] = best

    def publish(self) -> None:
        """Let ``graph`` show the lists as they are now."""
        self.published = self.items.clone()

    def graph(self, exchange: Exchange) -> Adjacency:
        """The published lists: users with their items, and at each item's owner the users that list it
        (collective)."""
        # Of the published copy: the sampler runs ahead of the step, and lists that change meanwhile would
        # make its draws depend on how far ahead it is.
        row, slot = (self.published != NO_ITEM).nonzero(as_tuple=True)
        item = self.published[row, slot]
        # By item id, so that what goes to each owner is one range of the pairs.
        order = torch.argsort(item, stable=True)
        pairs = torch.stack([item[order], row[order] + exchange.first], 1)
        cuts = torch.searchsorted(pairs[:, 0].contiguous(), exchange.bounds).tolist()
        outgoing = [b - a for a, b in pairwise(cuts)]
        received = exchange.send(pairs, outgoing, exchange.swap_counts(outgoing))
        rows = torch.cat([row, received[:, 0] - exchange.first])
        return adjacency_from_pairs(rows, torch.cat([item, received[:, 1]]), exchange.rows)
