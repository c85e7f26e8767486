"""Small valid jobs to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.config import Job, parse_job


def make_job(*overrides: str, **sections: Any) -> Job:
    """A job with one modality; ``overrides`` as ``--set`` takes them."""
    tree = {
        "output": "runs/x",
        "data": {"path": "raw", "modalities": {"image": {"file": "image.npy"}}},
        **sections,
    }
    return parse_job(tree, overrides)


def job_on(folder: Path, data: Mapping[str, Any], *overrides: str, output: str = "out") -> Job:
    """A job in ``folder``, which has the raw files unless ``data``, the section, names another place."""
    section = {"path": str(folder), **data}
    return make_job(*overrides, output=str(folder / output), data=section)
