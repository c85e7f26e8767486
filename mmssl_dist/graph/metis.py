"""METIS through DGL, in a process of its own: equal graphs get equal cuts.

DGL's METIS reads memory that it has not written, so within one process its answer depends on what ran before.
A fresh process whose heap is filled with a constant gives the same cut each time; the allocator's cache per
thread is off, as it leaves addresses in what it hands out. The process also keeps METIS's temporary files,
which go to the working directory, its peak memory and a crash away from the caller.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import mmssl_dist
from mmssl_dist.errors import MmsslError

_INDPTR, _NEIGHBOURS, _NODE_TYPE, _PART = "indptr.npy", "neighbours.npy", "node_type.npy", "part.npy"


def metis(indptr: np.ndarray, neighbours: np.ndarray, node_type: np.ndarray, parts: int) -> np.ndarray:
    """[n] int64 part of each node, from few crossing edges and parts that are even in nodes and edges of each
    node type.

    Args:
        indptr, neighbours: int64 rows of a symmetric graph. node_type: [n] int64, numbers from 0.
        parts: at least 2.

    Raises:
        MmsslError: METIS gave up, or was killed for want of memory.
    """
    with tempfile.TemporaryDirectory(prefix="metis-") as name:
        folder = Path(name)
        for file, array in ((_INDPTR, indptr), (_NEIGHBOURS, neighbours), (_NODE_TYPE, node_type)):
            np.save(folder / file, array)
        done = subprocess.run(  # noqa: S603 - our own module, and a number
            [sys.executable, "-m", __name__, str(parts)],
            cwd=folder,
            env=metis_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not (folder / _PART).exists():
            last_line = (done.stderr.strip() or "nothing").splitlines()[-1]
            raise MmsslError(
                f"METIS could not cut the graph into {parts} parts (exit status {done.returncode}, last "
                f"output line: {last_line}). Give it more memory, or set partition.method to streaming."
            )
        return np.asarray(np.load(folder / _PART, allow_pickle=False), np.int64)


def metis_environment() -> dict[str, str]:
    """This process's, with one thread and a heap in which what was never written is a constant (glibc)."""
    root = str(Path(mmssl_dist.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    # Memory that comes from a thread's cache is not filled anew, so there must be no such cache.
    tunables = ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.tcache_count=0"]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        # Any value that is not zero: fresh memory is then filled with a constant, which METIS reads.
        "MALLOC_PERTURB_": "85",
        "GLIBC_TUNABLES": tunables,
    }


def _run(folder: Path, parts: int) -> None:
    import torch  # here: who starts this process needs neither, and each takes a second to load

    from mmssl_dist.graph.dgl_door import dgl

    indptr, neighbours, node_type = (
        torch.from_numpy(np.load(folder / file, allow_pickle=False))
        for file in (_INDPTR, _NEIGHBOURS, _NODE_TYPE)
    )
    adjacency = ("csr", (indptr, neighbours, torch.empty(0, dtype=torch.int64)))
    graph = dgl.graph(adjacency, num_nodes=len(node_type))
    # Recursive bisection: with four things to balance, k-way mode leaves parts uneven (16 parts of a graph
    # with 50 communities: the largest 1.6 times the smallest, against 1.05) for a cut that is about the same.
    part = dgl.metis_partition_assignment(
        graph, parts, balance_ntypes=node_type, balance_edges=True, mode="recursive"
    )
    if part is None:
        raise MmsslError("no partition")
    np.save(folder / _PART, part.numpy())


if __name__ == "__main__":
    _run(Path.cwd(), int(sys.argv[1]))
