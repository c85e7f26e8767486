"""Writes two small data sets in the layout of MMSSL's release, on which its authors' code is quick enough for
a CPU.

    python benchmarks/published_data.py OUT --ml100k FOLDER --tiktok FOLDER

--ml100k is what benchmarks/ml100k.py writes: titles become the modality image, genres the modality text, and
interactions are split 8 : 1 : 1 by user at random. --tiktok is the release's folder: the 1,500 items with
most training interactions, the users who have two or more of them, and the split as it is; image, and audio
under the name of text. The authors' code reads modalities of these two names only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

SPLITS = ("train", "val", "test")
ITEMS = 1500
LEAST_TRAINING = 2
LEAST_TO_SPLIT = 5
"""Users with fewer interactions train with all of them."""
Split = Mapping[str, list[list[int]]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--ml100k", type=Path, required=True)
    parser.add_argument("--tiktok", type=Path, required=True)
    options = parser.parse_args()
    write(options.out / "ml100k", *movielens(options.ml100k))
    write(options.out / "tiktok", *tiktok(options.tiktok))


def movielens(folder: Path) -> tuple[Split, dict[str, np.ndarray]]:
    """Interactions by split and user, and features: all items, also those without interactions."""
    liked = pq.read_table(folder / "interactions.parquet")
    items, features = np.empty(0), {}
    for name, modality in (("text", "image"), ("genre", "text")):
        table = pq.read_table(folder / f"{name}.parquet").sort_by("item_id")
        items = table["item_id"].to_numpy()
        features[modality] = np.stack(table["vector"].to_pylist()).astype(np.float32)
    rows = np.searchsorted(items, liked["item_id"].to_numpy())
    users = np.unique(liked["user_id"].to_numpy(), return_inverse=True)[1]
    generator = np.random.default_rng(0)
    split: dict[str, list[list[int]]] = {name: [] for name in SPLITS}
    for user in range(users.max() + 1):
        own = generator.permutation(np.unique(rows[users == user])).tolist()
        held_out = max(1, len(own) // 10) if len(own) >= LEAST_TO_SPLIT else 0
        split["val"].append(own[:held_out])
        split["test"].append(own[held_out : 2 * held_out])
        split["train"].append(own[2 * held_out :])
    return split, features


def tiktok(folder: Path) -> tuple[Split, dict[str, np.ndarray]]:
    """The same, of the denser part of TikTok."""
    whole = {name: json.loads((folder / f"{name}.json").read_text()) for name in SPLITS}
    counts = Counter(item for items in whole["train"].values() for item in items)
    kept = sorted(sorted(counts, key=lambda item: (-counts[item], item))[:ITEMS])
    row = {item: i for i, item in enumerate(kept)}
    users = [u for u, items in whole["train"].items() if sum(i in row for i in items) >= LEAST_TRAINING]
    split = {
        name: [[row[i] for i in whole[name].get(user, ()) if i in row] for user in users] for name in SPLITS
    }
    features = {
        modality: np.load(folder / f"{name}_feat.npy")[kept].astype(np.float32)
        for name, modality in (("image", "image"), ("audio", "text"))
    }
    return split, features


def write(folder: Path, split: Split, features: Mapping[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        (folder / f"{name}.json").write_text(json.dumps(dict(enumerate(split[name]))))
    for modality, vectors in features.items():
        np.save(folder / f"{modality}_feat.npy", vectors)
    sizes = ", ".join(f"{sum(map(len, split[name]))} {name}" for name in SPLITS)
    items = len(next(iter(features.values())))
    sys.stdout.write(f"{folder}: {len(split['train'])} users, {items} items, interactions: {sizes}\n")


if __name__ == "__main__":
    main()
