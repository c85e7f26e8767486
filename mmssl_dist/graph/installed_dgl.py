"""Whether DGL is there, which has wheels for some systems and Python versions only; loads neither DGL nor
torch."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError


@cache
def dgl_installed() -> bool:
    """Whether this Python can import DGL. Without it, neighbours are drawn by the sampler of devices and the
    graph is cut by the streaming method."""
    return find_spec("dgl") is not None


def check_dgl(job: Job) -> None:
    """Raise an InputError if ``job`` names what only DGL does, and it is not installed here."""
    if dgl_installed():
        return
    for setting, value, needed, other in (
        ("training.sampler", job.training.sampler, "dgl", "device"),
        ("partition.method", job.partition.method, "metis", "streaming"),
    ):
        if value == needed:
            raise InputError(
                setting,
                value,
                "DGL is not installed; it has wheels for Python 3.11 and 3.12 on Linux",
                f"Install it, or set {setting} to auto or {other}.",
            )
