"""The training stage: a run on Ray Train that goes on where it was interrupted, and the best checkpoint published."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmssl_dist.config import Job
from mmssl_dist.errors import ArtifactError
from mmssl_dist.launch.cluster import Cluster
from mmssl_dist.launch.fingerprints import run_name, training_fingerprint
from mmssl_dist.launch.train import Checkpoint, Lines, Outcome, Run, at_path, run_workers
from mmssl_dist.storage import FileRecord, Location, Manifest, open_location, publish
from mmssl_dist.storage.manifest import MANIFEST

KIND = "training"
_CHUNK = 1 << 24


def train(cluster: Cluster, job: Job, partitions: Manifest, lines: Lines | None = None) -> Manifest:
    """Train, or go on with a run of the same fingerprint, and publish its best checkpoint.

    The manifest's facts: checkpoint (folder below the artifact), metric, best (its value there), best_epoch, epochs
    (in all) and history (one entry per validated epoch).

    Args:
        lines: see ``Run``.
    """
    location = open_location(job.output, job.storage) / "training"
    name = run_name(job, partitions)
    (location / MANIFEST).remove()
    run = Run(location, name, job.training.max_failures, job.training.keep_checkpoints, job.evaluation.metric, lines)
    outcome = run_workers(cluster, job, "train", "mmssl_dist.launch.entry:train", {}, run)
    best = _best(outcome, job.evaluation.metric, location)
    files = cluster.run_task(file_records, location, at_path(location, best.path))
    summary: Mapping[str, Any] = outcome.returned[0]
    facts = {
        "checkpoint": at_path(location, best.path).path.removeprefix(location.path).strip("/"),
        "metric": job.evaluation.metric, "best": best.metrics[job.evaluation.metric],
        "best_epoch": int(best.metrics["epoch"]), "epochs": summary["epochs"], "history": summary["history"],
    }  # fmt: skip
    manifest = Manifest(KIND, training_fingerprint(job, partitions), facts, files)
    _remove_other_runs(location, name)
    publish(location, manifest)
    return manifest


def checkpoint_of(job: Job, training: Manifest) -> tuple[Location, Manifest]:
    """The published checkpoint's folder, and the manifest with its files named as they are in that folder."""
    name = training.facts["checkpoint"]
    location = open_location(job.output, job.storage) / "training" / name
    files = {path.removeprefix(f"{name}/"): record for path, record in training.files.items()}
    return location, replace(training, files=files)


def file_records(artifact: Location, folder: Location) -> dict[str, FileRecord]:
    """Record of every file below ``folder``, by its path below ``artifact``; reads each file once, in pieces."""
    records = {}
    for info in folder.files():
        digest = hashlib.sha256()
        with artifact.filesystem.open_input_stream(info.path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        records[artifact.relative(info)] = FileRecord(info.size, digest.hexdigest())
    return records


def _best(outcome: Outcome, metric: str, location: Location) -> Checkpoint:
    """The kept checkpoint with the largest metric; of equal ones the earliest, as early stopping counts."""
    if not outcome.checkpoints:
        raise ArtifactError(f"{location.url}: training ended without a checkpoint. Run it again with --force.")
    return max(outcome.checkpoints, key=lambda c: (c.metrics[metric], -c.metrics["epoch"]))


def _remove_other_runs(location: Location, name: str) -> None:
    folders = {location.relative(info).split("/")[0] for info in location.files()}
    for other in sorted(folders):
        if other.startswith("run-") and other != name:
            (location / other).remove()
