"""Which training pairs a step takes, and the items drawn beside them. Every draw belongs to a partition, not
to a worker, so the global batch is the same for any number of workers and after any resume."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sampling.draws import Purpose, generator, integers, key
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

_UNIT = 1 << 16  # weights of partitions are integers, so that sums do not depend on their order
_DRAWN_AT_ONCE = 1 << 20
_ATTEMPTS = 16  # rejections before the complement is listed; at 50% known items, 1 pair in 65,536 gets there


@dataclass(frozen=True, kw_only=True)
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

    def to(self, device: torch.device) -> Seeds:
        """The same seeds on ``device``."""
        return replace(
            self,
            users=self.users.to(device),
            positives=self.positives.to(device),
            negatives=self.negatives.to(device),
            candidates=self.candidates.to(device),
        )


class SeedSampler:
    """Deals the training interactions into steps.

    One pass over them has ceil(E / batch_size) steps; partition p with E_p interactions, permuted anew for
    each pass, contributes those numbered floor(t E_p / steps) to floor((t + 1) E_p / steps) to step t of a
    pass. E_p leaves out the interactions of users who know every item: they have no negative, and nothing to
    learn from them says what they like better. An epoch is one pass, or ``training.steps_per_epoch`` steps
    that continue where the epoch before ended. Collective at construction.

    With ``training.user_exponent`` a below 1 a pass has as many pairs, up to one more for each partition. A
    user of d interactions has a share of its partition's in proportion to d^a, rounded up or down, and each
    pair is one of its interactions at random.

    Attributes:
        steps: of an epoch.
        left_out: users who know every item, of all workers, and how many interactions they have.

    Raises:
        InputError: every user knows every item, so that there is no pair.
    """

    def __init__(self, graph: LocalGraph, exchange: Exchange, job: Job) -> None:
        self.graph, self.seed, self._exponent = graph, job.seed, job.training.user_exponent
        self.candidates = 0 if job.losses.candidates == "all" else job.losses.candidates
        indptr = graph.training.indptr
        users = [graph.user_rows(part) for part in graph.parts]
        full = graph.users[graph.training.degrees(graph.users) >= graph.book.num_items]
        self._usable: list[_Edges] = []
        self._of_users: dict[int, _UserEdges] = {}
        own = []
        for part, rows in zip(graph.parts, users, strict=True):
            # Users come first in a partition, so its interactions are one range.
            first, last = int(indptr[rows.start]), int(indptr[rows.stop])
            without = full[(full >= rows.start) & (full < rows.stop)]
            self._usable.append(_without(first, last, graph.training, without))
            pairs = len(self._usable[-1])
            weight = pairs * _UNIT
            if self._exponent != 1.0:
                self._of_users[part] = _UserEdges.of(graph.training, rows, without, self._exponent)
                weight = self._of_users[part].weight
            own.append([pairs, len(without), last - first - pairs, weight])
        counts = exchange.gather_counts(len(users))
        gathered = exchange.gather_rows(torch.tensor(own, dtype=torch.int64).reshape(-1, 4), counts)
        self.left_out = (int(gathered[:, 1].sum()), int(gathered[:, 2].sum()))
        every, weights = int(gathered[:, 0].sum()), gathered[:, 3].tolist()
        whole = sum(weights) or 1
        # Rounded up, so that whoever has pairs gives some; in Python's integers, which do not overflow.
        self._part_pairs: list[int] = [-(-every * weight // whole) for weight in weights]
        if sum(self._part_pairs) == 0:
            raise InputError(
                "the training interactions",
                f"every user with all {graph.book.num_items} items",
                "a negative is an item the user does not know",
                "Add items, or users who know some of them only.",
            )
        self._pass_steps = -(-sum(self._part_pairs) // job.training.batch_size)
        chosen = job.training.steps_per_epoch
        self.steps = self._pass_steps if chosen == "all" else chosen
        self._order: dict[int, Tensor] = {}
        self._pass = -1

    def pairs(self, epoch: int, step: int) -> int:
        """Pairs of the whole batch of ``step``."""
        _, step_of_pass = self._pass_and_step(epoch, step)
        slices = [self._slice(count, step_of_pass) for count in self._part_pairs]
        return sum(end - begin for begin, end in slices)

    def candidate_count(self, parts: range) -> int:
        """Candidates that ``parts`` draw in every step, with repetitions."""
        every = self.graph.book.parts
        return parts.stop * self.candidates // every - parts.start * self.candidates // every

    def draw(self, epoch: int, step: int) -> Seeds:
        """This worker's pairs, negatives and candidates of ``step``."""
        number, _ = self._pass_and_step(epoch, step)
        # Once per pass: the permutation of a partition's interactions is the largest draw there is.
        if number != self._pass:
            self._permute(number)
        shares = [self._draw_part(part, epoch, step) for part in self.graph.parts]
        users, positives, negatives, candidates = (
            torch.cat(tensors) for tensors in zip(*shares, strict=True)
        )
        return Seeds(
            users=users,
            positives=positives,
            negatives=negatives,
            candidates=candidates,
            pairs=self.pairs(epoch, step),
        )

    def _pass_and_step(self, epoch: int, step: int) -> tuple[int, int]:
        """Number of the pass, and of the step within it."""
        return divmod(epoch * self.steps + step, self._pass_steps)

    def _permute(self, number: int) -> None:
        self._pass = number
        for part in self.graph.parts:
            draws = generator(key(self.seed, Purpose.PERMUTATION, number, part))
            order = torch.from_numpy(draws.permutation(self._part_pairs[part]))
            if part in self._of_users:
                order = self._of_users[part].drawn(len(order), draws)[order]
            self._order[part] = order

    def _slice(self, count: int, step_of_pass: int) -> tuple[int, int]:
        # In integers, so that a slice begins exactly where the one before ended.
        return step_of_pass * count // self._pass_steps, (step_of_pass + 1) * count // self._pass_steps

    def _draw_part(self, part: int, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        training = self.graph.training
        usable = self._usable[part - self.graph.parts.start]
        begin, end = self._slice(self._part_pairs[part], self._pass_and_step(epoch, step)[1])
        edges = self._order[part][begin:end]
        if part not in self._of_users:
            edges = usable.at(edges)
        # The last row that starts at or before the edge; earlier rows that start there are empty.
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
            # The attempt is part of the key: else the pair would draw the item that it knows once more.
            nodes[wrong] = self._items(integers(draw, items, wrong, torch.full_like(wrong, attempt)))
        # So few pairs get here that a loop over them, and a list of the catalogue for each, cost little.
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
        # By partition and not by worker, so that the candidates are the same for any number of workers.
        share = self.candidate_count(range(part, part + 1))
        # Half from positives: drawn evenly alone, candidates would hardly ever be items that somebody knows.
        known = share // 2 if len(positives) else 0
        slots = torch.arange(share)
        drawn = self._items(integers(draw, book.num_items, slots[known:]))
        if known == 0:
            return drawn
        return torch.cat([positives[integers(draw, len(positives), slots[:known])], drawn])

    def _items(self, ranks: Tensor) -> Tensor:
        return torch.from_numpy(self.graph.book.item_nodes(ranks.numpy()))


@dataclass(frozen=True)
class _Edges:
    """The interactions [first, last), or those of them that ``kept`` lists (int64, sorted)."""

    first: int
    last: int
    kept: Tensor | None

    def __len__(self) -> int:
        return self.last - self.first if self.kept is None else len(self.kept)

    def at(self, numbers: Tensor) -> Tensor:
        """The interactions ``numbers``, each below the length."""
        return numbers + self.first if self.kept is None else self.kept[numbers]


@dataclass(frozen=True)
class _UserEdges:
    """Users of a partition by their interactions, those who give pairs.

    Attributes:
        starts, degrees: [u] int64, where a user's interactions begin, and how many there are.
        shares: [u] int64, degrees to the power of the exponent in 1/65536, summed up to each user.
    """

    starts: Tensor
    degrees: Tensor
    shares: Tensor

    @classmethod
    def of(cls, training: Adjacency, rows: range, without: Tensor, exponent: float) -> _UserEdges:
        """The users ``rows`` but those ``without`` pairs (local rows)."""
        starts = training.indptr[rows.start : rows.stop]
        degrees = training.indptr[rows.start + 1 : rows.stop + 1] - starts
        gives = degrees > 0
        gives[without - rows.start] = False
        starts, degrees = starts[gives], degrees[gives]
        # By Python's power: that of tensors differs in its last digit with the number of threads.
        different, which = torch.unique(degrees, return_inverse=True)
        powers = torch.tensor([round(_UNIT * d**exponent) for d in different.tolist()], dtype=torch.int64)
        return cls(starts, degrees, powers[which].cumsum(0))

    @property
    def weight(self) -> int:
        """The sum of the shares."""
        return int(self.shares[-1]) if len(self.shares) else 0

    def drawn(self, count: int, draws: np.random.Generator) -> Tensor:
        """[count] int64 interactions, by user: of each user its share, rounded up or down at random."""
        edges, offset = torch.empty(count, dtype=torch.int64), draws.random()
        for first in range(0, count, _DRAWN_AT_ONCE):
            numbers = torch.arange(first, min(first + _DRAWN_AT_ONCE, count), dtype=torch.float64)
            # Systematic sampling: points at equal distances, so that no user's count is off by one or more.
            points = ((numbers + offset) * (self.weight / count)).long()
            # Rounding can bring the last point up to the whole weight, where no user is.
            users = torch.searchsorted(self.shares, points, right=True).clamp_(max=len(self.shares) - 1)
            degrees = self.degrees[users]
            # A draw just below 1 times the degree can round up to the degree.
            within = (torch.from_numpy(draws.random(len(users))) * degrees).long().minimum(degrees - 1)
            edges[first : first + len(users)] = self.starts[users] + within
        return edges


def _without(first: int, last: int, training: Adjacency, users: Tensor) -> _Edges:
    """The interactions [first, last) of a partition but those of its ``users`` (local rows)."""
    if len(users) == 0:
        return _Edges(first, last, None)  # the usual case, which needs no list
    _, edges = training.edges(users)
    keep = torch.ones(last - first, dtype=torch.bool)
    keep[edges - first] = False
    return _Edges(first, last, keep.nonzero().flatten() + first)
