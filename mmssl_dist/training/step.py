"""One training step: fetch, forward, critic, generator, update. Losses are those of the global batch,
whatever W is.

Each worker's loss is its share of a sum over all workers. DeepSpeed averages dense gradients over the
workers, so shares are multiplied by W before backward; row gradients are summed at their owner and divided by
W again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from mmssl_dist.config.job import Job
from mmssl_dist.errors import NonFiniteError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.losses import critic_loss, generator_loss, generator_rows, real_rows
from mmssl_dist.model import Critic, SeedRows, dropout
from mmssl_dist.sampling.batch import Batch
from mmssl_dist.sampling.draws import Purpose, key, uniform
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.training.engines import Engine
from mmssl_dist.training.forward import CandidateRows, Contrasted, Forward
from mmssl_dist.training.phases import Phases
from mmssl_dist.training.state import TrainingState
from mmssl_dist.training.terms import GeneratorTerms


class TrainingStep:
    """Callable on batches; changes ``state``.

    Args:
        exchange: on the device of the rows, over the group DeepSpeed uses or one of its own.
    """

    def __init__(self, job: Job, graph: LocalGraph, exchange: Exchange, state: TrainingState) -> None:
        self.job, self.graph, self.exchange, self.state = job, graph, exchange, state
        self.modalities = tuple(sorted(graph.propagated))
        self.terms = GeneratorTerms(job, graph.book.num_items, exchange)
        self.phases = Phases()

    def __call__(self, batch: Batch) -> dict[str, float]:
        """One step.

        Returns:
            The losses of the global batch, unweighted, by name; "total" is what the generator minimised.

        Raises:
            NonFiniteError: a loss or a gradient is not finite; on all workers together, before the update it
                would spoil. Names term, step and worker.
        """
        with self.phases("forward"):
            forward = self.forward(batch)
        # The critic first: the generator is then judged by one that has learned from these very rows.
        with self.phases("critic"):
            losses = self._critic_step(batch, forward)
        with self.phases("generator"):
            losses |= self._generator_step(batch, forward)
        with self.phases("update"):
            self._update_lists(batch, forward)
        return losses

    def forward(self, batch: Batch) -> Forward:
        """Fetch rows and run the generator."""
        with self.phases("fetch"):
            id_leaf = self.state.table.read(batch.id_route)
            id_rows, plain_tower = self._fetched(batch, id_leaf)
        rate = self.job.model.dropout
        tower = {
            # Keyed by node, so that a node is masked alike on whichever worker it is a seed.
            m: dropout(rows, batch.nodes, self._key(Purpose.DROPOUT, batch, position), rate)
            for position, (m, rows) in enumerate(plain_tower.items())
        }
        rows: SeedRows = self.state.generator.wrapped(id_rows, tower, batch.graph)
        candidates, contrasted = self._gathered(batch, rows, plain_tower)
        fakes = self._fakes(batch, rows, candidates) if self.state.critic is not None and candidates else []
        return Forward(
            id_leaf=id_leaf,
            id_rows=id_rows,
            plain_tower=plain_tower,
            rows=rows,
            candidates=candidates,
            contrasted=contrasted,
            fakes=fakes,
        )

    @torch.no_grad()
    def real_rows(self, batch: Batch, rows: SeedRows, candidates: CandidateRows) -> Tensor:
        """[Bu, C]: what the data says, for the critic to tell from the generator rows (equation 8)."""
        users = batch.batch_users
        collaborative = generator_rows(rows.final.index_select(0, users), candidates.final, batch.known)
        nodes = batch.nodes.index_select(0, users)
        noise = uniform(self._key(Purpose.GUMBEL, batch), nodes[:, None], batch.candidates[None])
        return real_rows(batch.known, collaborative, noise, self.job.losses.adversarial)

    def _fetched(self, batch: Batch, id_leaf: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """ID rows of the outermost set, and tower rows of the seeds [|S_0|, D] per modality, which their
        owners project F -> D before sending."""
        route, device = batch.seed_route, self.state.table.rows.device
        # Propagated features stay in the machine's memory: they are by far the largest table.
        rows_on_host = route.requested.to("cpu")
        projected = [
            self.state.model.project(m, self.graph.propagated[m].index_select(0, rows_on_host).to(device))
            for m in self.modalities
        ]
        id_rows, tower = self.exchange.send_together(
            [
                (id_leaf, batch.id_route.requested_counts, batch.id_route.received_counts),
                (torch.cat(projected, 1), route.requested_counts, route.received_counts),
            ]
        )
        return id_rows, dict(zip(self.modalities, tower.tensor_split(len(projected), 1), strict=True))

    def _gathered(
        self, batch: Batch, rows: SeedRows, plain_tower: Mapping[str, Tensor]
    ) -> tuple[CandidateRows | None, list[Contrasted]]:
        """Rows that every worker sees, in one message: candidates, and what the contrastive term compares."""
        contrasted = self.terms.contrasted(batch, rows)
        parts = [(compared.local, compared.counts) for compared in contrasted]
        own = self._own_candidates(rows, plain_tower) if len(batch.candidates) else {}
        if own:
            wide = torch.cat([x.index_select(0, batch.own_candidates) for x in own.values()], 1)
            parts.append((wide, batch.candidate_counts))
        gathered = self.exchange.gather_together(parts)
        whole = [
            replace(compared, everyone=x)
            for compared, x in zip(contrasted, gathered[: len(contrasted)], strict=True)
        ]
        if not own:
            return None, whole
        widths = [x.shape[1] for x in own.values()]
        everyone = dict(zip(own, torch.split(gathered[-1], widths, 1), strict=True))
        return self._candidates(everyone), whole

    def _own_candidates(self, rows: SeedRows, plain_tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rows of the seeds, of each kind that some term needs of the candidates among them."""
        adversarial = self.job.losses.adversarial
        own = {"final": rows.final}
        if adversarial.perturbs and adversarial.rows != "final":
            assert rows.similar is not None
            own["similar_length"] = torch.linalg.vector_norm(rows.similar.detach(), dim=1, keepdim=True)
        if adversarial.has_critic:
            own |= {f"tower {m}": rows.tower[m] for m in self.modalities}
        # Without dropout the critic's rows are the same numbers, and are not sent twice.
        if self.state.lists and (not adversarial.has_critic or self.job.model.dropout > 0):
            own |= {f"plain {m}": plain_tower[m].detach() for m in self.modalities}
        return own

    def _candidates(self, everyone: Mapping[str, Tensor]) -> CandidateRows:
        """``_own_candidates`` of all workers."""
        tower = {m: everyone[f"tower {m}"] for m in self.modalities if f"tower {m}" in everyone}
        plain = {m: everyone[f"plain {m}"] for m in self.modalities if f"plain {m}" in everyone}
        return CandidateRows(
            final=everyone["final"],
            similar_length=everyone.get("similar_length"),
            tower=tower,
            plain_tower=plain if plain or not self.state.lists else {m: x.detach() for m, x in tower.items()},
        )

    def _fakes(self, batch: Batch, rows: SeedRows, candidates: CandidateRows) -> list[Tensor]:
        users = {m: rows.tower[m].index_select(0, batch.batch_users) for m in self.modalities}
        return [generator_rows(users[m], candidates.tower[m], batch.known) for m in self.modalities]

    def _critic_step(self, batch: Batch, forward: Forward) -> dict[str, float]:
        """Backward through the critic alone, and its update."""
        critic, candidates = self.state.critic, forward.candidates
        if critic is None or candidates is None:
            return {}
        module = _critic(critic)
        real = self.real_rows(batch, forward.rows, candidates)
        nodes = batch.nodes.index_select(0, batch.batch_users)
        between = [uniform(self._key(Purpose.PENALTY, batch, m), nodes) for m in range(len(self.modalities))]
        # The module, not its engine: DeepSpeed forbids autograd.grad, which the penalty needs, on engines
        loss = critic_loss(
            critic=module,
            real=real,
            fakes=forward.fakes,
            item_rows=candidates.final.detach(),
            epsilons=between,
            penalty=self.job.losses.adversarial.penalty,
            count=sum(batch.user_counts),
        )
        # DeepSpeed averages gradients over the workers, and losses are shares of a sum.
        critic.wrapped.backward(loss * self.exchange.world_size)
        losses = self._agreed({"critic": loss}, {"the critic's weights": critic.gradients()}, batch)
        critic.wrapped.step()
        return losses

    def _generator_step(self, batch: Batch, forward: Forward) -> dict[str, float]:
        """Backward through everything, then the dense and the row update; row gradients arrive at their
        owners on the way."""
        terms = self.terms(batch, forward)
        if self.state.critic is not None and forward.candidates is not None:
            terms["adversarial"] = self.job.losses.adversarial.weight, self._fooled(batch, forward)
        total = torch.stack([weight * term for weight, term in terms.values()]).sum()
        engine = self.state.generator
        engine.wrapped.backward(total * self.exchange.world_size)
        # Summed over requesters on the way back; divided as DeepSpeed divides the dense gradients.
        row_gradient = _gradient(forward.id_leaf)
        if self.exchange.world_size > 1:
            row_gradient.div_(self.exchange.world_size)
        gradients = {"the generator's weights": engine.gradients(), "the generator's ID rows": [row_gradient]}
        losses = self._agreed(
            {name: term for name, (_, term) in terms.items()} | {"total": total}, gradients, batch
        )
        with self.phases("update"):
            engine.wrapped.step()
            self.state.table.update(batch.id_route, row_gradient)
        return losses

    def _fooled(self, batch: Batch, forward: Forward) -> Tensor:
        """The generator's side of the critic's game: its share of how false the critic finds its rows."""
        assert self.state.critic is not None
        assert forward.candidates is not None
        with _frozen(_critic(self.state.critic)) as critic:
            item_rows = forward.candidates.final.detach()
            return generator_loss(critic, forward.fakes, item_rows, sum(batch.user_counts))

    @torch.no_grad()
    def _update_lists(self, batch: Batch, forward: Forward) -> None:
        """Users meet the candidates: their lists keep the best unseen items."""
        if forward.candidates is None or not self.state.lists:
            return
        rows = batch.nodes.index_select(0, batch.batch_users) - self.exchange.first
        for m, lists in self.state.lists.items():
            users = forward.plain_tower[m].index_select(0, batch.batch_users)
            candidates = forward.candidates.plain_tower[m]
            # Rows of zeros have nothing of the modality: their score of 0 would be above negative ones.
            unlisted = batch.known | ~users.any(1, keepdim=True) | ~candidates.any(1)
            scores = (users @ candidates.T).masked_fill(unlisted, -torch.inf)
            lists.merge(rows.cpu(), batch.candidates.cpu(), scores.cpu())

    def _agreed(
        self, shares: Mapping[str, Tensor], gradients: Mapping[str, Iterable[Tensor]], batch: Batch
    ) -> dict[str, float]:
        """The losses over all workers, by name; every worker's losses and gradients are checked before an
        update."""
        mine = [share.detach().float() for share in shares.values()]
        mine += [_worst(gradient, mine[0].device) for gradient in gradients.values()]
        with self.phases("agree"):
            everyone = self.exchange.gather_rows(torch.stack(mine)[None], (1,) * self.exchange.world_size)
            values = everyone.tolist()  # the one wait for the device of this half of the step
        names = [*(f"loss {name}" for name in shares), *(f"the gradient of {name}" for name in gradients)]
        for name, column in zip(names, zip(*values, strict=True), strict=True):
            # Every worker sees the same numbers and raises alike, so none is left waiting in a collective.
            wrong = [rank for rank, value in enumerate(column) if not math.isfinite(value)]
            if wrong:
                raise NonFiniteError(
                    f"epoch {batch.epoch}, step {batch.step}: {name} is {column[wrong[0]]} on worker "
                    f"{', '.join(map(str, wrong))}. Lower the learning rates, or train in fp32 with "
                    "training.dense.clip."
                )
        return {
            name: math.fsum(column) for name, column in zip(shares, zip(*values, strict=True), strict=False)
        }

    def _key(self, purpose: Purpose, batch: Batch, position: int = 0) -> int:
        return key(self.job.seed, purpose, batch.epoch, batch.step, position)


def _critic(engine: Engine) -> Critic:
    assert isinstance(engine.module, Critic)
    return engine.module


@contextmanager
def _frozen(module: Critic) -> Iterator[Critic]:
    """The critic as a fixed function: through its engine, the generator's backward would reduce its
    gradients."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield module
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _worst(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """A finite number if all entries of ``tensors`` are, else one that is not."""
    # one pass over memory and no copy, unlike abs().max()
    largest = [torch.stack(tensor.aminmax()).abs().max().float() for tensor in tensors if tensor.numel()]
    return torch.stack(largest).sum() if largest else torch.zeros((), device=device)


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
