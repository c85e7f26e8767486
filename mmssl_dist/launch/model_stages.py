"""The stages that use a trained model: evaluation publishes metrics, export publishes Parquet."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.config import Job
from mmssl_dist.export.index import build_index
from mmssl_dist.launch.fingerprints import evaluation_fingerprint, export_fingerprint
from mmssl_dist.launch.run_workers import Run, run_workers
from mmssl_dist.launch.train_stage import checkpoint_of
from mmssl_dist.storage import FileRecord, Manifest, begin, open_location, publish, require_manifest
from mmssl_dist.storage.export_names import INDEX

METRICS = "metrics.json"


def evaluate(cluster: Cluster, job: Job, training: Manifest) -> Manifest:
    """Metrics of the published checkpoint: ``evaluation/metrics.json``, also the facts of the manifest.

    Beside it those of each user, written by the workers.
    """
    location = open_location(job.output, job.storage) / "evaluation"
    begin(location)
    returned = _on_workers(cluster, job, "evaluate", training)
    metrics = returned[0]["metrics"]
    files = _files(worker["files"] for worker in returned)
    files[METRICS] = (location / METRICS).write_bytes(json.dumps(metrics, indent=1).encode())
    manifest = Manifest("evaluation", evaluation_fingerprint(job, training), metrics, files)
    publish(location, manifest)
    return manifest


def export(cluster: Cluster, job: Job, training: Manifest) -> Manifest:
    """Rows and lists of the published checkpoint, written by the workers, and the index, by one task."""
    begin(open_location(job.output, job.storage) / "export")
    returned = _on_workers(cluster, job, "export", training)
    manifest: Manifest = cluster.run_task(publish_export, job, training, _files(returned))
    return manifest


def publish_export(job: Job, training: Manifest, written: Mapping[str, FileRecord]) -> Manifest:
    """Publish what the workers have ``written``, by name below export/, and the index of their items."""
    output = open_location(job.output, job.storage)
    location = output / "export"
    record, index = build_index(location, written, job.export.index)
    files = {**written, INDEX: record}
    partitions = require_manifest(output / "partitions", "partitions", "partition")
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


def _on_workers(cluster: Cluster, job: Job, stage: str, training: Manifest) -> tuple[Any, ...]:
    """What ``launch.worker_entry`` returned for ``stage`` on each worker, by rank."""
    checkpoint, manifest = checkpoint_of(job, training)
    output = open_location(job.output, job.storage)
    # Nothing of such a run is resumed, but Ray Train wants a place that all machines see
    run = Run(output, f".{stage}-{uuid.uuid4().hex[:12]}", job.training.max_failures)
    try:
        payload = {"checkpoint": checkpoint, "training": manifest}
        return run_workers(
            cluster, job, stage, f"mmssl_dist.launch.worker_entry:{stage}", payload, run
        ).returned
    finally:
        (output / run.name).remove()
