"""Several gloo processes on this machine, with a time limit: what the tests of distributed code run in.

Every process is gone when ``run_workers`` returns or raises, whatever happened in it. Only the server that
they are forked from stays until the caller ends: it has imported what they need, which takes each of them
seconds otherwise, and has done nothing else.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_PRELOADED = ("torch.distributed", "pyarrow.dataset", "tests.training", "tests.preloaded")
_READ_AT_IMPORT = ("DS_ACCELERATOR", "OMP_NUM_THREADS")  # by DeepSpeed, and by torch's OpenMP
_BEFORE = [os.environ.get(name) for name in _READ_AT_IMPORT]


class WorkerFailure(RuntimeError):
    """A worker raised or died; the message holds the tracebacks of all that did."""


def run_workers(
    world_size: int, function: Callable[..., Any], *args: Any, timeout: float = 120.0
) -> list[Any]:
    """Call ``function(rank, *args)`` in ``world_size`` new processes that share a gloo group (the default
    group).

    ``function`` must be importable (defined at the top level of a module), and its arguments and result
    picklable. Each process computes with one thread. The environment of the caller is inherited.

    Returns:
        the result of each rank, by rank.

    Raises:
        WorkerFailure: a worker raised or died; the others are killed.
        TimeoutError: not all had finished after ``timeout`` seconds; says where those still running were.
    """
    context = _context()
    with tempfile.TemporaryDirectory(prefix="workers-") as name:
        folder, deadline = Path(name), time.time() + timeout
        processes: list[BaseProcess] = [
            context.Process(
                target=_worker,
                args=(rank, world_size, folder, deadline, dict(os.environ), function, args),
                daemon=True,
            )
            for rank in range(world_size)
        ]
        try:
            for process in processes:
                process.start()
            _wait(processes, folder, deadline)
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
                if process.pid is not None:
                    process.join()
        return [pickle.loads((folder / f"{rank}.result").read_bytes()) for rank in range(world_size)]


def _context() -> ForkServerContext | SpawnContext:
    """New processes are forked from a server that has done the imports, and start anew where a variable has
    changed that imports read."""
    if [os.environ.get(name) for name in _READ_AT_IMPORT] != _BEFORE:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def _wait(processes: list[BaseProcess], folder: Path, deadline: float) -> None:
    while any(process.exitcode is None for process in processes):
        if any(process.exitcode for process in processes):
            break
        if time.time() > deadline:
            running = [rank for rank, process in enumerate(processes) if process.exitcode is None]
            stacks = "\n".join(f"rank {rank}:\n{_errors(folder, rank)}" for rank in running)
            raise TimeoutError(
                f"ranks {running} of {len(processes)} were still running at the time limit\n{stacks}"
            )
        time.sleep(0.01)
    if any(process.exitcode for process in processes):
        time.sleep(
            0.2
        )  # the rank that failed first often takes others with it; let the cause be written down
        failed = [rank for rank, process in enumerate(processes) if process.exitcode]
        raise WorkerFailure(
            "\n".join(
                f"rank {rank}, exit code {processes[rank].exitcode}:\n{_errors(folder, rank)}"
                for rank in failed
            )
        )


def _worker(
    rank: int,
    world_size: int,
    folder: Path,
    deadline: float,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    with (folder / f"{rank}.errors").open("w") as errors:
        os.dup2(errors.fileno(), 2)  # what C++ says when it aborts belongs to the report too
    os.environ.clear()
    os.environ.update(environment)
    left = max(deadline - time.time(), 1.0)
    faulthandler.dump_traceback_later(max(left - 0.5, 0.5), file=2)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    torch.set_num_threads(1)
    status = 1
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'store'}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=left),
        )
        (folder / f"{rank}.result").write_bytes(pickle.dumps(function(rank, *args)))
        dist.barrier()  # no rank tears its connections down while another still needs them
        status = 0
    finally:
        if status:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the threads of a broken group must not keep the process alive


def _errors(folder: Path, rank: int) -> str:
    path = folder / f"{rank}.errors"
    return (path.read_text() if path.exists() else "") or "no traceback"
