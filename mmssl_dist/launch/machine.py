"""The machine that a worker runs on, as a training's manifest names it."""

from __future__ import annotations

import os
from typing import Any

import torch

from mmssl_dist.cluster.local_ray import machine_memory
from mmssl_dist.exchange.worker import Worker


def machine_facts(worker: Worker) -> dict[str, Any]:
    """workers, of the group in the end; cores, memory (bytes) and gpu (its name, None on the CPU) of the
    machine of ``worker``."""
    device = worker.device
    return {
        "workers": worker.world_size,
        "cores": os.cpu_count(),
        "memory": machine_memory(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }
