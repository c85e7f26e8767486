"""Names of metrics, the same in every tracker: group/metric, such as validation/recall@20."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.training.improvement import CHECKPOINT_SCORE

_GROUPS = ("loss/", "seconds/", "share/", "rate/", "exchange/", "memory/")
_UNTRACKED = ("epoch", CHECKPOINT_SCORE)  # the axis, and an order of checkpoints


def figures_of(entry: Mapping[str, float]) -> dict[str, float]:
    """What trackers receive of an entry of the history: its finite numbers but the epoch."""
    return {name: float(v) for name, v in entry.items() if name not in _UNTRACKED and math.isfinite(v)}


def tracked_name(name: str) -> str:
    """A name of the history as trackers group them: by what stands before the slash."""
    if "@" in name:
        return f"validation/{name}"
    return name if name.startswith(_GROUPS) else f"progress/{name}"


def final_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What ``evaluate`` published, by name: final/test/recall@20 of the model, and of who else ranked
    final/test/popularity/recall@20, final/test/without_image/recall@20, final/test/cold/recall@20."""
    others = {name: metrics[name] for name in ("cold", "warm") if name in metrics}
    others |= metrics.get("baselines", {})
    others |= {f"without_{modality}": means for modality, means in metrics.get("without", {}).items()}
    rankings = {"": metrics} | {f"{name}/": means for name, means in others.items()}
    return {
        f"final/{split}/{ranker}{name}": float(value)
        for split in HELD_OUT
        for ranker, means in rankings.items()
        for name, value in means.get(split, {}).items()
    }
