"""Trainings of a small graph in the processes of tests: settings, whole loops, and resumed ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.launch.worker_entry import evaluate_on_worker, export_on_worker
from mmssl_dist.storage import FileRecord, Manifest, open_location
from mmssl_dist.training.loop import TrainingLoop
from tests.sessions import LocalSession
from tests.training import make_trainer, make_worker

STEPS = 20
SAMPLED = ("training.fanout=[3, 2]", "model.modality_graph.fanout=2", "losses.candidates=12")


CURVES = {
    "all neighbours": (),
    "sampled": SAMPLED,
    "softmax": (
        *SAMPLED,
        "losses.ranking.loss=softmax",
        "losses.contrastive.rows=modalities",
        "model.item_graph.fanout=2",
        "model.item_graph.learned=true",
    ),
    "drawn by keys": (*SAMPLED, "training.sampler=device"),
    "one layer": (
        *SAMPLED,
        "model.layers=1",
        "training.fanout=[3]",
        "training.sampler=device",
        "model.modality_graph.size=0",
        "losses.contrastive.rows=item_graph",
        "model.item_graph.fanout=2",
    ),
    "feature columns": (
        *SAMPLED,
        "model.feature_columns=6",
        "losses.adversarial.weight=0",
        "model.modality_graph.size=0",
        "losses.contrastive.weight=0",
    ),
    "perturbation": (*SAMPLED, "losses.ranking.loss=softmax", "losses.adversarial.kind=perturbation"),
    "perturbed modality rows": (
        *SAMPLED,
        "losses.adversarial.kind=perturbation",
        "losses.adversarial.rows=both",
        "losses.contrastive.rows=item_graph",
    ),
    "small steps": (*SAMPLED, "training.batch_size=4"),  # some workers go without pairs
}


Losses = dict[str, float]


Trained = tuple[list[Losses], dict[str, Tensor]]


def curve(rank: int, job: Job, steps: int = STEPS) -> list[Losses]:
    """Losses of the first steps, learned lists published as epochs begin."""
    trainer = make_trainer(rank, job)
    losses = []
    for number in range(steps):
        epoch, step = divmod(number, trainer.sampler.steps)
        if step == 0 and epoch:
            trainer.publish_lists()
        losses.append(trainer.step(trainer.batch(epoch, step)))
    return losses


def train(rank: int, job: Job, folder: Path, every: int = 0, device: str = "cpu") -> Trained:
    """Train through the loop, sampling ahead; the metrics reported, and the rows and dense weights at the
    end.

    every: steps between checkpoints within an epoch.
    """
    worker = make_worker(rank, job, device)
    graph, session = load_local_graph(job, worker), LocalSession(folder, every)
    sampler = Exchange(dist.new_group(backend="gloo"), graph.book.worker_bounds(worker.world_size), rank)
    loop = TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=graph.exchange(worker),
        sampler_exchange=sampler,
        session=session,
        validate=lambda state: {job.evaluation.metric: float(state.table.steps)},
    )
    loop.run()
    dist.barrier()  # a checkpoint is complete when all have written
    assert (loop.state.critic is not None) == job.losses.adversarial.has_critic
    state = {"rows": loop.state.table.rows, **loop.state.generator.state()}
    if loop.state.critic is not None:
        state |= {f"critic {name}": value for name, value in loop.state.critic.state().items()}
    return session.reports, {name: value.cpu().clone() for name, value in state.items()}


def resume(rank: int, job: Job, folder: Path, before: int) -> Trained:
    """Go on from the last checkpoint within an epoch of ``before`` workers, in a copy of their folder."""
    copy = folder / f"from-{before}-by-{job.scaling.workers}"
    if rank == 0:
        shutil.copytree(folder / f"until-3-by-{before}", copy)
        *_, last = [path for path in sorted(copy.iterdir()) if position_of(path)["steps"] > 0]
        for later in [path for path in copy.iterdir() if path.name > last.name]:
            shutil.rmtree(later)
    dist.barrier()
    return train(rank, job, copy)


def position_of(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "manifest.json").read_text())["facts"]


LOOP = (*SAMPLED, "model.modality_graph.refresh_epochs=2")


LOOPS = {
    "critic": LOOP,
    "perturbation": (
        *LOOP,
        "losses.ranking.loss=softmax",
        "losses.adversarial.kind=perturbation",
        "losses.adversarial.rows=both",
        "losses.contrastive.rows=item_graph",
    ),
}


DENSE = {
    "plain": (),
    "stage 1": ("training.dense.zero_stage=1",),
    "stage 2": ("training.dense.zero_stage=2",),
    "bf16, stage 0": ("training.dense.precision=bf16",),
    "bf16, stage 1": ("training.dense.zero_stage=1", "training.dense.precision=bf16"),
    "bf16, stage 2": ("training.dense.zero_stage=2", "training.dense.precision=bf16"),
}


def evaluate_and_export(rank: int, job: Job, folder: Path) -> dict[str, Any]:
    """The stages after training, always on what a single worker trained."""
    checkpoint = folder / "critic" / "whole-1" / "checkpoint-00003"
    files = {}
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        files[path.name] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
    location, training = (
        open_location(str(checkpoint), job.storage),
        Manifest("training", "of a test", {}, files),
    )
    worker = make_worker(rank, job)
    records = export_on_worker(job, worker, location, training)["files"]
    for name, record in records.items():
        assert (Path(job.output) / "export" / name).stat().st_size == record["bytes"]
    return evaluate_on_worker(job, worker, location, training)["metrics"]
