"""With feature columns the model is VBPR: scores by hand from ID rows, features and weights, in training and
after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.config import Job, load_job
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.graph.partition_files import load_features
from mmssl_dist.storage import open_location, require_manifest
from mmssl_dist.training.state import initial_rows
from tests.jobs import training_job
from tests.processes import run_workers
from tests.training import make_trainer, publish_graph

ROOT = Path(__file__).parents[2]
COLUMNS = 6


def vbpr_job(output: Path, workers: int) -> Job:
    """The model, losses and fanout of the job that ships, on a small graph and with few columns."""
    shipped = load_job(ROOT / "jobs/baselines/vbpr.yaml")
    job = training_job(output, 2, workers)
    model = shipped.model.model_copy(update={"dimension": 16, "feature_columns": COLUMNS})
    training = job.training.model_copy(update={"fanout": shipped.training.fanout})
    return job.model_copy(update={"model": model, "losses": shipped.losses, "training": training})


@dataclass(kw_only=True)
class Observed:
    """What one worker computed; first: its first node. nodes, pairs [B, 3], sampled: a batch's node ids and
    rows."""

    first: int
    is_item: np.ndarray
    before: np.ndarray
    id_rows: np.ndarray
    exact: np.ndarray
    nodes: np.ndarray
    sampled: np.ndarray
    pairs: np.ndarray
    bpr: float
    features: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]


def observe(rank: int, folder: Path, workers: int) -> Observed:
    """Train for an epoch, then look into one step."""
    job = vbpr_job(folder, workers)
    trainer = make_trainer(rank, job)
    before = initial_rows(job, trainer.graph)
    for step in range(trainer.sampler.steps):
        trainer.step(trainer.batch(0, step))
    batch, state = trainer.batch(1, 0), trainer.state
    exact = exact_rows(
        Trained(
            model=state.model,
            id_rows=state.table.rows,
            graph=trainer.graph,
            views={},
            exchange=trainer.exchange,
        )
    )
    forward = trainer.step.forward(batch)
    numpy = lambda x: x.detach().numpy().copy()  # noqa: E731
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    own = {
        m: [
            load_features(
                location=location, manifest=manifest, part=part, modality=m, cache=trainer.worker.cache
            )
            for part in trainer.graph.parts
        ]
        for m in state.model.modalities
    }
    is_item = np.zeros(trainer.graph.num_rows, bool)
    is_item[trainer.graph.items.numpy()] = True
    return Observed(
        first=trainer.exchange.first,
        is_item=is_item,
        before=numpy(before),
        id_rows=numpy(state.table.rows),
        exact=numpy(exact),
        nodes=numpy(batch.nodes),
        sampled=numpy(forward.rows.final),
        pairs=numpy(
            torch.stack([batch.nodes[p] for p in (batch.users, batch.positives, batch.negatives)], 1)
        ),
        features={m: np.concatenate(parts) for m, parts in own.items()},
        weights={n: numpy(p) for n, p in state.model.named_parameters()},
        bpr=trainer.step(batch)["bpr"],  # last: it moves the weights
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_scores_are_those_of_id_rows_and_of_projected_features(tmp_path, workers):
    publish_graph(training_job(tmp_path))
    result = run_workers(workers, observe, tmp_path, workers, timeout=120)
    join = lambda name: np.concatenate([getattr(worker, name) for worker in result])  # noqa: E731
    id_rows, is_item, before = join("id_rows"), join("is_item"), join("before")
    visual = np.zeros((len(id_rows), COLUMNS))
    for m in ("image", "text"):
        x = np.concatenate([worker.features[m] for worker in result]).astype(float)
        weight, bias = (result[0].weights[f"projections.modality_{m}.{name}"] for name in ("weight", "bias"))
        assert weight.shape == (COLUMNS, x.shape[1] - 1)
        visual[is_item] += x[:, :-1] @ weight.T + x[:, -1:] * bias
    visual[~is_item] = id_rows[~is_item, -COLUMNS:]
    wanted = np.concatenate([id_rows[:, :-COLUMNS], visual], 1)
    np.testing.assert_allclose(join("exact"), wanted, atol=1e-5)
    for worker in result:
        np.testing.assert_allclose(worker.sampled, wanted[worker.nodes], atol=1e-5)
    # a pair's loss from gamma_u . gamma_i + theta_u . E f_i, the negative's subtracted
    user, positive, negative = (wanted[join("pairs")[:, column]] for column in range(3))
    margin = (user * (positive - negative)).sum(1)
    assert result[0].bpr == pytest.approx(np.log1p(np.exp(-margin)).mean(), abs=1e-5)
    # items have nothing of their own in these columns, users learn theirs
    assert not id_rows[is_item, -COLUMNS:].any()
    seen = np.unique(np.concatenate([worker.nodes for worker in result]))
    users = seen[~is_item[seen]]
    assert (id_rows[users, -COLUMNS:] != before[users, -COLUMNS:]).any(1).mean() > 0.9
