"""Training where every modality is left out, since none says anything of what users choose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from mmssl_dist.graph import co_occurrence
from mmssl_dist.sharding.lists import NO_ITEM
from tests.jobs import training_job
from tests.multiprocess.training_runs import SAMPLED, Losses, curve
from tests.processes import run_workers
from tests.training import make_trainer, publish_graph


def curves(rank: int, folder: Path) -> list[list[Losses]]:
    """Where all modalities are left out, where the model has no part that takes them, and with them."""
    sets = (*SAMPLED, "partition.item_neighbours=1", "model.modality_graph.size=0", "losses.tower_l2=0")
    sets = (*sets, "losses.adversarial.kind=perturbation", "losses.contrastive.weight=0")
    left_out = training_job(folder / "left-out", 2, 2, *sets, "partition.least_lift=1000")
    without = ("model.item_graph.weight=0", "model.modality_weight=0")
    off = training_job(folder / "left-out", 2, 2, *sets, *without)
    kept = training_job(folder / "kept", 2, 2, *sets)
    if rank == 0:
        co_occurrence._ENOUGH = 0  # pairs of so few users
        publish_graph(left_out)
        publish_graph(kept)
    dist.barrier()
    return [curve(rank, job) for job in (left_out, off, kept)]


def test_modalities_that_are_left_out_change_nothing(tmp_path):
    for left_out, off, kept in run_workers(2, curves, tmp_path):
        assert [losses["total"] for losses in left_out] == pytest.approx(
            [losses["total"] for losses in off], rel=1e-6
        )
        assert abs(kept[-1]["total"] / off[-1]["total"] - 1) > 1e-4


def listed(rank: int, folder: Path) -> list[int]:
    """How many items the learned lists of each modality have after some steps."""
    job = training_job(
        folder / "lists",
        2,
        2,
        "partition.item_neighbours=1",
        "partition.least_lift=1000",
        "losses.candidates=12",
    )
    if rank == 0:
        co_occurrence._ENOUGH = 0
        publish_graph(job)
    dist.barrier()
    trainer = make_trainer(rank, job)
    for step in range(3):
        trainer.step(trainer.batch(0, step))
    return [int((lists.items != NO_ITEM).sum()) for lists in trainer.state.lists.values()]


def test_rows_of_zeros_are_in_no_learned_list(tmp_path):
    assert run_workers(2, listed, tmp_path) == [[0, 0], [0, 0]]
