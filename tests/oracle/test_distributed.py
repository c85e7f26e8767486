"""The partitioned, sampled, several-process implementation against the dense oracle: with all neighbours, all
items as candidates and no dropout, every row and loss within 1e-5, after training has moved the weights and
filled the lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mmssl_dist.config import Job
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.sampling.draws import Purpose, key, uniform
from mmssl_dist.sharding.lists import NO_ITEM
from tests.jobs import ITEM_GRAPH, training_job
from tests.oracle import reference as oracle
from tests.processes import run_workers
from tests.training import ITEMS, USERS, make_trainer, publish_graph

TOLERANCE = 1e-5
FULL = (
    "losses.candidates=all",
    "losses.contrastive.temperature=0.5",  # the reference's
    "model.dropout=0",
    "losses.adversarial.gumbel_scale=0.001",
    "training.rows.learning_rate=0.01",
    "training.dense.learning_rate=0.003",
)


@dataclass(kw_only=True)
class Observed:
    """What one worker computed; rows are by node id."""

    nodes: np.ndarray
    final: np.ndarray
    tower: dict[str, np.ndarray]
    views: dict[str, np.ndarray]
    pairs: np.ndarray
    batch_users: np.ndarray
    candidates: np.ndarray
    fakes: list[np.ndarray]
    real: np.ndarray
    uniform: np.ndarray
    losses: dict[str, float]
    first: int
    id_rows: np.ndarray
    lists: dict[str, np.ndarray]
    exact: np.ndarray
    weights: dict[str, np.ndarray]


def observe(rank: int, job: Job) -> Observed:
    """Train for an epoch and a half, then look into one step."""
    trainer = make_trainer(rank, job)
    steps = trainer.sampler.steps
    for epoch, count in ((0, steps), (1, steps // 2)):
        trainer.publish_lists()
        for step in range(count):
            trainer.step(trainer.batch(epoch, step))
    trainer.publish_lists()
    batch = trainer.batch(2, 0)
    state, views = (
        trainer.state,
        {m: of_modality.graph(trainer.exchange) for m, of_modality in trainer.state.lists.items()},
    )
    exact = exact_rows(
        Trained(
            model=state.model,
            id_rows=state.table.rows,
            graph=trainer.graph,
            views=views,
            exchange=trainer.exchange,
        )
    )
    forward = trainer.step.forward(batch)
    assert forward.candidates is not None
    users = batch.nodes[batch.batch_users]
    draw = key(job.seed, Purpose.GUMBEL, batch.epoch, batch.step, 0)
    numpy = lambda x: x.detach().numpy().copy()  # noqa: E731
    pairs = torch.stack([batch.nodes[p] for p in (batch.users, batch.positives, batch.negatives)], 1)
    return Observed(
        nodes=numpy(batch.nodes),
        final=numpy(forward.rows.final),
        tower={m: numpy(x) for m, x in forward.rows.tower.items()},
        views={m: numpy(x) for m, x in forward.rows.views.items()},
        pairs=numpy(pairs),
        batch_users=numpy(users),
        candidates=numpy(batch.candidates),
        fakes=[numpy(x) for x in forward.fakes],
        real=numpy(trainer.step.real_rows(batch, forward.rows, forward.candidates)),
        uniform=numpy(uniform(draw, users[:, None], batch.candidates[None])),
        first=trainer.exchange.first,
        id_rows=numpy(state.table.rows),
        lists={m: numpy(of_modality.published) for m, of_modality in state.lists.items()},
        exact=numpy(exact),
        weights={n: numpy(p) for n, p in state.model.named_parameters()},
        losses=trainer.step(batch),  # last: it moves the weights
    )


@dataclass
class Dense:
    """The same graph as matrices, in dataset order, and each node's place there: users 0..U-1, then items."""

    position: np.ndarray
    adjacency: np.ndarray
    features: dict[str, np.ndarray]
    has_modality: dict[str, np.ndarray]

    @property
    def user_of(self) -> np.ndarray:
        return self.position

    def item(self, nodes: np.ndarray) -> np.ndarray:
        return self.position[nodes] - USERS


def read_dense(output: Path, modalities: list[str]) -> Dense:
    """From the published dataset and the partitions' id files."""
    position = []
    for folder in sorted((output / "partitions").glob("part-*")):
        position.append(pq.read_table(folder / "user_ids.parquet").column("user").to_numpy())
        position.append(pq.read_table(folder / "item_ids.parquet").column("item").to_numpy() + USERS)
    adjacency = np.zeros((USERS, ITEMS))
    table = pq.read_table(output / "dataset" / "interactions" / "train")
    adjacency[table.column("user").to_numpy(), table.column("item").to_numpy()] = 1
    features, has_modality = {}, {}
    for m in modalities:
        table = pq.read_table(output / "dataset" / "features" / m)
        items, x = table.column("item").to_numpy(), np.stack(table.column("vector").to_pylist()).astype(float)
        x = (x - x.mean(0)) / x.std(0)  # partition.standardize
        features[m], has_modality[m] = np.zeros((ITEMS, x.shape[1])), np.zeros(ITEMS)
        features[m][items], has_modality[m][items] = x, 1
    return Dense(np.concatenate(position), adjacency, features, has_modality)


def oracle_rows(dense: Dense, workers: list[Observed]) -> dict:
    """The oracle with the trained weights and lists. An item that lacks a modality projects to zero, bias
    included, and one without interactions keeps its own projection, which the oracle's sums leave at zero."""
    ids = np.zeros((USERS + ITEMS, workers[0].id_rows.shape[1]))
    graphs = {m: np.zeros((USERS, ITEMS)) for m in dense.features}
    for w in workers:
        nodes = np.arange(w.first, w.first + len(w.id_rows))
        ids[dense.position[nodes]] = w.id_rows
        for m, lists in w.lists.items():
            row, slot = np.nonzero(lists != NO_ITEM)
            graphs[m][dense.position[nodes[row]], dense.item(lists[row, slot])] = 1
            assert len(row) > 0
    weights = {name: value.astype(float) for name, value in workers[0].weights.items()}
    dimension = ids.shape[1]
    square = np.eye(dimension)  # one modality has no query and key; any will do
    projections = {}
    for m in dense.features:
        weight, bias = weights[f"projections.modality_{m}.weight"], weights[f"projections.modality_{m}.bias"]
        projections[m] = np.concatenate([weight, bias[:, None]], 1), np.zeros(dimension)
    p = {
        "user_id": ids[:USERS],
        "item_id": ids[USERS:],
        "w_q": weights.get("attention.w_q", square),
        "w_k": weights.get("attention.w_k", square),
        "w_cat": weights["attention.w_cat"],
        "proj": projections,
    }
    extended = {m: np.concatenate([x, dense.has_modality[m][:, None]], 1) for m, x in dense.features.items()}
    rows = oracle.forward(p, dense.adjacency, extended, graphs, heads=4)
    cold = dense.adjacency.sum(0) == 0
    assert cold.any()
    for m, (_, item) in rows["features"].items():
        own = extended[m] @ projections[m][0].T
        rows["item"][cold] += 0.55 * (oracle.l2_normalize(own[cold]) - oracle.l2_normalize(item[cold]))
        item[cold] = own[cold]
    items = similar_rows(dense, ids[USERS:])
    rows["item"] += ITEM_GRAPH * items
    rows["user"] += (
        ITEM_GRAPH * (dense.adjacency @ items) / np.maximum(dense.adjacency.sum(1, keepdims=True), 1)
    )
    return rows


def similar_rows(dense: Dense, item_ids: np.ndarray) -> np.ndarray:
    """[I, D]: unit sums of the ID rows of each item's three most similar items per modality."""
    total = np.zeros_like(item_ids)
    for m, x in dense.features.items():
        having = np.flatnonzero(dense.has_modality[m])
        unit = oracle.l2_normalize(x[having])
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -np.inf)
        nearest = np.zeros((len(item_ids), len(item_ids)))
        for row, item in enumerate(having):
            nearest[item, having[np.argsort(-cosine[row])[:3]]] = 1
        total += nearest @ (item_ids / np.sqrt(np.maximum(nearest.sum(0), 1))[:, None]) / np.sqrt(3)
    return oracle.l2_normalize(total)


CASES = [(modalities, method) for modalities in (1, 2, 3) for method in ("metis", "random")]


def case_job(folder: Path, modalities: int, method: str, workers: int) -> Job:
    return training_job(
        folder / f"{modalities}-{method}", modalities, workers, *FULL, f"partition.method={method}"
    )


def observe_all(rank: int, folder: Path, workers: int) -> list[Observed]:
    """Every case one after the other, since starting processes takes longer than any of them."""
    return [observe(rank, case_job(folder, *case, workers=workers)) for case in CASES]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for case in CASES:
        publish_graph(case_job(folder, *case, workers=1))
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def observed(request, published):
    """By case, what each worker saw."""
    results = run_workers(request.param, observe_all, published, request.param, timeout=400)
    return dict(zip(CASES, zip(*results, strict=True), strict=True))


@pytest.mark.processes
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_and_losses_equal_the_oracles(observed, published, case):
    output = Path(case_job(published, *case, workers=1).output)
    names = sorted(training_job(output, case[0]).data.modalities)
    check(list(observed[case]), read_dense(output, names), names)


def check(workers: list[Observed], dense: Dense, names: list[str]) -> None:
    truth = oracle_rows(dense, workers)
    everything = {
        "final": np.concatenate([truth["user"], truth["item"]]),
        **{f"tower {m}": np.concatenate(truth["features"][m]) for m in names},
        **{f"views {m}": np.concatenate(truth["modality_ids"][m]) for m in names},
    }
    for w in workers:
        where = dense.position[w.nodes]
        close(w.final, everything["final"][where])
        for m in names:
            close(w.tower[m], everything[f"tower {m}"][where])
            close(w.views[m], everything[f"views {m}"][where])
        own = dense.position[np.arange(w.first, w.first + len(w.exact))]
        close(w.exact, everything["final"][own])
        check_critic_rows(w, dense, truth, names)
    check_losses(workers=workers, dense=dense, rows=everything, truth=truth, names=names)


def check_critic_rows(w: Observed, dense: Dense, truth: dict, names: list[str]) -> None:
    users, items = dense.position[w.batch_users], dense.item(w.candidates)
    assert sorted(items) == list(range(ITEMS))
    known = dense.adjacency[users][:, items]
    for m, fake in zip(names, w.fakes, strict=True):
        tower_user, tower_item = truth["features"][m]
        close(fake, oracle.generator_rows(tower_user[users], tower_item[items], known))
    collaborative = oracle.generator_rows(truth["user"][users], truth["item"][items], known)
    close(w.real, oracle.real_rows(known, collaborative, w.uniform.astype(float), gumbel_scale=0.001))


def check_losses(workers: list[Observed], dense: Dense, rows: dict, truth: dict, names: list[str]) -> None:
    pairs = dense.position[np.concatenate([w.pairs for w in workers])]
    users = dense.position[np.concatenate([w.batch_users for w in workers])]
    assert len(set(users)) == len(users)
    final = rows["final"]
    bpr = oracle.bpr(*(final[pairs[:, side]] for side in range(3)))
    contrastive = sum(oracle.contrastive(rows[f"views {m}"][users], final[users]) for m in names)
    ids = np.zeros_like(final)
    for w in workers:
        ids[dense.position[np.arange(w.first, w.first + len(w.id_rows))]] = w.id_rows
    l2 = 0.5 * (ids[pairs] ** 2).sum() / len(pairs)
    tower_l2 = 0.5 * sum((rows[f"tower {m}"][pairs] ** 2).sum() for m in names) / ITEMS
    for w in workers:
        for name, value in (("bpr", bpr), ("contrastive", contrastive), ("l2", l2), ("tower_l2", tower_l2)):
            assert abs(w.losses[name] - value) < TOLERANCE * max(1.0, abs(value)), name


def close(actual: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=TOLERANCE)
