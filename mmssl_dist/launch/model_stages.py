"""The stages that use a trained model: evaluation publishes metrics, export publishes Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mmssl_dist.config import Job
from mmssl_dist.data.columns import HELD_OUT_DIGEST
from mmssl_dist.launch.export_task import publish_export
from mmssl_dist.launch.fingerprints import evaluation_fingerprint, export_fingerprint
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.published_checkpoint import checkpoint_of
from mmssl_dist.storage import FileRecord, Location, Manifest, RunFolder, begin, publish

if TYPE_CHECKING:
    from mmssl_dist.exchange.worker import Worker

METRICS_FILE = "metrics.json"
LENGTH_EXPONENT = "length_exponent"


def run_evaluation(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    """Publish metrics of the published checkpoint: ``evaluation/metrics.json``, and the workers write those
    of each user beside it.

    The manifest's facts are the metrics, the exponent of item lengths, and the digest of the held-out items
    that they are of: dataset/ may hold another split by the time that somebody compares the run.
    """
    location = RunFolder.of(job).evaluation.location
    # Before the workers are asked for: from here on the old metrics do not look current, however this ends.
    begin(location)
    workers = cluster.workers(job, "evaluate")
    checkpoint, manifest = checkpoint_of(RunFolder.of(job), training)
    function = partial(_evaluate, checkpoint=checkpoint, training=manifest)
    returned = workers.run(function, stage="evaluate")
    # Sums over all workers, so the same on each of them.
    metrics = returned[0]["metrics"]
    files = _files(worker["files"] for worker in returned)
    files[METRICS_FILE] = (location / METRICS_FILE).write_bytes(json.dumps(metrics, indent=1).encode())
    dataset = RunFolder.of(job).dataset.require()  # the one behind ``training``: the pipeline has checked it
    facts = {
        **metrics,
        LENGTH_EXPONENT: returned[0][LENGTH_EXPONENT],
        HELD_OUT_DIGEST: dataset.facts.get(HELD_OUT_DIGEST),
    }
    published = Manifest("evaluation", evaluation_fingerprint(job, training), facts, files)
    publish(location, published)
    return published


def run_export(cluster: LazyCluster, job: Job, training: Manifest) -> Manifest:
    """Publish rows and lists of the published checkpoint, written by the workers; the index, by one task; and
    lists made through it, by a task for each partition."""
    # Before the file of users is read: what changes in it from here on makes another export.
    inputs = export_fingerprint(job, training)
    begin(RunFolder.of(job).export.location)
    # The same processes as in evaluate, where it has just run: they have torch and the files of the graph.
    workers = cluster.workers(job, "export")
    checkpoint, manifest = checkpoint_of(RunFolder.of(job), training)
    function = partial(
        _export, checkpoint=checkpoint, training=manifest, exponent=_evaluated_exponent(job, training)
    )
    returned = workers.run(function, stage="export")
    cluster.release_workers()  # the index needs memory for all items, and one of their CPUs
    files = _files(worker["files"] for worker in returned)
    users, named = sum(worker["users"] for worker in returned), returned[0]["named"]
    listed = {"users": users, "unknown_users": named - users if named else 0}
    exponent = returned[0][LENGTH_EXPONENT]
    return publish_export(
        job=job,
        inputs=inputs,
        written=files,
        listed=listed,
        run_tasks=cluster.run_tasks,
        length_exponent=exponent,
    )


def _evaluated_exponent(job: Job, training: Manifest) -> float | None:
    """The exponent of item lengths that the published metrics are of; None where they are of another model or
    by other settings, or not there."""
    evaluation = RunFolder.of(job).evaluation.read()
    if evaluation is None or evaluation.fingerprint != evaluation_fingerprint(job, training):
        return None
    return float(evaluation.facts[LENGTH_EXPONENT])


def _evaluate(job: Job, worker: Worker, checkpoint: Location, training: Manifest) -> dict[str, Any]:
    """``evaluate_on_worker``, whose module imports torch: in the worker, not in the driver."""
    from mmssl_dist.launch.worker_entry import evaluate_on_worker

    return evaluate_on_worker(job, worker, checkpoint, training)


def _export(
    job: Job, worker: Worker, checkpoint: Location, training: Manifest, exponent: float | None
) -> dict[str, Any]:
    """``export_on_worker``, in the same way."""
    from mmssl_dist.launch.worker_entry import export_on_worker

    return export_on_worker(
        job=job, worker=worker, checkpoint=checkpoint, training=training, exponent=exponent
    )


def _files(returned: Iterable[Mapping[str, Any]]) -> dict[str, FileRecord]:
    """The files of all workers, from the records that each returned."""
    return {name: FileRecord(**record) for records in returned for name, record in records.items()}
