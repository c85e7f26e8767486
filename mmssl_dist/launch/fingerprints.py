"""Fingerprints of what the workers publish: the settings and inputs that determine a training, its metrics
and its export."""

from __future__ import annotations

from mmssl_dist.config import Job
from mmssl_dist.config.candidates import NEUTRAL_TRAINING
from mmssl_dist.storage import Manifest, RunFolder, fingerprint, open_location

# Increased when the same settings and inputs give another artifact; older ones are then made again.
_FORMAT = 1
_EXPORT_FORMAT = 6  # since 6: the exponent of item lengths
_EVALUATION_FORMAT = 5  # since 5: each split draws its own users
_STOPPING = {"metric", "every_epochs", "patience", "ks", "users"}
_LENGTHS = {"length_exponent", "metric", "users"}  # what the exponent depends on
_RANKING = {"ks", "contributions", *_LENGTHS}


def training_fingerprint(job: Job, partitions: Manifest) -> str:
    """Equal for equal trainings: partitions, model, losses, loop, early stopping, seed and this version's
    format.

    W is left out, so a training may resume with another number of workers.
    """
    # Nothing at all for jobs without, so that the fingerprints of trainings made before the setting stay.
    start = () if job.training.start_from is None else (_start_of(job),)
    # "auto" is chosen after training, which validates with 1.
    exponent = job.evaluation.length_exponent
    validated = () if exponent in ("auto", 1.0) else (("length_exponent", exponent),)
    by_user = job.training.user_exponent
    pairs = () if by_user == 1.0 else (("user_exponent", by_user),)
    return fingerprint(
        "training",
        _FORMAT,
        partitions.fingerprint,
        # The name is a preset that the other fields already spell out.
        job.model.model_dump(exclude={"name"}),
        job.losses.model_dump(),
        job.training.model_dump(exclude={*NEUTRAL_TRAINING, "start_from", "user_exponent"}),
        job.evaluation.model_dump(include=_STOPPING),
        job.seed,
        *start,
        *validated,
        *pairs,
    )


def _start_of(job: Job) -> list[str]:
    """The content of the training that this one starts from; what it was, once that run has been removed."""
    assert job.training.start_from is not None
    earlier = RunFolder.at(job.training.start_from, job.storage).training.read()
    if earlier is not None:
        return content(earlier)
    # The earlier run may be deleted after this one was trained; its content then comes from our manifest.
    own = RunFolder.of(job).training.read()
    start = {} if own is None else own.facts.get("start", {})
    return list(start.get("content", [])) if start.get("run") == job.training.start_from else []


def run_name(job: Job, partitions: Manifest) -> str:
    """Name of the run's folder: equal for equal trainings, so that a training resumes its earlier start."""
    # Twelve digits, 48 bits: enough to tell the runs below one output apart, and short in listings.
    return f"run-{training_fingerprint(job, partitions)[:12]}"


def evaluation_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal metrics: the checkpoint's content, the cut-offs, the users ranked for, and what the
    exponent of item lengths is chosen by."""
    return fingerprint(
        "evaluation", _EVALUATION_FORMAT, content(training), job.evaluation.model_dump(include=_RANKING)
    )


def export_fingerprint(job: Job, training: Manifest) -> str:
    """Equal for equal exports: the checkpoint's content, the export settings, what the exponent of item
    lengths is chosen by, and the file of users."""
    unlisted = {"table"}  # which is written from the lists, whenever they were made
    if job.export.exclude == "training":
        unlisted.add("exclude")  # exports made before the setting have such lists, and stay
    return fingerprint(
        "export",
        _EXPORT_FORMAT,
        content(training),
        job.export.model_dump(exclude=unlisted),
        job.evaluation.model_dump(include=_LENGTHS),
        *_users_content(job),
    )


def _users_content(job: Job) -> tuple[object, ...]:
    """Size and time of the file that ``export.users`` names; nothing without one or where it has gone."""
    if job.export.users is None:
        return ()
    info = open_location(job.export.users, job.storage).info()
    return (info.size, info.mtime_ns) if info.is_file else ()


def content(training: Manifest) -> list[str]:
    """What identifies a published training: its settings, and the hashes of its files."""
    return [
        training.fingerprint,
        *(f"{name} {record.sha256}" for name, record in sorted(training.files.items())),
    ]
