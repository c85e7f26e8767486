"""The settings that name files and folders by themselves, and not below ``data.path``."""

from __future__ import annotations

import os

from mmssl_dist.config.job import Job


def named_paths(job: Job) -> dict[str, str]:
    """Paths and URLs that ``job`` gives, by the setting's key."""
    given = {
        "data.path": job.data.path,
        "output": job.output,
        "training.start_from": job.training.start_from,
        "export.users": job.export.users,
        "export.table.path": None if job.export.table is None else job.export.table.path,
        # A URI has a colon; anything else is a folder
        "tracking.mlflow": None if ":" in (job.tracking.mlflow or ":") else job.tracking.mlflow,
    }
    for name, modality in job.data.modalities.items():
        if modality.encoder is not None and is_path(modality.encoder):
            given[f"data.modalities.{name}.encoder"] = modality.encoder
    return {key: path for key, path in given.items() if path is not None}


def is_path(encoder: str) -> bool:
    """Whether an encoder's name is a folder or a URL, and not a name of the hub."""
    return "://" in encoder or encoder.startswith(("/", "./", "../", "~")) or os.path.isdir(encoder)
