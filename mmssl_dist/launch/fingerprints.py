"""Fingerprints of what the workers publish: the settings and inputs that determine a training, its metrics
and its export."""

from __future__ import annotations

from mmssl_dist.config import Job
from mmssl_dist.config.candidates import NEUTRAL_TRAINING
from mmssl_dist.storage import Manifest, fingerprint

_FORMAT = 1
_EXPORT_FORMAT = 4  # since 4: whether items have feature columns
_EVALUATION_FORMAT = 3  # since 3: contributions of the modalities
_STOPPING = {"metric", "every_epochs", "patience", "ks", "users"}
_RANKING = {"ks", "users", "contributions"}


def training_fingerprint(job: Job, partitions: Manifest) -> str:
    """Equal for equal trainings: partitions, model, losses, loop, early stopping, seed and this version's
    format.

    W is left out, so a training may resume with another number of workers.
    """
    return fingerprint(
        "training",
        _FORMAT,
        partitions.fingerprint,
        job.model.model_dump(exclude={"name"}),
        job.losses.model_dump(),
        job.training.model_dump(exclude=set(NEUTRAL_TRAINING)),
        job.evaluation.model_dump(include=_STOPPING),
        job.seed,
    )


def run_name(job: Job, partitions: Manifest) -> str:
    """Name of the run's folder: equal for equal trainings, so that a training resumes its earlier start."""
    return f"run-{training_fingerprint(job, partitions)[:12]}"


def evaluation_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal metrics: the checkpoint's content, the cut-offs, and the users ranked for."""
    return fingerprint(
        "evaluation", _EVALUATION_FORMAT, _content(training), job.evaluation.model_dump(include=_RANKING)
    )


def export_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal exports: the checkpoint's content and the export settings."""
    return fingerprint("export", _EXPORT_FORMAT, _content(training), job.export.model_dump())


def _content(training: Manifest) -> list[str]:
    return [
        training.fingerprint,
        *(f"{name} {record.sha256}" for name, record in sorted(training.files.items())),
    ]
