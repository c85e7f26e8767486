"""Which training pairs a step takes, and the items drawn beside them. Every draw belongs to a partition, not
to a worker, so the global batch is the same for any number of workers and after any resume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sampling.draws import Purpose, generator, integers, key
from mmssl_dist.sharding.partitions import LocalGraph

_ATTEMPTS = 16  # rejections before the complement is listed; at 50% known items, 1 pair in 65,536 gets there


@dataclass(frozen=True)
class Seeds:
    """This worker's share of a step.

    Attributes:
        users: int64 [b] local rows. positives, negatives: int64 [b] item node ids.
        candidates: int64, candidate item node ids drawn by this worker's partitions, with repetitions.
        pairs: number of pairs of the whole batch, over all workers.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    candidates: Tensor
    pairs: int


class SeedSampler:
    """Deals the training interactions into steps.

    One pass over them has ceil(E / batch_size) steps; partition p with E_p interactions, permuted anew for
    each pass, contributes those numbered floor(t E_p / steps) to floor((t + 1) E_p / steps) to step t of a
    pass. An epoch is one pass, or ``training.steps_per_epoch`` steps that go on where the epoch before ended.
    Collective at construction.

    Attributes:
        steps: of an epoch.

    Raises:
        InputError: a user knows every item, so that no negative exists.
    """

    def __init__(self, graph: LocalGraph, exchange: Exchange, job: Job) -> None:
        self.graph, self.seed = graph, job.seed
        self.candidates = 0 if job.losses.candidates == "all" else job.losses.candidates
        indptr = graph.training.indptr
        users = [graph.user_rows(part) for part in graph.parts]
        self._edges = [
            (int(indptr[r.start]), int(indptr[r.stop])) for r in users
        ]  # users come first in a partition
        counts = exchange.gather_counts(len(users))
        own = torch.tensor([last - first for first, last in self._edges], dtype=torch.int64)
        self._part_pairs: list[int] = exchange.gather_rows(own, counts).tolist()
        self._pass_steps = -(-sum(self._part_pairs) // job.training.batch_size)
        chosen = job.training.steps_per_epoch
        self.steps = self._pass_steps if chosen == "all" else chosen
        self._order: dict[int, Tensor] = {}
        self._pass = -1
        _require_negatives(graph)

    def pairs(self, epoch: int, step: int) -> int:
        """Pairs of the whole batch of ``step``."""
        _, place = self._place(epoch, step)
        return sum(self._slice(count, place)[1] - self._slice(count, place)[0] for count in self._part_pairs)

    def draw(self, epoch: int, step: int) -> Seeds:
        """This worker's pairs, negatives and candidates of ``step``."""
        number, _ = self._place(epoch, step)
        if number != self._pass:
            self._permute(number)
        shares = [self._draw_part(part, epoch, step) for part in self.graph.parts]
        users, positives, negatives, candidates = (
            torch.cat(tensors) for tensors in zip(*shares, strict=True)
        )
        return Seeds(users, positives, negatives, candidates, self.pairs(epoch, step))

    def _place(self, epoch: int, step: int) -> tuple[int, int]:
        """Number of the pass, and of the step within it."""
        return divmod(epoch * self.steps + step, self._pass_steps)

    def _permute(self, number: int) -> None:
        self._pass = number
        for part, (first, last) in zip(self.graph.parts, self._edges, strict=True):
            order = generator(key(self.seed, Purpose.PERMUTATION, number, part)).permutation(last - first)
            self._order[part] = torch.from_numpy(order)

    def _slice(self, count: int, place: int) -> tuple[int, int]:
        return place * count // self._pass_steps, (place + 1) * count // self._pass_steps

    def _draw_part(self, part: int, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        training = self.graph.training
        first, last = self._edges[part - self.graph.parts.start]
        begin, end = self._slice(last - first, self._place(epoch, step)[1])
        edges = self._order[part][begin:end] + first
        users = torch.searchsorted(training.indptr, edges, right=True) - 1
        positives = training.neighbours[edges]
        negatives = self._negatives(users, key(self.seed, Purpose.NEGATIVES, epoch, step, part))
        candidates = self._candidates(positives, part, key(self.seed, Purpose.CANDIDATES, epoch, step, part))
        return users, positives, negatives, candidates

    def _negatives(self, users: Tensor, draw: int) -> Tensor:
        """One item per user, uniform over those it does not know: rejection, then the complement for what is
        left."""
        training, items = self.graph.training, self.graph.book.num_items
        nodes = self._items(integers(draw, items, torch.arange(len(users)), torch.zeros_like(users)))
        for attempt in range(1, _ATTEMPTS):
            wrong = training.contains(users, nodes).nonzero().flatten()
            if len(wrong) == 0:
                return nodes
            nodes[wrong] = self._items(integers(draw, items, wrong, torch.full_like(wrong, attempt)))
        for pair in training.contains(users, nodes).nonzero().flatten().tolist():
            _, edges = training.edges(users[pair : pair + 1])
            everything = self._items(torch.arange(items))
            unknown = everything[~torch.isin(everything, training.neighbours[edges])]
            pick = integers(draw, len(unknown), torch.tensor([pair]), torch.tensor([_ATTEMPTS]))
            nodes[pair] = unknown[pick]
        return nodes

    def _candidates(self, positives: Tensor, part: int, draw: int) -> Tensor:
        """This partition's share: half of it batch positives, the rest uniform over the catalogue."""
        book = self.graph.book
        share = (part + 1) * self.candidates // book.parts - part * self.candidates // book.parts
        known = share // 2 if len(positives) else 0
        slots = torch.arange(share)
        drawn = self._items(integers(draw, book.num_items, slots[known:]))
        if known == 0:
            return drawn
        return torch.cat([positives[integers(draw, len(positives), slots[:known])], drawn])

    def _items(self, ranks: Tensor) -> Tensor:
        return torch.from_numpy(self.graph.book.item_nodes(ranks.numpy()))


def _require_negatives(graph: LocalGraph) -> None:
    users = graph.users
    degrees = graph.training.degrees(users)
    if len(users) and int(degrees.max()) >= graph.book.num_items:
        raise InputError(
            "the training interactions",
            f"a user with all {graph.book.num_items} items",
            "a negative is an item the user does not know",
            "Remove that user, or add items.",
        )
