"""A published run of many items whose rows are made up, not trained: what the service reads, in the real
formats.

Items lie in clusters and differ in length, users lie between a few clusters' centres, as rows of trained
models do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmssl_dist.config import Job
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.export.fold_in import FoldInRows, write_fold_in
from mmssl_dist.export.new_item_weights import write_new_items
from mmssl_dist.export.writers import write_item_embeddings, write_safetensors, write_user_embeddings
from mmssl_dist.graph.partition import partition
from mmssl_dist.graph.partition_files import load_ids
from mmssl_dist.launch.export_task import publish_export
from mmssl_dist.launch.fingerprints import export_fingerprint
from mmssl_dist.launch.worker_data import feature_maps, load_local_graph
from mmssl_dist.storage import FileRecord, Manifest, open_location, publish, require_manifest
from mmssl_dist.training.state import make_model
from tests.artifacts import write_dataset
from tests.jobs import make_job
from tests.tasks import in_this_process

WIDTH = 64
_SEEN = 20  # training interactions of each user
_CLUSTERS = 1000
_TASTES = 3  # clusters that a user likes


@dataclass(frozen=True)
class Size:
    """How many users and items."""

    users: int
    items: int


def publish_large(output: Path, size: Size, sets: tuple[str, ...] = ()) -> Job:
    """Publish such a run below ``output``; users are u0, u1, ..., items i0, i1, ...; ``sets`` as of a job."""
    job = make_job(
        *sets,
        output=str(output),
        partition={"parts": 2, "method": "random", "item_neighbours": 0},
        model={"dimension": WIDTH, "item_graph": {"weight": 0}, "modality_graph": {"size": 0}},
        losses={"contrastive": {"weight": 0}},
    )
    rng = np.random.default_rng(0)
    users, items = np.arange(size.users), np.arange(size.items)
    pairs = np.stack([np.repeat(users, _SEEN), rng.integers(0, size.items, _SEEN * size.users)], axis=1)
    pairs = np.unique(pairs, axis=0)
    nothing = np.empty((0, 2), np.int64)
    features = {"image": (items, rng.normal(size=(size.items, 1)).astype(np.float32))}
    names = [f"u{user}" for user in users], [f"i{item}" for item in items]
    partition(job, write_dataset(output / "dataset", pairs, nothing, nothing, features, *names))
    _export(job, size, rng)
    return job


def _export(job: Job, size: Size, rng: np.random.Generator) -> None:
    output = open_location(job.output, job.storage)
    partitions = require_manifest(output / "partitions", "partitions", "partition")
    cache = Path(job.output) / "cache"
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=cache, group=None)
    graph = load_local_graph(job, worker)
    centres = rng.normal(size=(_CLUSTERS, WIDTH)).astype(np.float32)
    user_rows, item_rows = _user_rows(centres, size.users, rng), _item_rows(centres, size.items, rng)
    files: dict[str, FileRecord] = {}
    first_user = first_item = 0
    for part in graph.parts:
        user_ids, item_ids = load_ids(output / "partitions", partitions, part, cache)
        users = user_rows[first_user : first_user + len(user_ids)]
        items = item_rows[first_item : first_item + len(item_ids)]
        first_user, first_item = first_user + len(user_ids), first_item + len(item_ids)
        files |= dict(
            [
                write_user_embeddings(output / "export", part, user_ids, users),
                write_item_embeddings(output / "export", part, item_ids, items),
                write_safetensors(output / "export", part, users, items),
            ]
        )
    rows = torch.from_numpy(item_rows)
    files |= write_fold_in(output / "export", graph, FoldInRows(rows, None, None, {"image": rows}))
    model = make_model(job, graph)
    files |= write_new_items(output / "export", model, feature_maps(job, worker, model))
    training = Manifest("training", "made up", {}, {})
    publish(output / "training", training)
    inputs = export_fingerprint(job, training)
    publish_export(
        job=job,
        inputs=inputs,
        written=files,
        listed={"users": 0, "unknown_users": 0},
        run_tasks=in_this_process,
        length_exponent=1.0,
    )


def _item_rows(centres: np.ndarray, items: int, rng: np.random.Generator) -> np.ndarray:
    """[items, D]: a centre each, noise of 0.7 of its spread, and lengths that spread as popularity does."""
    rows = centres[rng.integers(0, len(centres), items)] + 0.7 * rng.normal(size=(items, WIDTH)).astype(
        np.float32
    )
    return np.asarray(rows * rng.lognormal(0.0, 0.2, (items, 1)), np.float32)


def _user_rows(centres: np.ndarray, users: int, rng: np.random.Generator) -> np.ndarray:
    """[users, D]: the mean of a few centres, and noise."""
    liked = centres[rng.integers(0, len(centres), (users, _TASTES))].mean(1)
    return np.asarray(liked + 0.3 * rng.normal(size=(users, WIDTH)), np.float32)
