"""Small valid jobs to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmssl_dist.config import Job, parse_job

ITEM_GRAPH = 0.7  # weight of the item-item graph in ``training_job``


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


def raw_job(
    folder: Path,
    *,
    modalities: Mapping[str, str | Mapping[str, str]] | None = None,
    seed: int = 0,
    **data: Any,
) -> Job:
    """A job over ``folder / "raw"``; modalities are files or settings, ``data`` is the rest of data."""
    files: Mapping[str, str | Mapping[str, str]] = modalities or {"image": "image.parquet"}
    section = {
        "path": str(folder / "raw"),
        "modalities": {
            name: {"file": file} if isinstance(file, str) else file for name, file in files.items()
        },
        **data,
    }
    return make_job(output=str(folder / "run"), seed=seed, data=section)


def training_job(output: Path | str, modalities: int = 2, workers: int = 1, *sets: str) -> Job:
    """A small model on the data of ``publish_graph``: D = 16, batches of 32, nothing sampled, all losses
    on. Cut at random: METIS starts a process that imports torch and DGL, seconds for each graph. The features
    are random, and their item-item graphs are kept all the same."""
    tree = {
        "output": str(output),
        "seed": 3,
        "data": {
            "path": "unused",
            "modalities": {m: {"file": m} for m in ("image", "text", "audio")[:modalities]},
        },
        "partition": {"parts": 4, "method": "random", "item_neighbours": 3, "least_lift": 0},
        "model": {
            "dimension": 16,
            "item_graph": {"weight": ITEM_GRAPH},
            "modality_weight": 0.55,
            "modality_graph": {"size": 4, "fanout": 4},
        },
        "losses": {
            "ranking": {"loss": "bpr"},
            "contrastive": {"rows": "lists", "weight": 0.03},
            "candidates": 16,
            "adversarial": {"kind": "critic", "hidden": [8, 4], "weight": 0.1},
        },
        "training": {"batch_size": 32, "fanout": "all", "rows": {"learning_rate": 0.001}},
        "scaling": {"workers": workers},
    }
    return parse_job(tree, sets)
