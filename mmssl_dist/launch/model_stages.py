"""The stages that use a trained model: evaluation publishes metrics, export publishes Parquet."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mmssl_dist.config import Job
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.export.index import build_index
from mmssl_dist.launch.fingerprints import evaluation_fingerprint, export_fingerprint
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.run_workers import RunSettings, run_workers
from mmssl_dist.launch.train_stage import checkpoint_of
from mmssl_dist.launch.worker_entry import evaluate_on_worker, export_on_worker
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder, begin, publish
from mmssl_dist.storage.export_names import INDEX
from mmssl_dist.training.session import Session

METRICS = "metrics.json"


def run_evaluation(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    """Publish metrics of the published checkpoint: ``evaluation/metrics.json``, also the facts of the
    manifest.

    The workers write those of each user beside it.
    """
    location = RunFolder.of(job).evaluation.location
    begin(location)
    returned = _on_workers(cluster, job, evaluate_on_worker, "evaluate", training)
    metrics = returned[0]["metrics"]
    files = _files(worker["files"] for worker in returned)
    files[METRICS] = (location / METRICS).write_bytes(json.dumps(metrics, indent=1).encode())
    manifest = Manifest("evaluation", evaluation_fingerprint(job, training), metrics, files)
    publish(location, manifest)
    return manifest


def run_export(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    """Publish rows and lists of the published checkpoint, written by the workers, and the index, by one
    task."""
    begin(RunFolder.of(job).export.location)
    returned = _on_workers(cluster, job, export_on_worker, "export", training)
    manifest: Manifest = cluster.connect().run_task(publish_export, job, training, _files(returned))
    return manifest


def publish_export(job: Job, training: Manifest, written: Mapping[str, FileRecord]) -> Manifest:
    """Publish the files that the workers have ``written``, by name below export/, and the index of the
    items."""
    folder = RunFolder.of(job)
    location = folder.export.location
    record, index = build_index(location, written, job.export.index)
    files = {**written, INDEX: record}
    partitions = folder.partitions.require()
    book = partitions.facts["book"]
    facts = {
        "users": sum(book["users"]),
        "items": sum(book["items"]),
        "k": job.export.k,
        "bytes": sum(record.bytes for record in files.values()),
        "index": index,
        "partitions": partitions.fingerprint,
        "dimension": job.model.dimension,
        "fold_in": {
            "modality_weight": job.model.modality_weight,
            "similar_weight": job.model.item_graph.weight,
            "feature_columns": job.model.feature_columns,
        },
    }
    manifest = Manifest("export", export_fingerprint(job, training), facts, files)
    publish(location, manifest)
    return manifest


def _files(returned: Iterable[Mapping[str, Any]]) -> dict[str, FileRecord]:
    """The files of all workers, from the records that each returned."""
    return {name: FileRecord(**record) for records in returned for name, record in records.items()}


def _on_workers(
    cluster: LazyCluster,
    job: Job,
    function: Callable[[Job, Worker, Location, Manifest], dict[str, Any]],
    stage: str,
    training: Manifest,
) -> tuple[dict[str, Any], ...]:
    """What ``function`` returned on each worker, by rank."""
    checkpoint, manifest = checkpoint_of(job, training)
    output = RunFolder.of(job).root
    # nothing of such a run is resumed, but Ray Train wants a folder that all machines see
    run = RunSettings(
        storage=output,
        name=f".{stage}-{uuid.uuid4().hex[:12]}",
        max_failures=job.training.max_failures,
    )
    work = partial(_without_session, function=function, checkpoint=checkpoint, training=manifest)
    try:
        return run_workers(cluster.connect(), job, work, stage=stage, run=run).returned
    finally:
        (output / run.name).remove()


def _without_session(
    job: Job,
    worker: Worker,
    session: Session,
    function: Callable[[Job, Worker, Location, Manifest], dict[str, Any]],
    checkpoint: Location,
    training: Manifest,
) -> dict[str, Any]:
    return function(job, worker, checkpoint, training)
