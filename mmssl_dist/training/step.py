"""One training step: fetch, forward, critic, generator, update. Losses are those of the global batch, whatever W is.

Each worker's loss is its share of a sum over all workers. DeepSpeed averages dense gradients over the workers, so
shares are multiplied by W before backward; row gradients are summed at their owner and divided by W again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmssl_dist.config.tree import Job
from mmssl_dist.errors import NonFiniteError
from mmssl_dist.losses import bpr, contrastive, critic_loss, generator_loss, generator_rows, l2, real_rows
from mmssl_dist.model import Rows, dropout
from mmssl_dist.sampling.batch import Batch
from mmssl_dist.sampling.draws import Purpose, key, uniform
from mmssl_dist.sharding.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.state import TrainingState


@dataclass(frozen=True)
class _Shared:
    """Rows that every worker sees whole: the candidates of the global batch.

    final [C, D]; tower: modality -> [C, D]; plain_tower: the same without dropout and gradient.
    """

    final: Tensor
    tower: Mapping[str, Tensor]
    plain_tower: Mapping[str, Tensor]


class TrainingStep:
    """Callable on batches; changes ``state``.

    Args:
        exchange: on the device of the rows, over the group DeepSpeed uses or one of its own.
    """

    def __init__(self, job: Job, graph: LocalGraph, exchange: Exchange, state: TrainingState) -> None:
        self.job, self.graph, self.exchange, self.state = job, graph, exchange, state
        self.modalities = tuple(sorted(graph.propagated))

    def __call__(self, batch: Batch) -> dict[str, float]:
        """One step.

        Returns:
            The losses of the global batch, unweighted, by name; "total" is what the generator minimised.

        Raises:
            NonFiniteError: a loss is not finite; on all workers together, before the update it would spoil.
        """
        id_rows = self.state.table.read(batch.id_route)
        plain_tower = self._tower(batch)
        rate = self.job.model.dropout
        tower = {
            m: dropout(rows, batch.nodes, key(self.job.seed, Purpose.DROPOUT, batch.epoch, batch.step, position), rate)
            for position, (m, rows) in enumerate(plain_tower.items())
        }
        fetched = self.exchange.fetch(batch.id_route, id_rows)
        rows: Rows = self.state.generator.wrapped(fetched, tower, batch.graph)
        shared = self._share_candidates(batch, rows, plain_tower) if len(batch.candidates) else None
        losses = {}
        if self.state.critic is not None and shared is not None:
            losses["critic"] = self._critic_step(batch, rows, shared)
        losses |= self._generator_step(batch, rows, shared, fetched)
        self.state.table.update(batch.id_route, _gradient(id_rows) / self.exchange.world_size)
        if shared is not None:
            self._update_lists(batch, plain_tower, shared)
        return losses

    def _tower(self, batch: Batch) -> dict[str, Tensor]:
        """Tower rows of the seeds [|S_0|, D] per modality: owners project F -> D before sending."""
        route, device = batch.seed_route, self.state.table.rows.device
        rows_on_host = route.requested.to("cpu")
        projected = [
            self.state.model.project(m, self.graph.propagated[m].index_select(0, rows_on_host).to(device))
            for m in self.modalities
        ]
        fetched = self.exchange.fetch(route, torch.cat(projected, 1))
        return dict(zip(self.modalities, fetched.tensor_split(len(projected), 1), strict=True))

    def _share_candidates(self, batch: Batch, rows: Rows, plain_tower: Mapping[str, Tensor]) -> _Shared:
        own, counts = batch.own_candidates, batch.candidate_counts
        wide = torch.cat([rows.final, *(rows.tower[m] for m in self.modalities)], 1).index_select(0, own)
        final, *tower = self.exchange.gather_rows(wide, counts).tensor_split(1 + len(self.modalities), 1)
        if self.job.model.dropout == 0:
            plain = [rows.detach() for rows in tower]
        else:
            wide = torch.cat([plain_tower[m].detach() for m in self.modalities], 1).index_select(0, own)
            plain = list(self.exchange.gather_rows(wide, counts).tensor_split(len(self.modalities), 1))
        return _Shared(
            final=final,
            tower=dict(zip(self.modalities, tower, strict=True)),
            plain_tower=dict(zip(self.modalities, plain, strict=True)),
        )

    def _critic_step(self, batch: Batch, rows: Rows, shared: _Shared) -> float:
        critic, settings = self.state.critic, self.job.losses.adversarial
        assert critic is not None
        with torch.no_grad():
            users, item_rows = batch.batch_users, shared.final.detach()
            collaborative = generator_rows(rows.final.index_select(0, users), item_rows, batch.known)
            fakes = self._fakes(batch, rows, shared)
            user_nodes = batch.nodes.index_select(0, users)
            noise = uniform(self._key(Purpose.GUMBEL, batch, 0), user_nodes[:, None], batch.candidates[None])
            real = real_rows(batch.known, collaborative, noise, settings)
            between = [
                uniform(self._key(Purpose.PENALTY, batch, position), user_nodes)
                for position in range(len(self.modalities))
            ]
        loss = critic_loss(critic.wrapped, real, fakes, item_rows, between, settings.penalty, sum(batch.user_counts))
        total = self._total({"critic": loss}, batch)["critic"]
        critic.wrapped.backward(loss * self.exchange.world_size)
        critic.wrapped.step()
        return total

    def _generator_step(self, batch: Batch, rows: Rows, shared: _Shared | None, fetched: Tensor) -> dict[str, float]:
        """Backward through everything and the dense update; row gradients arrive at their owners on the way."""
        losses, weights = self.job.losses, {"bpr": 1.0, "l2": self.job.losses.l2}
        pairs = (batch.users, batch.positives, batch.negatives)
        own = fetched.index_select(0, batch.graph.seeds_source)
        user, positive, negative = (rows.final.index_select(0, p) for p in pairs)
        terms = {
            "bpr": bpr(user, positive, negative, batch.pairs),
            "l2": l2(*(own.index_select(0, p) for p in pairs), count=batch.pairs),
        }
        if losses.tower_l2 > 0:
            towers = [rows.tower[m].index_select(0, p) for m in self.modalities for p in pairs]
            terms["tower_l2"], weights["tower_l2"] = l2(*towers, count=self.graph.book.num_items), losses.tower_l2
        if losses.contrastive.weight > 0:
            terms["contrastive"] = self._contrastive(batch, rows)
            weights["contrastive"] = losses.contrastive.weight
        if self.state.critic is not None and shared is not None:
            with _frozen(self.state.critic.module) as critic:
                fakes = self._fakes(batch, rows, shared)
                item_rows = shared.final.detach()
                terms["adversarial"] = generator_loss(critic, fakes, item_rows, sum(batch.user_counts))
            weights["adversarial"] = losses.adversarial.weight
        total = sum((weights[name] * term for name, term in terms.items()), start=torch.zeros((), device=own.device))
        sums = self._total({**terms, "total": total}, batch)
        engine = self.state.generator.wrapped
        engine.backward(total * self.exchange.world_size)
        engine.step()
        return sums

    def _fakes(self, batch: Batch, rows: Rows, shared: _Shared) -> list[Tensor]:
        users = {m: rows.tower[m].index_select(0, batch.batch_users) for m in self.modalities}
        return [generator_rows(users[m], shared.tower[m], batch.known) for m in self.modalities]

    def _contrastive(self, batch: Batch, rows: Rows) -> Tensor:
        """Sum over modalities of InfoNCE between g and final rows of the global batch's users."""
        local = [rows.final, *(rows.views[m] for m in self.modalities)]
        wide = torch.cat([x.index_select(0, batch.batch_users) for x in local], 1)
        final, *views = wide.tensor_split(len(local), 1)
        all_final, *all_views = self.exchange.gather_rows(wide, batch.user_counts).tensor_split(len(local), 1)
        first = sum(batch.user_counts[: self.exchange.rank])
        positions = torch.arange(first, first + len(wide), device=wide.device)
        temperature, count = self.job.losses.contrastive.temperature, sum(batch.user_counts)
        return torch.stack([
            contrastive(view, final, all_view, all_final, positions, temperature, count)
            for view, all_view in zip(views, all_views, strict=True)
        ]).sum()  # fmt: skip

    @torch.no_grad()
    def _update_lists(self, batch: Batch, plain_tower: Mapping[str, Tensor], shared: _Shared) -> None:
        rows = batch.nodes.index_select(0, batch.batch_users) - self.exchange.first
        for m, lists in self.state.lists.items():
            scores = plain_tower[m].index_select(0, batch.batch_users) @ shared.plain_tower[m].T
            scores = scores.masked_fill(batch.known, -torch.inf)
            lists.merge(rows.cpu(), batch.candidates.cpu(), scores.cpu())

    def _total(self, shares: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
        """The losses over all workers, by name; checked before anything is updated with them."""
        sums = self.exchange.sum(torch.stack([share.detach() for share in shares.values()]).float())
        result = dict(zip(shares, sums.tolist(), strict=True))
        if not bool(torch.isfinite(sums).all()):
            raise NonFiniteError(
                f"epoch {batch.epoch}, step {batch.step}: a loss is not finite ({result}). Lower the learning rates, "
                "or train in fp32 with training.dense.clip."
            )
        return result

    def _key(self, purpose: Purpose, batch: Batch, position: int) -> int:
        return key(self.job.seed, purpose, batch.epoch, batch.step, position)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[nn.Module]:
    """The critic as a fixed function: through its engine, the generator's backward would reduce its gradients."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield module
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
