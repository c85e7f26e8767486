"""Collectives of a step by two workers with all losses, and bytes that one sends: on a graph of some nodes.

    PYTHONPATH=VERSION python benchmarks/count_collectives.py

prints a line of JSON, {"sampling": ..., "step": ...}. It uses only what the other version has as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tests.processes import run_workers
from tests.training import make_trainer, publish_graph

try:
    from tests.jobs import training_job
except ImportError:  # an earlier version
    from tests.training import make_job as training_job  # type: ignore[attr-defined,no-redef]

SETS = (
    "training.fanout=[3, 2]",
    "losses.ranking.loss=softmax",
    "losses.contrastive.rows=item_graph",
    "model.modality_graph.size=0",
    "model.item_graph.fanout=2",
)
NAMES = (
    "all_to_all_single",
    "all_reduce",
    "all_gather_into_tensor",
    "reduce_scatter_tensor",
    "broadcast",
    "reduce",
    "batch_isend_irecv",  # of ids that a message had no room for
)


def counted(rank: int, folder: Path) -> dict[str, int]:
    """Collectives of the second step on this worker."""
    trainer = make_trainer(rank, training_job(folder, 2, 2, *SETS))
    trainer.step(trainer.batch(0, 0))
    seen = 0

    def counting(call: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            seen += 1
            return call(*arguments, **options)

        return wrapped

    for name in NAMES:
        setattr(dist, name, counting(getattr(dist, name)))
    batch = trainer.batch(0, 1)
    sampling = seen
    trainer.step(batch)
    return {"sampling": sampling, "step": seen - sampling}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="collectives-") as name:
        publish_graph(training_job(Path(name), 2, 2, *SETS))
        counts = run_workers(2, counted, Path(name), timeout=300)
    sys.stdout.write(json.dumps(counts[0]) + "\n")


if __name__ == "__main__":
    main()
