"""Fingerprints of what the workers publish: which settings and inputs make a training, its metrics, its
export."""

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

    W is not in it, so a resume may have another.
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
    """Name of the run's folder: equal for equal trainings, so that one finds what an earlier start left."""
    return f"run-{training_fingerprint(job, partitions)[:12]}"


def evaluation_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal metrics: the checkpoint's content, the cut-offs, and who is ranked for."""
    return fingerprint(
        "evaluation", _EVALUATION_FORMAT, _content(training), job.evaluation.model_dump(include=_RANKING)
    )


def export_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal exports: the checkpoint's content and what is made of it."""
    return fingerprint("export", _EXPORT_FORMAT, _content(training), job.export.model_dump())


def _content(training: Manifest) -> list[str]:
    return [
        training.fingerprint,
        *(f"{name} {record.sha256}" for name, record in sorted(training.files.items())),
    ]
