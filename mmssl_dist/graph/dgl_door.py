"""The adapter to DGL: every use of it imports ``dgl`` from ``mmssl_dist.graph.dgl_door``, and every draw
goes through ``draw``, which gives the same numbers for the same seed whichever thread or process asks.

The newest DGL on PyPI loads GraphBolt libraries built for torch 2.0 to 2.2 and cannot be imported with
another torch. Nothing here needs GraphBolt, so where it cannot load, an inert module stands in for it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TypeVar

import torch

from mmssl_dist.errors import MmsslError

T = TypeVar("T")

_GRAPHBOLT = "dgl.graphbolt"
_PROBE_SEED = 1
_PROBE_RANGE = 2**40  # so wide that no other stream gives the four numbers below by chance
# What stream 0 of DGL 2.1's generator gives.
_PROBE_DRAWS = [970680512309, 906432294730, 595059744822, 690296891600]


def _refuse(name: str) -> NoReturn:
    raise MmsslError(
        f"{_GRAPHBOLT}.{name}: GraphBolt is switched off, since the installed DGL has no GraphBolt "
        "library for torch "
        f"{torch.__version__}. Use dgl.sampling, or a torch that this DGL was built for."
    )


class _UnavailableGraph:
    """Takes the place of GraphBolt's graph class, which ``dgl.distributed`` names in isinstance checks."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        _refuse("FusedCSCSamplingGraph")


class _GraphBoltPlaceholder(ModuleType):
    """Takes the place of ``dgl.graphbolt``: importable, and nothing more."""

    FusedCSCSamplingGraph = _UnavailableGraph

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # the import system and inspect ask for these and want a plain "no"
            raise AttributeError(f"module {_GRAPHBOLT!r} has no attribute {name!r}")
        _refuse(name)


def _graphbolt_loads() -> bool:
    """Whether the installed DGL brings a GraphBolt library for the installed torch."""
    spec = importlib.util.find_spec("dgl")
    if spec is None or spec.origin is None:
        raise MmsslError("dgl is not installed. Install the project with its dependencies (make setup).")
    # Looked for by name, since importing DGL without it fails half-way and leaves broken modules behind.
    library = f"libgraphbolt_pytorch_{torch.__version__.split('+')[0]}.so"
    return (Path(spec.origin).parent / "graphbolt" / library).exists()


def _import_dgl() -> ModuleType:
    os.environ["DGLBACKEND"] = "pytorch"  # else DGL looks for, and may write, a file in the home folder
    if "dgl" not in sys.modules and not _graphbolt_loads():
        placeholder = _GraphBoltPlaceholder(_GRAPHBOLT)
        placeholder.__spec__ = importlib.machinery.ModuleSpec(_GRAPHBOLT, loader=None)
        sys.modules[_GRAPHBOLT] = placeholder
    return importlib.import_module("dgl")


dgl = _import_dgl()


class _DrawingThread:
    """One thread that makes all of DGL's draws.

    DGL gives each thread that draws a random stream of its own, numbered in order of first use, and shares
    rows out over OpenMP threads. One thread, the first to draw and alone, has stream 0 in every process.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        threads = torch.get_num_threads()
        # Never replaced: a second thread would get DGL's stream 1, and other numbers for the same seed.
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dgl-draw")
        self.repeatable = self.executor.submit(self._prepare).result()
        # The drawing thread keeps its 1; threads started later get this number.
        torch.set_num_threads(threads)

    def _prepare(self) -> bool:
        torch.get_num_threads()  # makes torch set up this thread now; done later it would undo the next line
        torch.set_num_threads(1)
        dgl.seed(_PROBE_SEED)
        return bool(dgl.random.choice(_PROBE_RANGE, len(_PROBE_DRAWS)).tolist() == _PROBE_DRAWS)

    def draw(self, seed: int, call: Callable[[], T]) -> T:
        # A fork copies no threads: a draw would wait for one that is not there, and a new one, being a
        # second thread, would have other numbers.
        if self.process != os.getpid():
            raise MmsslError(
                "DGL was imported before this process was forked, so its draws cannot be repeated here. "
                "Start processes with the spawn method."
            )
        if not self.repeatable:
            raise MmsslError(
                f"DGL {dgl.__version__}: draws differ from the expected ones: it is not DGL 2.1, "
                "or something in this process drew from it first. Use DGL through mmssl_dist.graph.dgl_door."
            )

        def seeded() -> T:
            dgl.seed(seed)
            return call()

        return self.executor.submit(seeded).result()


_drawing_thread = _DrawingThread()


def draw(seed: int, call: Callable[[], T]) -> T:
    """``call()`` with DGL's generator at ``seed``, 0 <= seed < 2**31, on the thread that makes all of DGL's
    draws.

    Raises:
        MmsslError: draws of this process cannot be repeated elsewhere.
    """
    return _drawing_thread.draw(seed, call)
