"""A small published run, with an untrained model, exported in this process: no Ray, two seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
import yaml

from mmssl_dist.config import Job
from mmssl_dist.evaluation.item_lengths import rows_to_rank
from mmssl_dist.evaluation.propagation import ExactRows
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.export.export import export_partitions
from mmssl_dist.export.fold_in import fold_in_rows, write_fold_in
from mmssl_dist.export.new_item_weights import write_new_items
from mmssl_dist.graph.partition_files import load_features, load_ids
from mmssl_dist.launch.export_task import publish_export
from mmssl_dist.launch.fingerprints import export_fingerprint
from mmssl_dist.launch.worker_data import feature_maps, load_local_graph
from mmssl_dist.sharding.partitions import LocalGraph
from mmssl_dist.storage import Manifest, open_location, publish, require_manifest
from mmssl_dist.training.state import initial_rows, make_model
from tests.jobs import training_job
from tests.tasks import in_this_process
from tests.training import ITEMS, USERS, publish_graph


@dataclass(frozen=True)
class Exported:
    """What was exported, and what it was made from."""

    job: Job
    graph: LocalGraph
    id_rows: torch.Tensor
    exact: ExactRows


def export_run(job: Job) -> Exported:
    """Export a model with initial weights and rows on the partitions that ``job`` has published."""
    worker = Worker(
        rank=0, world_size=1, device=torch.device("cpu"), cache=Path(job.output) / "cache", group=None
    )
    graph = load_local_graph(job, worker)
    exchange = graph.exchange(worker)
    model, id_rows = make_model(job, graph), initial_rows(job, graph)
    untrained = Trained(model=model, id_rows=id_rows, graph=graph, views={}, exchange=exchange)
    trained, exact = rows_to_rank(job.evaluation, untrained)
    output = open_location(job.output, job.storage)
    partitions = require_manifest(output / "partitions", "partitions", "partition")
    source = output / "partitions"
    ids = [load_ids(source, partitions, part, worker.cache) for part in graph.parts]
    features = {
        m: [
            load_features(location=source, manifest=partitions, part=part, modality=m, cache=worker.cache)
            for part in graph.parts
        ]
        for m in model.modalities
    }
    written = export_partitions(
        job=job, graph=graph, rows=exact.final, ids=ids, exchange=exchange, location=output / "export"
    )
    files = written.files | write_fold_in(
        output / "export", graph, fold_in_rows(model, exact, graph, features)
    )
    files |= write_new_items(output / "export", model, feature_maps(job, worker, model))
    training = Manifest("training", "made by a test", {}, {})
    publish(output / "training", training)
    listed = {"users": written.users, "unknown_users": max(0, written.named - written.users)}
    inputs = export_fingerprint(job, training)
    publish_export(
        job=job,
        inputs=inputs,
        written=files,
        listed=listed,
        run_tasks=in_this_process,
        length_exponent=trained.length_exponent,
    )
    return Exported(job, graph, id_rows, exact)


def publish_run(output: Path, *sets: str) -> Exported:
    """A run whose users are texts and whose items are numbers, from raw pairs to the export."""
    job = training_job(
        output,
        2,
        1,
        "model.modality_graph.size=0",
        "losses.contrastive.weight=0",
        "partition.method=random",
        *sets,
    )  # METIS takes longer than all the rest
    publish_graph(
        job, users=[f"u{user}" for user in range(USERS)], items=[100 + item for item in range(ITEMS)]
    )
    return export_run(job)


def write_uploads(job: Job) -> None:
    """The files that the end of a run uploads."""
    (Path(job.output) / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    (Path(job.output) / "report.html").write_text("report")


def dataset_items(output: Path, split: str) -> dict[str, set[int]]:
    """Items of each user, from the dataset itself."""
    tables = {side: pq.read_table(output / f"dataset/{side}s").to_pydict() for side in ("user", "item")}
    users, items = (dict(zip(t[side], t[f"{side}_id"], strict=True)) for side, t in tables.items())
    result: dict[str, set[int]] = {user: set() for user in users.values()}
    pairs = pq.read_table(output / f"dataset/interactions/{split}").to_pydict()
    for user, item in zip(pairs["user"], pairs["item"], strict=True):
        result[users[user]].add(items[item])
    return result


def run_with(exported: Exported, output: Path, folder: Path, data: dict[str, object]) -> Path:
    """The exported run in ``folder``, with a job that has these settings of ``data``."""
    copy = folder / "run"
    copy.mkdir()
    for part in ("export", "partitions"):
        (copy / part).symlink_to(output / part)
    job = exported.job.model_copy(update={"data": exported.job.data.model_copy(update=data)})
    (copy / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    return copy
