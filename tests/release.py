"""Planted data in the layout of MMSSL's release: communities that interactions follow and features reveal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_COMMUNITIES = 12
_WITHIN = 0.85  # share of a user's interactions within the own community
_WIDTHS = {"image": 32, "audio": 16}
_FILES = {"train": "train.json", "validation": "val.json", "test": "test.json"}


@dataclass(frozen=True)
class Release:
    """What was written.

    Attributes:
        pairs: by split, (user, item) in order.
        features: by modality, float16 [items, F]; row i is item i's.
    """

    users: int
    items: int
    pairs: dict[str, list[tuple[int, int]]]
    features: dict[str, np.ndarray]


def write_release(folder: Path, *, users: int, items: int, seed: int) -> Release:
    """Write ``train.json``, ``val.json``, ``test.json``, ``image_feat.npy`` and ``audio_feat.npy``.

    User and item n are in community n modulo 12; each user has 8 items, of which one is for validation and
    two for the test.
    """
    generator = np.random.default_rng(seed)
    communities = [np.arange(c, items, _COMMUNITIES) for c in range(_COMMUNITIES)]
    pairs: dict[str, list[tuple[int, int]]] = {split: [] for split in _FILES}
    for user in range(users):
        chosen: dict[int, None] = {}
        while len(chosen) < 8:
            own = generator.random() < _WITHIN
            pool = communities[user % _COMMUNITIES] if own else np.arange(items)
            chosen[int(generator.choice(pool))] = None
        for position, item in enumerate(chosen):
            split = "validation" if position == 5 else "test" if position > 5 else "train"
            pairs[split].append((user, item))
    features = {}
    for modality, width in _WIDTHS.items():
        centres = generator.normal(size=(_COMMUNITIES, width))
        rows = centres[np.arange(items) % _COMMUNITIES] + 0.5 * generator.normal(size=(items, width))
        features[modality] = rows.astype(np.float16)
        np.save(folder / f"{modality}_feat.npy", features[modality])
    for split, name in _FILES.items():
        lists: dict[str, list[int]] = {}
        for user, item in pairs[split]:
            lists.setdefault(str(user), []).append(item)
        (folder / name).write_text(json.dumps(lists))
    return Release(users, items, pairs, features)
