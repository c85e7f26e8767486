"""Data with planted communities, and jobs that cut it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmssl_dist.config.job import Job
from mmssl_dist.storage import Manifest
from tests.artifacts import write_dataset

USERS, ITEMS, PAIRS = 500, 230, 4000


def write_data(folder: Path) -> Manifest:
    """Four communities; some items lack text, one is cold, and ids are texts of several lengths."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, USERS, PAIRS), rng.integers(0, ITEMS // 4, PAIRS) * 4
    items = np.minimum(
        items + np.where(rng.random(PAIRS) < 0.9, users % 4, rng.integers(0, 4, PAIRS)), ITEMS - 2
    )
    pairs = sorted(set(zip(users.tolist(), items.tolist(), strict=True)))
    centres = rng.normal(size=(4, 37))
    image = (centres[np.arange(ITEMS) % 4] + rng.normal(size=(ITEMS, 37))).astype(np.float32)
    having = [item for item in range(ITEMS) if item % 7]
    return write_dataset(
        path=folder,
        train=pairs[30:],
        validation=pairs[:20],
        test=pairs[20:30],
        features={
            "image": (list(range(ITEMS)), image),
            "text": (having, image[having, :5].astype(np.float16)),
        },
        users=[f"user {'x' * (user % 9)}{user}" for user in range(USERS)],
        items=list(range(7000, 7000 + ITEMS)),
        shards=3,
    )


def job_of(folder: Path, settings: Mapping[str, Any]) -> Job:
    modality = {"file": "image.npy"}
    return Job.model_validate(
        {
            "output": str(folder),
            "data": {"path": str(folder / "raw"), "modalities": {"image": modality, "text": modality}},
            "partition": settings,
        }
    )
