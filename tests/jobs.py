"""A small valid job to start from."""

from __future__ import annotations

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
