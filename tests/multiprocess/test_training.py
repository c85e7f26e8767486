"""Training in one and in several processes: the same curves, the same draws, and a resume that nobody can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl_dist.config import Job
from mmssl_dist.training.loop import TrainingLoop
from mmssl_dist.training.session import LocalSession
from tests.processes import run_workers
from tests.training import make_job, make_trainer, publish_graph

STEPS = 20
SAMPLED = ("training.fanout=[3, 2]", "model.modality_graph.fanout=2", "losses.adversarial.candidates=12")


def curve(rank: int, job: Job) -> list[dict[str, float]]:
    trainer = make_trainer(rank, job)
    losses = []
    for number in range(STEPS):
        epoch, step = divmod(number, trainer.sampler.steps)
        if step == 0 and epoch:
            trainer.publish_lists()
        losses.append(trainer.step(trainer.batch(epoch, step)))
    return losses


@pytest.mark.parametrize("sampled", [False, True], ids=["all neighbours", "sampled"])
def test_loss_curves_do_not_depend_on_the_number_of_workers(tmp_path, sampled):
    sets = SAMPLED if sampled else ()
    publish_graph(make_job(tmp_path))
    curves = {w: run_workers(w, curve, make_job(tmp_path, 2, w, *sets), timeout=120) for w in (1, 2, 3)}
    one = curves[1][0]
    assert set(one[0]) == {"critic", "bpr", "l2", "tower_l2", "contrastive", "adversarial", "total"}
    assert one[-1]["bpr"] < one[0]["bpr"]
    for workers in (2, 3):
        for result in curves[workers]:  # every worker reports the global losses
            for ours, theirs in zip(result, one, strict=True):
                for name, value in theirs.items():
                    assert abs(ours[name] - value) < 1e-4 * max(1.0, abs(value)), name


def draws(rank: int, job: Job) -> list[tuple[list[int], list[int]]]:
    """Per owned partition and step: the training pairs and negatives, as node ids; and the candidates."""
    trainer = make_trainer(rank, job)
    found = []
    for step in range(4):
        batch = trainer.batch(0, step)
        pairs = torch.stack([batch.nodes[batch.users], batch.nodes[batch.positives], batch.nodes[batch.negatives]], 1)
        found.append((sorted(map(tuple, pairs.tolist())), batch.candidates.tolist()))
    return found


def test_the_global_batch_is_the_same_for_any_number_of_workers(tmp_path):
    publish_graph(make_job(tmp_path))
    per_workers = {w: run_workers(w, draws, make_job(tmp_path, 2, w, *SAMPLED)) for w in (1, 2, 4)}
    for step in range(4):
        merged = {w: sorted(pair for result in results for pair in result[step][0]) for w, results in per_workers.items()}
        assert merged[1] == merged[2] == merged[4]
        assert len(merged[1]) > 0
        assert all(result[step][1] == per_workers[1][0][step][1] for results in per_workers.values() for result in results)


def change(rank: int, job: Job) -> dict[str, float]:
    """Largest gradient moment of every dense parameter, and of rows, after some steps."""
    trainer = make_trainer(rank, job)
    for epoch in range(2):
        trainer.publish_lists()
        for step in range(trainer.sampler.steps):
            trainer.step(trainer.batch(epoch, step))
    engines = {"generator": trainer.state.generator, "critic": trainer.state.critic}
    result = {
        f"{kind}.{name}": float(value.abs().max())
        for kind, engine in engines.items()
        for name, value in engine.state().items()
        if name.startswith("exp_avg.")
    }
    moments = trainer.state.table.first_moment.abs().amax(1)
    connected = trainer.graph.training.degrees(torch.arange(trainer.graph.num_rows)) > 0
    return result | {"rows": float(moments[connected].min())}


@pytest.mark.parametrize("modalities", [1, 3])
def test_every_parameter_and_every_row_gets_a_gradient(tmp_path, modalities):
    publish_graph(make_job(tmp_path, modalities))
    for result in run_workers(2, change, make_job(tmp_path, modalities, 2), timeout=120):
        assert len(result) > 10
        assert [name for name, value in result.items() if value == 0] == []


def losses_with(rank: int, job: Job) -> list[float]:
    trainer = make_trainer(rank, job)
    return [trainer.step(trainer.batch(0, step))["total"] for step in range(4)]


def test_zero_stages_train_alike_and_bf16_nearly(tmp_path):
    publish_graph(make_job(tmp_path))

    def losses(*sets: str) -> np.ndarray:
        return np.array(run_workers(2, losses_with, make_job(tmp_path, 2, 2, *sets), timeout=120)[0])

    plain = losses()
    for stage in (1, 2):
        np.testing.assert_allclose(losses(f"training.dense.zero_stage={stage}"), plain, rtol=1e-5)
    for stage in (0, 1, 2):
        half = losses(f"training.dense.zero_stage={stage}", "training.dense.precision=bf16")
        assert not np.array_equal(half, plain)
        np.testing.assert_allclose(half, plain, rtol=0.03)


def train(rank: int, job: Job, folder: Path) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Train through the loop; the metrics reported, and the rows by node id and dense weights at the end."""
    session = LocalSession(folder)
    trainer = make_trainer(rank, job)
    loop = TrainingLoop(job, trainer.worker, trainer.graph, trainer.exchange, trainer.exchange, session,
                        lambda state: {job.evaluation.metric: float(state.table.steps)})  # fmt: skip
    loop.run()
    state = {f"row.{rank}": loop.state.table.rows, **loop.state.generator.state()}
    return session.reports, {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 2)])
def test_a_resume_goes_on_as_if_nothing_had_happened(tmp_path, before, after):
    sets = (*SAMPLED, "model.modality_graph.refresh_epochs=2", "training.prefetch=0")
    publish_graph(make_job(tmp_path))
    whole = run_workers(after, train, make_job(tmp_path, 2, after, *sets, "training.epochs=4"), tmp_path / "whole",
                        timeout=120)  # fmt: skip
    first, rest = (make_job(tmp_path, 2, w, *sets, f"training.epochs={e}") for w, e in ((before, 3), (after, 4)))
    run_workers(before, train, first, tmp_path / "parts", timeout=120)
    resumed = run_workers(after, train, rest, tmp_path / "parts", timeout=120)
    for (reports, state), (all_reports, whole_state) in zip(resumed, whole, strict=True):
        assert [report["epoch"] for report in reports] == [4.0]
        assert reports[-1]["loss/total"] == pytest.approx(all_reports[-1]["loss/total"], rel=1e-4)
        for name, value in whole_state.items():
            torch.testing.assert_close(state[name], value, atol=1e-4, rtol=1e-3, msg=name)
