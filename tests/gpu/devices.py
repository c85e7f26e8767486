"""Training on a GPU beside training on the CPU, by one worker and by two: the same losses, rows, rankings and
files.

For machines with a GPU (`make gpu`); its name keeps it out of `make test`. Two workers share the GPU, which
NCCL refuses, so their group is gloo's for tensors of either kind: this shows what is done with what arrives,
not NCCL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.evaluation.evaluate import rank_items
from mmssl_dist.evaluation.propagation import exact_rows
from mmssl_dist.evaluation.trained import Trained
from tests.jobs import training_job
from tests.multiprocess.training_runs import CURVES, SAMPLED, train
from tests.processes import run_workers
from tests.training import make_trainer, publish_graph

DEVICES = ("cpu", "cuda")
STEPS = 20
VARIANTS = {name: CURVES[name] for name in ("all neighbours", "sampled", "feature columns")} | {
    "softmax": (
        *SAMPLED,
        "losses.ranking.loss=softmax",
        "losses.contrastive.rows=item_graph",
        "model.item_graph.fanout=2",
        "model.item_graph.learned=true",
        "model.modality_graph.size=0",
    ),
    "drawn by DGL": (*SAMPLED, "training.sampler=dgl"),
    "drawn on the device": (*SAMPLED, "training.sampler=device"),
    "stage 1": (*SAMPLED, "training.dense.zero_stage=1"),
    "stage 2": (*SAMPLED, "training.dense.zero_stage=2"),
    "bf16": (*SAMPLED, "training.dense.precision=bf16"),
    "bf16, stage 1": (*SAMPLED, "training.dense.precision=bf16", "training.dense.zero_stage=1"),
    "clipped": (*SAMPLED, "training.dense.clip=0.01"),
}


@dataclass
class Found:
    """What one worker has after some steps: losses of each, its ID and final rows, dense weights; its users'
    lists."""

    losses: list[dict[str, float]] = field(default_factory=list)
    rows: dict[str, Tensor] = field(default_factory=dict)
    ranked: list[list[int]] = field(default_factory=list)


def observe(number: int, job: Job, device: str) -> Found:
    trainer, result = make_trainer(number, job, device), Found()
    for place in range(STEPS):
        epoch, step = divmod(place, trainer.sampler.steps)
        if step == 0 and epoch:
            trainer.publish_lists()
        result.losses.append(trainer.step(trainer.batch(epoch, step)))
    state, exchange, graph = trainer.state, trainer.exchange, trainer.graph
    assert state.table.rows.device.type == device
    views = {m: of_modality.graph(exchange) for m, of_modality in state.lists.items()}
    exact = exact_rows(
        Trained(model=state.model, id_rows=state.table.rows, graph=graph, views=views, exchange=exchange)
    )
    users, items = (exact.index_select(0, nodes.to(exact.device)) for nodes in (graph.users, graph.items))
    result.ranked = rank_items(
        settings=job.evaluation,
        graph=graph,
        users=graph.users,
        user_rows=users,
        item_rows=items,
        k=5,
        exchange=exchange,
    ).nodes.tolist()
    dense = state.generator.state()
    result.rows = {"ID": state.table.rows.cpu(), "final": exact.cpu(), **dense}
    state.generator.load(dense)
    again = state.generator.state()
    assert all(torch.equal(again[name], value) for name, value in dense.items())
    return result


def observe_all(number: int, output: Path, workers: int, device: str) -> dict[str, Found]:
    """Every variant in one process: starting it takes longer than they do."""
    return {
        name: observe(number, training_job(output, 2, workers, *sets), device)
        for name, sets in VARIANTS.items()
    }


def on(device: str, workers: int, function: Callable[..., Any], *args: object) -> list[Any]:
    """``run_workers`` with DeepSpeed told which device there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", device)
        return run_workers(workers, function, *args, timeout=300)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("devices") / "graph"
    publish_graph(training_job(folder))
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def result(output, request) -> dict[str, list[dict[str, Found]]]:
    """Device -> what each worker found, by variant."""
    return {
        device: on(device, request.param, observe_all, output, request.param, device) for device in DEVICES
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_a_gpu_trains_and_ranks_like_the_cpu(result, name):
    rough = 0.03 if "bf16" in name else 1e-4
    for device, host in zip(result["cuda"], result["cpu"], strict=True):
        ours, theirs = device[name], host[name]
        for losses, expected in zip(ours.losses, theirs.losses, strict=True):
            assert losses == pytest.approx(expected, rel=rough, abs=rough)
        if "bf16" in name:
            continue
        for key, value in theirs.rows.items():
            torch.testing.assert_close(ours.rows[key].float(), value.float(), rtol=1e-3, atol=1e-3)
        same = sum(
            a == b
            for mine, other in zip(ours.ranked, theirs.ranked, strict=True)
            for a, b in zip(mine, other, strict=True)
        )
        assert same >= 0.97 * 5 * len(theirs.ranked)  # two items with nearly equal scores may change places


@pytest.mark.parametrize(("first", "second"), [("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_from_a_checkpoint_of_another_device(output, tmp_path, first, second):
    def trained(device: str, folder: str, epochs: int) -> dict[str, Tensor]:
        job = training_job(output, 2, 1, *SAMPLED, f"training.epochs={epochs}")
        ((_, state),) = on(device, 1, train, job, tmp_path / folder, 0, device)
        return state

    whole = trained("cpu", "whole", 4)
    trained(first, "cut", 2)
    resumed = trained(second, "cut", 4)
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key].float(), value.float(), rtol=1e-3, atol=1e-3)
