"""The training stage: a run on Ray Train that resumes where it was interrupted, and the best checkpoint
published."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from mmssl_dist.cluster.capacity import grows, memory_found
from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.config import Job
from mmssl_dist.errors import ArtifactError
from mmssl_dist.launch.earlier_run import find_earlier_run
from mmssl_dist.launch.fingerprints import content, run_name, training_fingerprint
from mmssl_dist.launch.published_checkpoint import checkpoint_records
from mmssl_dist.launch.run_workers import (
    Checkpoint,
    FormatReport,
    Outcome,
    RunSettings,
    at_path,
    run_workers,
)
from mmssl_dist.launch.worker_entry import train_on_worker
from mmssl_dist.planning.resource_plan import Assumptions, plan_resources, require_room
from mmssl_dist.planning.sizes import sizes_of_partitions
from mmssl_dist.storage import (
    FileRecord,
    Location,
    Manifest,
    RunFolder,
    publish,
)
from mmssl_dist.storage.manifest import MANIFEST
from mmssl_dist.tracking.identity import start_over
from mmssl_dist.tracking.trackers import TrackingCallback
from mmssl_dist.training.improvement import order_key

_logger = logging.getLogger(__name__)

KIND = "training"


def run_training(
    cluster: Cluster, job: Job, partitions: Manifest, format_report: FormatReport | None = None
) -> Manifest:
    """Train, or resume a run of the same fingerprint, and publish its best checkpoint.

    The manifest's facts: checkpoint (folder below the artifact), metric, best (its value there), best_epoch,
    epochs (in all), stopped_early (False where training.epochs ended it), history (one entry per validated
    epoch), machine (see ``machine_facts``, of the first worker) and, where there are any, left_out (users
    who know every item, and their interactions).

    Args:
        format_report: see ``RunSettings``.
    """
    location = RunFolder.of(job).training.location
    name = run_name(job, partitions)
    start = (
        [] if job.training.start_from is None else content(find_earlier_run(job).folder.training.require())
    )
    # Before the workers start: an interrupted run must not leave the old manifest beside new checkpoints.
    (location / MANIFEST).remove()
    run = RunSettings(
        storage=location,
        name=name,
        max_failures=job.training.max_failures,
        keep=job.training.keep_checkpoints,
        metric=job.evaluation.metric,
        every_minutes=job.training.checkpoint_minutes,
        format_report=format_report,
    )
    identify(job, location / name)
    tracking = TrackingCallback(job, name, cluster.relay)
    # Checkpoints of this run's earlier starts count too, so the best may be older than this start.
    outcome = run_workers(cluster, job, train_on_worker, stage="train", run=run, callbacks=[tracking])
    best, files = _best_whole(cluster, outcome, job.evaluation.metric, location)
    summary = outcome.returned[0]
    folder = at_path(location, best.path).path.removeprefix(location.path).strip("/")
    facts = training_facts(job.evaluation.metric, folder, best, summary)
    if job.training.start_from is not None:
        facts["start"] = {"run": job.training.start_from, "content": start, "figures": summary["start"]}
    manifest = Manifest(KIND, training_fingerprint(job, partitions), facts, files)
    # Before publishing, since checkpoints of other settings are never read again and are large.
    _remove_other_runs(location, name)
    publish(location, manifest)
    return manifest


def identify(job: Job, folder: Location) -> None:
    """Let a training without earlier checkpoints in ``folder`` be another run of the trackers."""
    if not folder.files():
        start_over(job, folder.path.rpartition("/")[2])


def training_facts(metric: str, folder: str, best: Checkpoint, summary: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a training's manifest, but for those of a start from an earlier run.

    Args:
        folder: the best checkpoint's, below the artifact.
        summary: what ``train_on_worker`` returned.
    """
    facts = {
        "checkpoint": folder,
        "metric": metric,
        "best": best.metrics[metric],
        "best_epoch": int(best.metrics["epoch"]),
        "epochs": summary["epochs"],
        "stopped_early": summary["stopped_early"],
        "history": summary["history"],
        "machine": summary["machine"],
    }
    # Only where there is something to say: manifests of other trainings stay as they were.
    return facts | ({"left_out": summary["left_out"]} if summary["left_out"]["users"] else {})


def check_memory(job: Job, partitions: Manifest) -> None:
    """Refuse a job that the plan says will not fit; needs a connected Ray.

    Raises:
        InputError: a worker needs more memory than ``scaling.memory_gb``, or than its share of the cluster's.
    """
    plan = plan_resources(job, sizes_of_partitions(partitions), Assumptions())
    if job.scaling.memory_gb is not None:
        require_room(plan, job.scaling.memory_gb * 1e9, "scaling.memory_gb")
    # Where machines are yet to come nothing is known of their memory, and a guess would refuse good jobs.
    elif not grows() and (total := memory_found()):
        require_room(plan, total / job.scaling.fewest, "the memory Ray finds")


def _best_whole(
    cluster: Cluster, outcome: Outcome[Any], metric: str, location: Location
) -> tuple[Checkpoint, dict[str, FileRecord]]:
    """The best kept checkpoint whose files are undamaged, and their records."""
    # In a task, not in the driver: the driver may be far from the storage, and hashing reads everything.
    for checkpoint in _best_first(outcome, metric):
        try:
            return checkpoint, cluster.run_task(
                checkpoint_records, location, at_path(location, checkpoint.path)
            )
        except ArtifactError as error:
            _logger.warning(
                "train: the checkpoint of epoch %d is damaged; trying the next best: %s",
                checkpoint.metrics["epoch"],
                error,
            )
    raise ArtifactError(
        f"{location.url}: training ended without an undamaged checkpoint. Re-run train with --force."
    )


def _best_first(outcome: Outcome[Any], metric: str) -> list[Checkpoint]:
    """The validated checkpoints by falling metric; among equals the earliest first, as early stopping
    counts."""
    # A checkpoint within an epoch has no metrics; -inf stands in, see ``run_workers.retention``.
    validated = [c for c in outcome.checkpoints if c.metrics[metric] > -math.inf]
    return sorted(validated, key=lambda c: -order_key(c.metrics[metric], c.metrics["epoch"]))


def _remove_other_runs(location: Location, name: str) -> None:
    folders = {location.relative(info).split("/")[0] for info in location.files()}
    for other in sorted(folders):
        if other.startswith("run-") and other != name:
            (location / other).remove()
