"""Training in one and in several processes: the same curves, the same draws, and a resume that nobody can
tell.

Starting processes takes longer than what they do here, so each number of workers is started once and does
everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.errors import NonFiniteError
from mmssl_dist.sampling.batch import Batch
from mmssl_dist.training.forward import Forward
from tests.jobs import training_job
from tests.multiprocess.training_runs import (
    CURVES,
    DENSE,
    LOOP,
    LOOPS,
    SAMPLED,
    Losses,
    Trained,
    curve,
    evaluate_and_export,
    resume,
    train,
)
from tests.processes import run_workers
from tests.training import Trainer, make_trainer, publish_graph

DRAWN = {"DGL": (), "keys": ("training.sampler=device",)}


@dataclass
class Drawn:
    """A worker's part of a batch: pairs with their negatives, all candidates, and the (node, neighbour,
    weight) sampled around its seeds."""

    pairs: list[tuple[int, ...]]
    candidates: list[int]
    edges: set[tuple[int, int, float]]


@dataclass(kw_only=True)
class Found:
    """What one worker hands back, by the name of what it ran."""

    curves: dict[str, list[Losses]] = field(default_factory=dict)
    draws: dict[str, list[Drawn]] = field(default_factory=dict)
    dense: dict[str, list[float]] = field(default_factory=dict)
    wire: tuple[list[Losses], int, int] | None = None
    moved: dict[int, dict[str, float]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    whole: dict[str, Trained] = field(default_factory=dict)
    resumed: dict[str, dict[int, Trained]] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


def run_all(rank: int, folder: Path, workers: int) -> Found:
    def job(*sets: str, modalities: int = 2) -> Job:
        return training_job(folder / f"graph-{modalities}", modalities, workers, *sets)

    actual = Found()
    for name, sets in CURVES.items():
        actual.curves[name] = curve(rank, job(*sets))
    for name, sets in DRAWN.items():
        actual.draws[name] = draws(rank, job(*SAMPLED, *sets))
    if workers == 2:
        actual.dense = {
            name: [losses["total"] for losses in curve(rank, job(*sets), 4)] for name, sets in DENSE.items()
        }
        actual.wire = on_the_wire(rank, job(*SAMPLED, "training.wire=bf16"), job(*SAMPLED))
        actual.moved = {
            modalities: largest_moments(rank, job(modalities=modalities)) for modalities in (1, 3)
        }
        actual.refusals = {
            name: refusal(rank, job(*sets), spoil) for name, (sets, spoil, *_) in BROKEN.items()
        }
    if workers < 3:
        for name, sets in LOOPS.items():
            here = folder / name
            actual.whole[name] = train(rank, job(*sets, "training.epochs=4"), here / f"whole-{workers}")
            train(rank, job(*sets, "training.epochs=3"), here / f"until-3-by-{workers}", every=4)
    actual.metrics = evaluate_and_export(rank, job(*LOOP), folder)
    if workers == 2:
        actual.resumed = resume_all(rank, folder, workers)
    return actual


def resume_all(rank: int, folder: Path, workers: int) -> dict[str, dict[int, Trained]]:
    """By the loop's name and the number of workers before."""
    return {
        name: {
            before: resume(
                rank,
                training_job(folder / "graph-2", 2, workers, *sets, "training.epochs=4"),
                folder / name,
                before,
            )
            for before in (1, 2)
        }
        for name, sets in LOOPS.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def runs(folder) -> dict[int, list[Found]]:
    """What each worker of 1, 2 and 3 found. Later ones go on from checkpoints of earlier ones."""
    for modalities in (1, 2, 3):
        method = "metis" if modalities == 2 else "random"
        publish_graph(
            training_job(folder / f"graph-{modalities}", modalities, 1, f"partition.method={method}")
        )
    results = {}
    for workers in (1, 2, 3):
        results[workers] = run_workers(workers, run_all, folder, workers, timeout=400)
        (folder / "graph-2" / "export").rename(folder / f"export-{workers}")
    # by one worker in a process of its own
    results[1][0].resumed = run_workers(1, resume_all, folder, 1, timeout=200)[0]
    return results


@pytest.mark.parametrize("name", CURVES)
def test_loss_curves_do_not_depend_on_the_number_of_workers(runs, name):
    one = runs[1][0].curves[name]
    ranking = "softmax" if name in ("softmax", "perturbation") else "bpr"
    off = {"critic", "contrastive", "adversarial"} if name == "feature columns" else set()
    off |= {"critic"} if name.startswith("perturb") else set()
    assert set(one[0]) == {"critic", ranking, "l2", "tower_l2", "contrastive", "adversarial", "total"} - off
    if name != "small steps":  # of a few pairs each, whose losses differ more by pair than by progress
        assert one[-1][ranking] < one[0][ranking]
    for workers in (2, 3):
        for result in runs[workers]:  # every worker reports the global losses
            for ours, theirs in zip(result.curves[name], one, strict=True):
                for loss, value in theirs.items():
                    assert abs(ours[loss] - value) < 1e-4 * max(1.0, abs(value)), loss


def draws(rank: int, job: Job) -> list[Drawn]:
    """The first steps' draws, by node ids."""
    trainer = make_trainer(rank, job)
    actual = []
    for step in range(4):
        batch = trainer.batch(0, step)
        pairs = torch.stack(
            [batch.nodes[batch.users], batch.nodes[batch.positives], batch.nodes[batch.negatives]], 1
        )
        hop = trainer.sampler.training.sample(trainer.exchange.route(batch.nodes), 3, step)
        rows = torch.repeat_interleave(batch.nodes, hop.counts)
        edges = set(zip(rows.tolist(), hop.nodes.tolist(), hop.weight.tolist(), strict=True))
        actual.append(Drawn(sorted(map(tuple, pairs.tolist())), batch.candidates.tolist(), edges))
    return actual


@pytest.mark.parametrize("by", DRAWN)
def test_the_global_batch_is_the_same_for_any_number_of_workers(runs, by):
    for step in range(4):
        (one,) = (actual.draws[by][step] for actual in runs[1])
        assert len(one.pairs) > 0
        assert len(one.edges) > 3 * len(one.pairs)
        for workers in (2, 3):
            shares = [actual.draws[by][step] for actual in runs[workers]]
            assert sorted(pair for share in shares for pair in share.pairs) == one.pairs
            assert set.union(*(share.edges for share in shares)) == one.edges
            assert all(share.candidates == one.candidates for share in shares)


def largest_moments(rank: int, job: Job) -> dict[str, float]:
    """Largest gradient moment of every dense parameter, and of the row with the smallest, after some
    steps."""
    trainer = make_trainer(rank, job)
    for epoch in range(2):
        trainer.publish_lists()
        for step in range(trainer.sampler.steps):
            trainer.step(trainer.batch(epoch, step))
    engines = {"generator": trainer.state.generator, "critic": trainer.state.critic}
    result = {
        f"{module_name}.{name}": float(value.abs().max())
        for module_name, engine in engines.items()
        for name, value in engine.state().items()
        if name.startswith("exp_avg.")
    }
    moments = trainer.state.table.first_moment.abs().amax(1)
    connected = trainer.graph.training.degrees(torch.arange(trainer.graph.num_rows)) > 0
    return result | {"rows": float(moments[connected].min())}


@pytest.mark.parametrize("modalities", [1, 3])
def test_every_parameter_and_every_row_gets_a_gradient(runs, modalities):
    for actual in runs[2]:
        assert len(actual.moved[modalities]) > 10
        assert [name for name, value in actual.moved[modalities].items() if value == 0] == []


def test_zero_stages_train_alike_and_bf16_nearly(runs):
    losses = {name: np.array(values) for name, values in runs[2][0].dense.items()}
    for name in ("stage 1", "stage 2"):
        np.testing.assert_allclose(losses[name], losses["plain"], rtol=1e-5)
    for name in ("bf16, stage 0", "bf16, stage 1", "bf16, stage 2"):
        assert not np.array_equal(losses[name], losses["plain"])
        np.testing.assert_allclose(losses[name], losses["plain"], rtol=0.03)


def on_the_wire(rank: int, narrow: Job, wide: Job) -> tuple[list[Losses], int, int]:
    """Losses with rows and gradients in bf16 on the wire; bytes of a step's own exchange with and without."""
    trainers = [make_trainer(rank, job) for job in (narrow, wide)]
    losses = []
    for trainer in trainers:
        batch = trainer.batch(0, 0)
        trainer.exchange.traffic.take()
        losses.append(trainer.step(batch))
    sent = [trainer.exchange.traffic.take().bytes_sent for trainer in trainers]
    return [*losses, *curve(rank, narrow, 4)[1:]], sent[0], sent[1]


def test_bf16_on_the_wire_sends_less_and_trains_nearly_alike(runs):
    for actual in runs[2]:
        (narrow, wide, *later), less, more = actual.wire
        assert less < 0.85 * more
        assert narrow != wide
        for losses, exact in zip([narrow, *later], actual.curves["sampled"], strict=False):
            assert losses["total"] == pytest.approx(exact["total"], rel=0.01)


def refusal(rank: int, job: Job, spoil: Callable[[Trainer], None]) -> str:
    """What a step says when something of the last worker is not a number; nothing may have moved on any
    worker."""
    trainer = make_trainer(rank, job)
    trainer.step(trainer.batch(0, 0))
    if rank == job.scaling.workers - 1:
        spoil(trainer)
    before = everything(trainer)
    with pytest.raises(NonFiniteError) as caught:
        trainer.step(trainer.batch(0, 1))
    after = everything(trainer)
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name.startswith("critic") and "generator" in str(caught.value):
            continue  # its update comes first, and was sound
        assert torch.equal(value.nan_to_num(1e30), after[name].nan_to_num(1e30)), name
    return str(caught.value)


def spoil_a_row(trainer: Trainer) -> None:
    trainer.state.table.rows[0, 3] = torch.nan


def spoil_row_gradients(trainer: Trainer) -> None:
    forward = trainer.step.forward

    def spoiled(batch: Batch) -> Forward:
        result = forward(batch)
        result.id_leaf.register_hook(lambda gradient: gradient * torch.inf)
        return result

    trainer.step.forward = spoiled  # type: ignore[method-assign]


def spoil_dense_gradients(trainer: Trainer) -> None:
    next(trainer.state.generator.module.parameters()).register_hook(lambda gradient: gradient * torch.nan)


def spoil_critic_gradients(trainer: Trainer) -> None:
    assert trainer.state.critic is not None
    next(trainer.state.critic.module.parameters()).register_hook(lambda gradient: gradient * torch.nan)


ZERO = ("training.dense.zero_stage=2",)
BROKEN: dict[str, tuple[tuple[str, ...], Callable[[Trainer], None], str, str]] = {
    "a row": (
        (),
        spoil_a_row,
        "loss critic",
        "0, 1",
    ),  # whose neighbours' final rows every worker has as candidates
    "a row, without a critic": (("losses.adversarial.weight=0",), spoil_a_row, "loss bpr", "(0, )?1"),
    "row gradients": ((), spoil_row_gradients, "the gradient of the generator's ID rows", "1"),
    "dense gradients": (
        (),
        spoil_dense_gradients,
        "the gradient of the generator's weights",
        "0, 1",
    ),  # averaged
    "dense gradients, stage 2": (
        ZERO,
        spoil_dense_gradients,
        "the gradient of the generator's weights",
        "0(, 1)?",
    ),
    "critic gradients": ((), spoil_critic_gradients, "the gradient of the critic's weights", "0, 1"),
}
"""Settings, what goes wrong on the last worker, and the term and the workers that the message has to name."""


def everything(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of all that training changes."""
    state = trainer.state
    named = {"rows": state.table.rows, "first": state.table.first_moment, "second": state.table.second_moment}
    named |= {
        f"list {m} {name}": value
        for m, of_modality in state.lists.items()
        for name, value in vars(of_modality).items()
    }
    named |= {f"generator {name}": value for name, value in state.generator.state().items()}
    named |= {
        f"critic {name}": value for name, value in (state.critic.state() if state.critic else {}).items()
    }
    return {name: value.clone() for name, value in named.items()} | {
        "steps": torch.tensor([state.table.steps])
    }


@pytest.mark.parametrize("name", BROKEN)
def test_a_number_that_is_not_finite_stops_all_workers_before_the_update(runs, name):
    term, workers = BROKEN[name][2:]
    for actual in runs[2]:
        assert re.fullmatch(
            rf"epoch 0, step 1: {term} is (nan|inf) on worker {workers}\. Lower the learning rates, .*",
            actual.refusals[name],
        )


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 2)])
def test_a_resume_goes_on_as_if_nothing_had_happened(runs, before, after, name):
    for actual in runs[after]:
        (all_reports, whole), (reports, state) = actual.whole[name], actual.resumed[name][before]
        assert [report["epoch"] for report in all_reports] == [1.0, 2.0, 3.0, 4.0]
        assert [report["epoch"] for report in reports] == [3.0, 4.0]
        assert reports[0]["loss/total"] == pytest.approx(all_reports[2]["loss/total"], rel=1e-4)
        assert reports[-1]["loss/total"] == pytest.approx(all_reports[-1]["loss/total"], rel=1e-4)
        assert state.keys() == whole.keys()
        for key, value in whole.items():
            if before == after:
                assert torch.equal(state[key], value), key
            torch.testing.assert_close(state[key], value, atol=1e-4, rtol=1e-3, msg=key)


def test_metrics_and_exports_do_not_depend_on_the_number_of_workers(runs, folder):
    one = runs[1][0].metrics
    assert one.keys() == {"validation", "test", "baselines", "without"}
    assert 0 < one["validation"]["recall@20"] < 1
    names = sorted(path.relative_to(folder / "export-1") for path in (folder / "export-1").rglob("*.parquet"))
    assert len(names) == 3 * 4  # user rows, item rows and recommendations of four partitions
    for workers in (2, 3):
        for actual in runs[workers]:
            for split in ("validation", "test"):
                assert actual.metrics[split] == pytest.approx(one[split], abs=1e-6)
                popular, wanted = (
                    of_modality["baselines"]["popularity"][split] for of_modality in (actual.metrics, one)
                )
                assert popular == pytest.approx(wanted, abs=1e-12)
                for modality, wanted in one["without"].items():
                    assert actual.metrics["without"][modality][split] == pytest.approx(
                        wanted[split], abs=1e-6
                    )
        for name in names:
            ours, theirs = (pq.read_table(folder / f"export-{w}" / name) for w in (workers, 1))
            assert ours.schema == theirs.schema
            for column in ours.column_names:
                if column in ("vector", "scores"):
                    values = [
                        np.concatenate([[], *table.column(column).to_pylist()]) for table in (ours, theirs)
                    ]
                    np.testing.assert_allclose(*values, atol=1e-5)
                else:
                    assert ours.column(column).to_pylist() == theirs.column(column).to_pylist()
