"""A training batch: seeds, what was sampled around them, and the routes on which their rows are fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.exchange.exchange import Exchange, Route
from mmssl_dist.graph.installed_dgl import dgl_installed
from mmssl_dist.kernels.edges import row_ends
from mmssl_dist.kernels.id_sets import known_pairs, union
from mmssl_dist.kernels.item_edges import item_edges
from mmssl_dist.sampling.block import Block, SampledGraph, SampledItemGraph, make_block
from mmssl_dist.sampling.draws import Purpose, key
from mmssl_dist.sampling.neighbours import Draw, Neighbours, NeighbourSampler, sample_together
from mmssl_dist.sampling.seeds import SeedSampler
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.sharding.topology import Adjacency

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's part of a step. S_0 are the seeds: this worker's users, positives, negatives and
    candidates.

    Attributes:
        epoch, step: which step this is; they key every draw of it.
        nodes: int64 [|S_0|] node ids, sorted and unique.
        users, positives, negatives: int64 [b] positions in S_0, pair by pair.
        pairs: number of pairs over all workers.
        batch_users: int64 [Bu] positions in S_0 of the distinct users; each user is in one worker's batch
            only.
        user_counts: [W] Bu of each worker.
        own_candidates: int64 positions in S_0 of the candidates this worker owns.
        candidates: int64 [C] node ids of the candidates of all workers, sorted and unique, so worker by
            worker.
        candidate_counts: [W] how many of them each worker owns.
        known: bool [Bu, C], whether the user has the candidate among its training items.
        graph: the sampled neighbourhood of S_0.
        seed_route: route of the rows of S_0; id_route: route of the ID rows of the outermost set.
    """

    epoch: int
    step: int
    nodes: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor
    pairs: int
    batch_users: Tensor
    user_counts: tuple[int, ...]
    own_candidates: Tensor
    candidates: Tensor
    candidate_counts: tuple[int, ...]
    known: Tensor
    graph: SampledGraph
    seed_route: Route
    id_route: Route

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on ``device``."""
        if self.nodes.device.type == device.type:
            return self
        # Whatever has a ``to`` moves: tensors, the graph and the routes.
        moved = {name: value.to(device) for name, value in vars(self).items() if hasattr(value, "to")}
        return replace(self, **moved)


class BatchSampler:
    """Makes the batches of this worker; every call is collective over the sampler's exchange.

    Args:
        graph: this worker's partitions.
        exchange: over a process group that nothing else uses meanwhile; its backend is one for the CPU.
        job: seed, fanouts, candidates, the sampler.
        device: where the worker trains; batches are made there by the sampler of devices, else on the CPU.
    """

    def __init__(self, graph: LocalGraph, exchange: Exchange, job: Job, device: torch.device = _CPU) -> None:
        self.graph, self.exchange, self.seed = graph, exchange, job.seed
        self.keyed = _draws_by_keys(job, exchange)
        self.device = device if self.keyed else _CPU
        self.seeds = SeedSampler(graph, exchange, job)
        full = job.training.fanout == "all"
        self.fanouts = (None,) * job.model.layers if job.training.fanout == "all" else job.training.fanout
        # `training.fanout: all` overrides the views' own fanout; `similar_fanout` follows its setting alone.
        self.view_fanout = None if full else job.model.modality_graph.fanout
        self.all_candidates = job.losses.candidates == "all"
        self.use_candidates = job.losses.use_candidates or job.model.modality_graph.size > 0
        self.training = self._sampler(graph.training)
        self.views: dict[str, NeighbourSampler] = {}
        self.similar_fanout = None if job.model.item_graph.fanout == "all" else job.model.item_graph.fanout
        self.similar: dict[str, NeighbourSampler] = {}
        if job.model.item_graph.weight > 0:
            # Sorted: a draw is keyed by the modality's position, which has to be the same on every worker.
            self.similar = {m: self._sampler(lists) for m, lists in sorted(graph.similar.items())}
        book = graph.book
        self._part_bounds = torch.from_numpy(book.bounds).to(self.device)
        self._first_items = torch.tensor([book.item_range(part)[0] for part in range(book.parts)]).to(
            self.device
        )
        self._worker_bounds = exchange.bounds.to(self.device)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.seeds.steps

    def publish(self, views: Mapping[str, Adjacency]) -> None:
        """Sample modality m's lists from ``views[m]`` from now on."""
        self.views = {m: self._sampler(view) for m, view in sorted(views.items())}

    def _sampler(self, lists: Adjacency) -> NeighbourSampler:
        return NeighbourSampler(lists.to(self.device), self.graph, self.exchange, keyed=self.keyed)

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch of ``step`` of ``epoch``: a function of the seed, these numbers and the published
        views."""
        seeds = self.seeds.draw(epoch, step).to(self.device)
        first, rank = self.exchange.first, self.exchange.rank
        candidates = self._all_candidates(seeds.candidates)
        cuts = torch.searchsorted(candidates, self._worker_bounds).tolist()
        # Other workers' candidates stay out of S_0: their owners compute the rows and send them to everybody.
        nodes, (users, positives, negatives, own) = union(
            self.graph.book.num_nodes,
            seeds.users + first,
            seeds.positives,
            seeds.negatives,
            candidates[cuts[rank] : cuts[rank + 1]],
        )
        # A user with several pairs is one row for the critic, the contrastive term and the lists.
        batch_users = torch.unique(users)
        user_rows = nodes.index_select(0, batch_users) - first
        graph, seed_route, id_route = self._neighbourhood(nodes, len(user_rows), epoch, step)
        return Batch(
            epoch=epoch,
            step=step,
            nodes=nodes,
            pairs=seeds.pairs,
            users=users,
            positives=positives,
            negatives=negatives,
            batch_users=batch_users,
            user_counts=seed_route.announced,
            own_candidates=own,
            candidates=candidates,
            candidate_counts=tuple(b - a for a, b in pairwise(cuts)),
            known=self._known(user_rows, candidates),
            graph=graph,
            seed_route=seed_route,
            id_route=id_route,
        )

    def _all_candidates(self, drawn: Tensor) -> Tensor:
        """Candidates of the global batch, sorted and unique; the same on every worker."""
        if not self.use_candidates:
            return drawn[:0]
        book, workers = self.graph.book, self.exchange.world_size
        if self.all_candidates:
            # Parts follow one another in node ids, and a part's items are one range, so the result is sorted.
            ranges = [torch.arange(*book.item_range(part), device=drawn.device) for part in range(book.parts)]
            return torch.cat(ranges)
        shares = [self.seeds.candidate_count(book.worker_parts(rank, workers)) for rank in range(workers)]
        everyone = self.exchange.gather_rows(drawn, shares)
        distinct: Tensor = torch.unique(everyone)
        return distinct

    def _known(self, user_rows: Tensor, candidates: Tensor) -> Tensor:
        training = self.training.adjacency
        return known_pairs(
            num_nodes=self.graph.book.num_nodes,
            indptr=training.indptr,
            neighbours=training.neighbours,
            rows=user_rows,
            candidates=candidates,
        )

    def _neighbourhood(
        self, nodes: Tensor, num_users: int, epoch: int, step: int
    ) -> tuple[SampledGraph, Route, Route]:
        """Hops outwards from the seeds; each set holds the one before it. What views and similar items take
        joins the outermost set. ``num_users``, of this worker, travels with the seeds' ids.

        ``inner`` is the set reached so far and ``outer`` the next one, both sorted; ``keep`` says where the
        nodes of ``inner`` stand in ``outer``, and ``source`` where the drawn neighbours do.
        """
        inner, seeds = nodes, self._arange(len(nodes))
        seed_route = route = self.exchange.route(nodes, num_users, series="seeds")
        num_nodes = self.graph.book.num_nodes
        layers: list[Block] = []
        first: _FirstHop | None = None
        similar: _DrawnSimilar | None = None
        similar_sources: list[Tensor] = []
        for hop, fanout in enumerate(self.fanouts):
            draw = Draw(self.training, route, fanout, key(self.seed, Purpose.FANOUT, epoch, step, hop))
            (drawn,), similar = self._with_similar(
                draws=[draw], first=first, similar=similar, reached=inner, epoch=epoch, step=step
            )
            # Without views the last hop's set is the outermost one, and has to hold the similar items.
            outermost = hop + 1 == len(self.fanouts) and not self.views
            if outermost and hop == 0 and self.similar:
                similar = self._similar_of_only_hop(nodes, drawn, epoch, step)
            more = similar.nodes if similar is not None and outermost else ()
            outer, (keep, source, *similar_sources) = union(num_nodes, inner, drawn.nodes, *more)
            layers.append(_block(drawn, source, len(outer), keep))
            # The set is sorted by node, so the seeds stand elsewhere in it than in the one before.
            inner, seeds = outer, keep.index_select(0, seeds)
            route = self.exchange.route(outer, series=f"hop {hop}")
            first = first or _FirstHop(drawn, keep, source, route)
        # Without views S_L is the outermost set itself, and ``start_keep`` the identity.
        outer, start_keep, views = inner, self._arange(len(inner)), {}
        if self.views:
            draws = [
                Draw(sampler, route, self.view_fanout, key(self.seed, Purpose.VIEW, epoch, step, position))
                for position, sampler in enumerate(self.views.values())
            ]
            of_views, similar = self._with_similar(
                draws=draws, first=first, similar=similar, reached=inner, epoch=epoch, step=step
            )
            more = similar.nodes if similar is not None else ()
            outer, (start_keep, *sources) = union(num_nodes, inner, *(view.nodes for view in of_views), *more)
            view_sources, similar_sources = sources[: len(of_views)], sources[len(of_views) :]
            views = {
                m: _block(drawn, source, len(outer))
                for m, drawn, source in zip(self.views, of_views, view_sources, strict=True)
            }
            route = self.exchange.route(outer, series="views")
        graph = SampledGraph(
            layers=tuple(reversed(layers)),  # drawn outwards, aggregated inwards
            views=views,
            similar=None if similar is None else similar.blocks(similar_sources, len(outer)),
            start_keep=start_keep,
            seeds=seeds,
            seeds_source=start_keep.index_select(0, seeds),
        )
        return graph, seed_route, route

    def _similar_of_only_hop(
        self, nodes: Tensor, drawn: Neighbours, epoch: int, step: int
    ) -> _DrawnSimilar | None:
        """Similar items where one hop is all there is: no later message takes their lists along, so they have
        one of their own, and a route to the owners of what the hop reached."""
        reached, (keep, source) = union(self.graph.book.num_nodes, nodes, drawn.nodes)
        first = _FirstHop(drawn, keep, source, self.exchange.route(reached, series="first hop alone"))
        return self._with_similar(
            draws=[], first=first, similar=None, reached=reached, epoch=epoch, step=step
        )[1]

    def _with_similar(
        self,
        draws: list[Draw],
        first: _FirstHop | None,
        similar: _DrawnSimilar | None,
        reached: Tensor,
        epoch: int,
        step: int,
    ) -> tuple[list[Neighbours], _DrawnSimilar | None]:
        """``draws``; and similar items, in the same message, once the first hop has shown which items need
        them: those among the nodes that it ``reached``, seeds included, since users are joined to items only.
        """
        if first is None or similar is not None or not self.similar:
            return sample_together(self.exchange, draws), similar
        is_item = self._is_item(reached)
        route = self.exchange.subroute(
            first.route, is_item, self._is_item(first.route.requested + self.exchange.first)
        )
        more = [
            Draw(
                sampler,
                route,
                self.similar_fanout,
                key(self.seed, Purpose.SIMILAR, epoch, step, position),
            )
            for position, sampler in enumerate(self.similar.values())
        ]
        # One message for both: the lists of similar items would else cost a round trip of their own.
        drawn = sample_together(self.exchange, [*draws, *more])
        lists = dict(zip(self.similar, drawn[len(draws) :], strict=True))
        return drawn[: len(draws)], _DrawnSimilar(lists, _gather(first, is_item))

    def _is_item(self, nodes: Tensor) -> Tensor:
        """bool, whether each of the node ids is an item's."""
        parts = torch.searchsorted(self._part_bounds, nodes, right=True).sub_(1)
        return nodes >= self._first_items.index_select(0, parts)

    def _arange(self, count: int) -> Tensor:
        return torch.arange(count, device=self.device)


def _draws_by_keys(job: Job, exchange: Exchange) -> bool:
    """Whether neighbours are drawn by keys: as ``training.sampler`` says, and where it leaves that open, also
    if any worker lacks DGL (then collective)."""
    if job.samples_on_device or job.training.sampler == "dgl":
        return job.samples_on_device
    # Of all workers, since those that draw in different ways would wait for each other's messages.
    return bool(exchange.max(not dgl_installed()))


@dataclass(frozen=True)
class _FirstHop:
    """What was drawn for the seeds; where the seeds and the drawn nodes stand among all of these; and the
    route of these."""

    drawn: Neighbours
    keep: Tensor
    source: Tensor
    route: Route


def _gather(first: _FirstHop, is_item: Tensor) -> Block:
    """From the items among the nodes of the first hop to the seeds: an item seed has one edge, to its own
    row; a user has one to each item drawn for it, all alike."""
    drawn = first.drawn
    counts, source, weight = item_edges(first.keep, first.source, drawn.counts, is_item)
    return make_block(
        indptr=row_ends(counts), source=source, weight=weight, num_source=int(is_item.sum()), keep=source[:0]
    )


@dataclass(frozen=True)
class _DrawnSimilar:
    """``SampledItemGraph`` before its source set is known."""

    lists: Mapping[str, Neighbours]
    gather: Block

    @property
    def nodes(self) -> tuple[Tensor, ...]:
        """The node ids listed, modality by modality."""
        return tuple(drawn.nodes for drawn in self.lists.values())

    def blocks(self, sources: Sequence[Tensor], num_source: int) -> SampledItemGraph:
        """sources: where ``nodes`` stand in the source set."""
        pairs = zip(self.lists.items(), sources, strict=True)
        return SampledItemGraph(
            {m: _block(drawn, source, num_source) for (m, drawn), source in pairs}, self.gather
        )


def _block(drawn: Neighbours, source: Tensor, num_source: int, keep: Tensor | None = None) -> Block:
    """source: where ``drawn.nodes`` stand in the source set; keep: where the destinations do, if they are in
    it."""
    return make_block(
        indptr=row_ends(drawn.counts),
        source=source,
        weight=drawn.weight,
        num_source=num_source,
        keep=source[:0] if keep is None else keep,
    )
