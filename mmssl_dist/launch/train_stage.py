"""The training stage: a run on Ray Train that goes on where it was interrupted, and the best checkpoint
published."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmssl_dist.cluster.capacity import grows, memory_found
from mmssl_dist.cluster.connection import Cluster
from mmssl_dist.config import Job
from mmssl_dist.errors import ArtifactError
from mmssl_dist.launch.fingerprints import run_name, training_fingerprint
from mmssl_dist.launch.run_workers import Checkpoint, Line, Outcome, Run, at_path, run_workers
from mmssl_dist.planning.plan import Terms, make_plan, require_room
from mmssl_dist.planning.sizes import sizes_of_partitions
from mmssl_dist.storage import (
    FileRecord,
    Location,
    Manifest,
    open_location,
    publish,
    require_intact,
    require_manifest,
    require_whole,
)
from mmssl_dist.storage.manifest import MANIFEST
from mmssl_dist.tracking.trackers import Tracking
from mmssl_dist.training.improvement import order_key

_logger = logging.getLogger(__name__)

KIND = "training"


def train(cluster: Cluster, job: Job, partitions: Manifest, line: Line | None = None) -> Manifest:
    """Train, or go on with a run of the same fingerprint, and publish its best checkpoint.

    The manifest's facts: checkpoint (folder below the artifact), metric, best (its value there), best_epoch,
    epochs (in all), stopped_early (False where training.epochs ended it) and history (one entry per
    validated epoch).

    Args:
        line: see ``Run``.
    """
    location = open_location(job.output, job.storage) / "training"
    name = run_name(job, partitions)
    (location / MANIFEST).remove()
    settings = job.training
    run = Run(
        location,
        name,
        settings.max_failures,
        settings.keep_checkpoints,
        job.evaluation.metric,
        settings.checkpoint_minutes,
        line,
    )
    outcome = run_workers(
        cluster,
        job,
        "train",
        "mmssl_dist.launch.worker_entry:train",
        {},
        run,
        [Tracking(job, name, cluster.relay)],
    )
    best, files = _best_whole(cluster, outcome, job.evaluation.metric, location)
    summary: Mapping[str, Any] = outcome.returned[0]
    facts = {
        "checkpoint": at_path(location, best.path).path.removeprefix(location.path).strip("/"),
        "metric": job.evaluation.metric,
        "best": best.metrics[job.evaluation.metric],
        "best_epoch": int(best.metrics["epoch"]),
        "epochs": summary["epochs"],
        "stopped_early": summary["stopped_early"],
        "history": summary["history"],
    }
    manifest = Manifest(KIND, training_fingerprint(job, partitions), facts, files)
    _remove_other_runs(location, name)
    publish(location, manifest)
    return manifest


def check_room(job: Job, partitions: Manifest) -> None:
    """Refuse a job that the plan says will not fit; Ray has been connected to.

    Raises:
        InputError: a worker needs more memory than ``scaling.memory_gb``, or than its share of what Ray
            finds.
    """
    plan = make_plan(job, sizes_of_partitions(partitions), Terms())
    if job.scaling.memory_gb is not None:
        require_room(plan, job.scaling.memory_gb * 1e9, "scaling.memory_gb")
    elif not grows() and (found := memory_found()):
        require_room(plan, found / job.scaling.fewest, "the memory Ray finds")


def checkpoint_of(job: Job, training: Manifest) -> tuple[Location, Manifest]:
    """The published checkpoint's folder, and the manifest with its files named as they are in that folder."""
    name = training.facts["checkpoint"]
    location = open_location(job.output, job.storage) / "training" / name
    files = {path.removeprefix(f"{name}/"): record for path, record in training.files.items()}
    return location, replace(training, files=files)


def checkpoint_records(artifact: Location, folder: Location) -> dict[str, FileRecord]:
    """Record of every file of the checkpoint in ``folder``, by its path below ``artifact``.

    Raises:
        ArtifactError: a file is gone, or is not what its manifest says.
    """
    manifest = require_manifest(folder, "checkpoint", "train")
    require_whole(folder, manifest)
    require_intact(folder, manifest)
    records = {**manifest.files, MANIFEST: (folder / MANIFEST).record()}
    prefix = folder.path.removeprefix(artifact.path).strip("/")
    return {f"{prefix}/{name}": record for name, record in records.items()}


def _best_whole(
    cluster: Cluster, outcome: Outcome, metric: str, location: Location
) -> tuple[Checkpoint, dict[str, FileRecord]]:
    """The best kept checkpoint whose files are what was written, and their records."""
    for checkpoint in _best_first(outcome, metric):
        try:
            return checkpoint, cluster.run_task(
                checkpoint_records, location, at_path(location, checkpoint.path)
            )
        except ArtifactError as error:
            _logger.warning(
                "train: the checkpoint of epoch %d is damaged, the next best is published: %s",
                checkpoint.metrics["epoch"],
                error,
            )
    raise ArtifactError(
        f"{location.url}: training ended without a whole checkpoint. Run it again with --force."
    )


def _best_first(outcome: Outcome, metric: str) -> list[Checkpoint]:
    """The validated checkpoints, those with the largest metric first; of equal ones the earliest, as early
    stopping counts."""
    validated = [c for c in outcome.checkpoints if c.metrics[metric] > -math.inf]
    return sorted(validated, key=lambda c: -order_key(c.metrics[metric], c.metrics["epoch"]))


def _remove_other_runs(location: Location, name: str) -> None:
    folders = {location.relative(info).split("/")[0] for info in location.files()}
    for other in sorted(folders):
        if other.startswith("run-") and other != name:
            (location / other).remove()
