"""What a worker knows of itself. Ranks and devices are arguments everywhere; nothing asks the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of W processes.

    Attributes:
        rank: 0..W-1.
        world_size: W.
        device: where rows and dense weights live.
        cache: local folder for files downloaded from object storage.
        group: process group of all workers for tensors on ``device``; None when W is 1 and no group was made.
    """

    rank: int
    world_size: int
    device: torch.device
    cache: Path
    group: dist.ProcessGroup | None
