"""The terms that the generator minimises, each as this worker's share of the global batch's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.losses import (
    RankedRows,
    RankingFunction,
    bpr,
    contrastive,
    l2,
    moved,
    sampled_softmax,
    with_gradients,
)
from mmssl_dist.model import SeedRows
from mmssl_dist.sampling.batch import Batch
from mmssl_dist.sampling.block import aggregate
from mmssl_dist.training.forward import CandidateRows, Contrasted, Forward

Terms = dict[str, tuple[float, Tensor]]
"""By name: weight, and this worker's share."""


class GeneratorTerms:
    """Every term but the critic's. Callable on a batch and its forward pass.

    Args:
        num_items: items of the catalogue.
        exchange: of the step; the contrastive and the adversarial term are collective over it.
    """

    def __init__(self, job: Job, num_items: int, exchange: Exchange) -> None:
        self.job, self.num_items, self.exchange = job, num_items, exchange

    def __call__(self, batch: Batch, forward: Forward) -> Terms:
        """Each term that is switched on."""
        losses, rows = self.job.losses, forward.rows
        pairs = (batch.users, batch.positives, batch.negatives)
        own = rows.own if rows.own is not None else forward.id_rows.index_select(0, batch.graph.seeds_source)
        terms = self._ranking(batch, forward)
        terms["l2"] = losses.l2, l2(*(own.index_select(0, p) for p in pairs), count=batch.pairs)
        if losses.tower_l2 > 0:
            towers = [x.index_select(0, p) for _, x in sorted(rows.tower.items()) for p in pairs]
            terms["tower_l2"] = losses.tower_l2, l2(*towers, count=self.num_items)
        if losses.contrastive.weight > 0:
            shares = [self._info_nce(contrasted) for contrasted in forward.contrasted]
            terms["contrastive"] = losses.contrastive.weight, torch.stack(shares).sum()
        return terms

    def _ranking(self, batch: Batch, forward: Forward) -> Terms:
        """Equation 6: a pair's positive against its negative, or against the candidates; and equation 8, the
        same with perturbed rows."""
        name, adversarial = self.job.losses.ranking.loss, self.job.losses.adversarial
        final = forward.rows.final
        others = final.index_select(0, batch.negatives) if name == "bpr" else _candidates(forward).final
        rows = RankedRows(final.index_select(0, batch.users), final.index_select(0, batch.positives), others)
        loss = self._ranking_loss(batch)
        if not adversarial.perturbs:
            return {name: (1.0, loss(*rows))}
        value, gradients = with_gradients(loss, rows)
        if name != "bpr":  # every worker has its share of the gradient at a candidate
            gradients = gradients._replace(others=self.exchange.sum(gradients.others))
        lengths = self._lengths(batch, forward, rows)
        perturbed = RankedRows(
            # shares are a B-th of a pair's gradient, and may be too short to have a direction in float32
            *(moved(x, g * batch.pairs, by) for x, g, by in zip(rows, gradients, lengths, strict=True))
        )
        return {name: (1.0, value), "adversarial": (adversarial.weight, loss(*perturbed))}

    def _ranking_loss(self, batch: Batch) -> RankingFunction:
        """This worker's share of the ranking loss, as a function of the rows."""
        settings, pairs = self.job.losses.ranking, batch.pairs
        if settings.loss == "bpr":
            return lambda user, positive, negative: bpr(user, positive, negative, pairs)
        # ``known`` has a row for each distinct user, and pairs may share one.
        known = batch.known.index_select(0, torch.searchsorted(batch.batch_users, batch.users))
        return lambda user, positive, candidates: sampled_softmax(
            user, positive, candidates, known, temperature=settings.temperature, count=pairs
        )

    @torch.no_grad()
    def _lengths(self, batch: Batch, forward: Forward, rows: RankedRows) -> RankedRows:
        """How far each row moves, [b, 1] or [n, 1]."""
        adversarial = self.job.losses.adversarial
        final = RankedRows(*(adversarial.eps * _length(x) for x in rows))
        if adversarial.rows == "final":
            return final
        similar, scale = forward.rows.similar, adversarial.eps * self.job.model.item_graph.weight
        assert similar is not None
        others = (
            _length(similar.index_select(0, batch.negatives))
            if self.job.losses.ranking.loss == "bpr"
            else _candidates(forward).similar_length
        )
        assert others is not None
        modality = RankedRows(
            # Users have no features of their own, so only items move along modality rows.
            user=torch.zeros_like(final.user),
            positive=scale * _length(similar.index_select(0, batch.positives)),
            others=scale * others,
        )
        if adversarial.rows == "modality":
            return modality
        return RankedRows(*(x + y for x, y in zip(final, modality, strict=True)))

    def contrasted(self, batch: Batch, rows: SeedRows) -> list[Contrasted]:
        """Equation 7 over the global batch's users, its candidate items, or both: this worker's rows, which
        ``everyone`` has alone until they are gathered."""
        if self.job.losses.contrastive.weight == 0:
            return []
        users = batch.batch_users, batch.user_counts
        items = batch.own_candidates, batch.candidate_counts
        rows_compared = self.job.losses.contrastive.rows
        if rows_compared == "lists":
            return [_side_by_side([*_in_order(rows.views), rows.final], *users)]
        if rows_compared == "modalities":
            assert batch.graph.similar is not None
            gather = batch.graph.similar.gather
            return [_side_by_side([aggregate(gather, x) for x in _in_order(rows.similar_items)], *items)]
        assert rows.similar is not None
        # The two signals that the model adds up: unless they agree, either could carry the whole ranking.
        two = [rows.similar, torch.stack(tuple(rows.layers)).mean(0)]
        return [_side_by_side(two, *users), _side_by_side(two, *items)]

    def _info_nce(self, contrasted: Contrasted) -> Tensor:
        """Sum of InfoNCE of every two kinds of rows; over the learned lists, of each against the last."""
        local = contrasted.local.tensor_split(contrasted.kinds, 1)
        everyone = contrasted.everyone.tensor_split(contrasted.kinds, 1)
        first = sum(contrasted.counts[: self.exchange.rank])
        # Gathered rows come worker by worker, so a row's partner stands behind those of lower ranks.
        positions = torch.arange(first, first + len(contrasted.local), device=contrasted.local.device)
        last = contrasted.kinds - 1
        against_last = self.job.losses.contrastive.rows == "lists"
        pairs = [(i, last) for i in range(last)] if against_last else list(combinations(range(last + 1), 2))
        temperature, count = self.job.losses.contrastive.temperature, sum(contrasted.counts)
        return torch.stack(
            [
                contrastive(
                    local[i],
                    local[j],
                    x_all=everyone[i],
                    y_all=everyone[j],
                    positions=positions,
                    temperature=temperature,
                    count=count,
                )
                for i, j in pairs
            ]
        ).sum()


def _side_by_side(rows: list[Tensor], seed_positions: Tensor, counts: tuple[int, ...]) -> Contrasted:
    """rows: [|S_0|, D] of each kind. seed_positions: the rows that count, by their positions in S_0."""
    wide = torch.cat([x.index_select(0, seed_positions) for x in rows], 1)
    return Contrasted(wide, wide, counts, len(rows))


def _in_order(by_modality: Mapping[str, Tensor]) -> list[Tensor]:
    return [rows for _, rows in sorted(by_modality.items())]


def _candidates(forward: Forward) -> CandidateRows:
    assert forward.candidates is not None
    return forward.candidates


def _length(rows: Tensor) -> Tensor:
    """[n, D] -> [n, 1]"""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return length
