"""A small dataset with everything that can go wrong in it, and its partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmssl_dist.config.job import Job
from mmssl_dist.storage import Manifest
from tests.artifacts import write_dataset
from tests.jobs import make_job

USERS, ITEMS = 40, 25
COLD_ITEM = 24  # has features, but no training interaction
COLD_USER = 39  # has held-out items only
WITHOUT_TEXT = (3, 24)


def training_pairs() -> list[tuple[int, int]]:
    """Two communities with some crossing, of uneven degrees."""
    generator = np.random.default_rng(5)
    pairs = {(u, (u * 7 + k) % 12 + 12 * (u % 2)) for u in range(USERS - 1) for k in range(1 + u % 5)}
    crossing = generator.integers(0, [USERS - 1, ITEMS - 1], (20, 2)).tolist()
    return sorted(pairs | {(user, item) for user, item in crossing})


def features() -> dict[str, tuple[list[int], np.ndarray]]:
    """image: float32, every item, its own number in column 0; text: float16, two items lack it."""
    generator = np.random.default_rng(6)
    image = generator.normal(size=(ITEMS, 5)).astype(np.float32)
    image[:, 0] = np.arange(ITEMS)
    having = [i for i in range(ITEMS) if i not in WITHOUT_TEXT]
    return {
        "image": (list(range(ITEMS)), image),
        "text": (having, generator.normal(3.0, 2.0, size=(len(having), 40)).astype(np.float16)),
    }


HELD_OUT = {"validation": [(0, 5), (0, 2), (7, 24), (39, 1)], "test": [(39, 24), (39, 0), (12, 20)]}


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    return write_dataset(
        path=tmp_path / "dataset",
        train=training_pairs(),
        validation=HELD_OUT["validation"],
        test=HELD_OUT["test"],
        features=features(),
        users=[f"user/{u}" for u in range(USERS)],
        items=[9000 + i for i in range(ITEMS)],
    )


@pytest.fixture
def partition_job(tmp_path: Path) -> Callable[..., Job]:
    """Makes jobs by their seed and settings of the section ``partition``."""

    def make(*, seed: int = 0, **settings: object) -> Job:
        return make_job(output=str(tmp_path), seed=seed, partition=settings)

    return make
