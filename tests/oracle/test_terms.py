"""The perturbation and the contrastive term of the partitioned, several-process implementation against dense
float64 ones; the gradients that perturb are written out by hand and checked by finite differences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.config import Job
from mmssl_dist.sampling.block import aggregate
from tests.jobs import ITEM_GRAPH, training_job
from tests.oracle import reference as oracle
from tests.processes import run_workers
from tests.training import make_trainer, publish_graph

EPS, TAU = 0.3, 0.2
CONTRASTIVE = ("item_graph", "modalities")
CASES = [(loss, rows) for loss in ("bpr", "softmax") for rows in ("final", "modality", "both")]
"""Of the perturbation; the contrastive term's kinds take turns in them."""


@dataclass(kw_only=True)
class Observed:
    """What one worker computed; rows are by node id.

    pairs [b, 3]: users, positives and negatives. final, similar, propagated, and those of each modality's
    item-item graph: node -> row. known [b, C].
    """

    pairs: np.ndarray
    candidates: np.ndarray
    known: np.ndarray
    final: dict[int, np.ndarray]
    similar: dict[int, np.ndarray]
    propagated: dict[int, np.ndarray]
    by_modality: list[dict[int, np.ndarray]]
    losses: dict[str, float]


def case_job(folder: Path, workers: int, loss: str, rows: str) -> Job:
    return training_job(
        folder,
        2,
        workers,
        "model.dropout=0",
        "training.rows.learning_rate=0.01",
        f"losses.ranking.loss={loss}",
        f"losses.ranking.temperature={TAU}",
        "losses.adversarial.kind=perturbation",
        f"losses.adversarial.eps={EPS}",
        f"losses.adversarial.rows={rows}",
        f"losses.contrastive.rows={CONTRASTIVE[rows == 'final']}",
        "losses.contrastive.temperature=0.3",
    )


def observe(rank: int, job: Job) -> Observed:
    """Train for an epoch, then look into one step."""
    trainer = make_trainer(rank, job)
    for step in range(trainer.sampler.steps):
        trainer.step(trainer.batch(0, step))
    trainer.publish_lists()
    batch = trainer.batch(1, 0)
    rows = trainer.step.forward(batch).rows
    assert rows.similar is not None
    assert batch.graph.similar is not None
    gather = batch.graph.similar.gather
    table = lambda x: dict(zip(batch.nodes.tolist(), x.detach().double().numpy(), strict=True))  # noqa: E731
    positions = np.searchsorted(batch.batch_users.numpy(), batch.users.numpy())
    return Observed(
        pairs=np.stack([batch.nodes[p].numpy() for p in (batch.users, batch.positives, batch.negatives)], 1),
        candidates=batch.candidates.numpy(),
        known=batch.known.numpy()[positions],
        final=table(rows.final),
        similar=table(rows.similar),
        propagated=table(torch.stack(tuple(rows.layers)).mean(0)),
        by_modality=[table(aggregate(gather, x)) for _, x in sorted(rows.similar_items.items())],
        losses=trainer.step(batch),
    )


def observe_all(rank: int, folder: Path, workers: int) -> list[Observed]:
    return [observe(rank, case_job(folder, workers, *case)) for case in CASES]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    publish_graph(case_job(folder, 1, "bpr", "final"))
    return folder


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["one worker", "two workers", "three workers"])
def observed(request, published):
    """By case, what each worker saw."""
    results = run_workers(request.param, observe_all, published, request.param, timeout=400)
    return dict(zip(CASES, zip(*results, strict=True), strict=True))


@pytest.mark.processes
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_perturbation_equals_the_oracles(observed, case):
    workers: list[Observed] = list(observed[case])
    loss, rows = case
    final, similar = ({}, {})
    for worker in workers:
        final |= worker.final
        similar |= worker.similar
    pairs = np.concatenate([worker.pairs for worker in workers])
    others = pairs[:, 2] if loss == "bpr" else workers[0].candidates
    known = np.concatenate([worker.known for worker in workers])
    z = [np.stack([final[n] for n in nodes]) for nodes in (pairs[:, 0], pairs[:, 1], others)]
    s = [np.stack([similar[n] for n in nodes]) for nodes in (pairs[:, 0], pairs[:, 1], others)]
    lengths = [np.zeros((len(x), 1)) for x in z]
    if rows != "modality":
        lengths = [EPS * np.linalg.norm(x, axis=1, keepdims=True) for x in z]
    if rows != "final":
        for number in (1, 2):
            lengths[number] = lengths[number] + EPS * ITEM_GRAPH * np.linalg.norm(
                s[number], axis=1, keepdims=True
            )
    value, *gradients = ranking(loss, *z, known=known)
    perturbed = [x + by * oracle.l2_normalize(g) for x, g, by in zip(z, gradients, lengths, strict=True)]
    wanted = ranking(loss, *perturbed, known=known)[0]
    assert wanted > value + 0.01
    for worker in workers:
        assert worker.losses[loss] == pytest.approx(value, rel=1e-5)
        assert worker.losses["adversarial"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.processes
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_contrastive_term_equals_the_oracles(observed, case):
    workers: list[Observed] = list(observed[case])
    similar, propagated, by_modality = {}, {}, [{}, {}]
    for worker in workers:
        similar |= worker.similar
        propagated |= worker.propagated
        for together, own in zip(by_modality, worker.by_modality, strict=True):
            together |= own
    users = np.unique(np.concatenate([worker.pairs[:, 0] for worker in workers]))
    items = workers[0].candidates
    take = lambda table, nodes: np.stack([table[n] for n in nodes])  # noqa: E731
    if case[1] == "final":
        wanted = oracle.contrastive(*(take(table, items) for table in by_modality), tau=0.3)
    else:
        wanted = sum(
            oracle.contrastive(take(similar, nodes), take(propagated, nodes), 0.3) for nodes in (users, items)
        )
    for worker in workers:
        assert worker.losses["contrastive"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_the_oracles_gradients_by_finite_differences(loss):
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(n, 5)) for n in (4, 4, 4 if loss == "bpr" else 7)]
    known = rng.random((4, 7)) < 0.3
    gradients = ranking(loss, *rows, known=known)[1:]
    for number, gradient in enumerate(gradients):
        for at in np.ndindex(gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [x.copy() for x in rows]
                moved[number][at] += sign * 1e-6
                values.append(ranking(loss, *moved, known=known)[0])
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[at], rel=1e-5, abs=1e-8)


def ranking(
    loss: str, user: np.ndarray, positive: np.ndarray, others: np.ndarray, known: np.ndarray
) -> tuple:
    """The loss and its gradients at the three, float64."""
    if loss == "bpr":
        margin = (user * (positive - others)).sum(1, keepdims=True)
        slope = -1 / (1 + np.exp(margin)) / len(user)
        return oracle.bpr(user, positive, others), slope * (positive - others), slope * user, -slope * user
    unit = [oracle.l2_normalize(x) for x in (user, positive, others)]
    scores = np.concatenate([(unit[0] * unit[1]).sum(1, keepdims=True), unit[0] @ unit[2].T], 1) / TAU
    scores[:, 1:][known] = -np.inf
    share = oracle.softmax(scores)
    slope = share / TAU / len(user)  # by score
    slope[:, 0] -= 1 / TAU / len(user)
    of_units = (
        slope[:, :1] * unit[1] + slope[:, 1:] @ unit[2],
        slope[:, :1] * unit[0],
        slope[:, 1:].T @ unit[0],
    )
    gradients = (
        (g - (g * x).sum(1, keepdims=True) * x) / np.linalg.norm(row, axis=1, keepdims=True)
        for g, x, row in zip(of_units, unit, (user, positive, others), strict=True)
    )
    return -np.log(share[:, 0]).mean(), *gradients
