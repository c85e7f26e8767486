"""The loop around the steps: when it publishes, validates, hands in checkpoints and stops. Steps are
played."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmssl_dist.exchange.worker import Worker
from mmssl_dist.storage import Location
from mmssl_dist.storage.manifest import MANIFEST
from mmssl_dist.training import loop
from mmssl_dist.training.checkpoint import Position, read_checkpoint
from mmssl_dist.training.phases import Phases
from mmssl_dist.training.state import TrainingState
from tests.clock import Clock
from tests.graphs import local_graph
from tests.sessions import LocalSession
from tests.unit.sampling.shares import sampling_job
from tests.unit.training.states import BOOK, PAIRS, dense_state

STEPS = 3


@dataclass
class Stage:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    at_step: Callable[[int, int], None] = lambda epoch, step: None
    clock: Clock = field(default_factory=Clock)

    def validate(self, state: TrainingState) -> dict[str, float]:
        self.events.append("validate")
        return {"recall@20": self.values.pop(0), "ndcg@20": 0.5}


@pytest.fixture
def stage(monkeypatch) -> Stage:
    """A loop whose parts only note that they were called."""
    played = Stage()

    class Sampler:
        steps, device = STEPS, torch.device("cpu")

        def __init__(self, *_: object) -> None: ...

        def batch(self, epoch: int, step: int) -> SimpleNamespace:
            batch = SimpleNamespace(epoch=epoch, step=step, pairs=4, graph=SimpleNamespace(num_edges=7))
            batch.to = lambda device: batch
            return batch

        def publish(self, views: Mapping[str, object]) -> None:
            played.events.append("show")

    class Step:
        def __init__(self, job: object, graph: object, exchange: object, state: TrainingState) -> None:
            self.state, self.phases = state, Phases(played.clock)

        def __call__(self, batch: SimpleNamespace) -> dict[str, float]:
            played.events.append(f"{batch.epoch}.{batch.step}")
            with self.phases("generator"):
                played.clock.now += 1
                played.at_step(batch.epoch, batch.step)
            self.state.table.steps += 1
            return {"bpr": 10.0 * batch.epoch + batch.step}

    monkeypatch.setattr(loop, "BatchSampler", Sampler)
    monkeypatch.setattr(loop, "TrainingStep", Step)
    monkeypatch.setattr(loop, "initial_state", lambda *_: dense_state())
    return played


def make_loop(stage: Stage, folder: Path, *sets: str, every: int = 0) -> Any:
    job = sampling_job(BOOK.parts, *sets)
    graph = local_graph(BOOK, PAIRS)
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"), cache=folder / "cache", group=None)
    exchange = graph.exchange(worker)
    return loop.TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=exchange,
        sampler_exchange=exchange,
        session=LocalSession(folder, every),
        validate=stage.validate,
        clock=stage.clock,
    )


def test_the_order_of_an_epoch(stage, tmp_path):
    stage.values = [0.1, 0.2]
    position = make_loop(stage, tmp_path, "training.epochs=2").run()
    assert stage.events == [
        "show",
        "show",
        "0.0",
        "0.1",
        "0.2",
        "validate",
        "show",
        "1.0",
        "1.1",
        "1.2",
        "validate",
    ]
    assert (position.epochs, position.row_steps, position.best, position.best_epoch) == (2, 6, 0.2, 2)
    for entry, epoch in zip(position.history, (0, 1), strict=True):
        assert entry["epoch"] == epoch + 1
        assert entry["loss/bpr"] == 10.0 * epoch + 1.0  # the mean over the steps
        assert entry["ndcg@20"] == 0.5
        assert entry["train_seconds"] >= 0
        assert entry["validation_seconds"] >= 0


def test_an_entry_tells_what_the_steps_took(stage, tmp_path):
    def take_time(epoch: int, step: int) -> None:
        stage.clock.now += 19 if step == 2 else 1

    stage.values, stage.at_step = [0.1, 0.2], take_time
    first, second = make_loop(stage, tmp_path, "training.epochs=3", "evaluation.every_epochs=2").run().history
    assert (first["seconds/generator/p50"], first["seconds/generator/p95"]) == (2, 20)
    assert first["seconds/step/p50"] == 2
    assert first["seconds/wait/p50"] == first["share/waiting"] == 0
    for entry in (first, second):  # of two epochs, then of one
        assert entry["train_seconds"] == 24  # of one epoch
        assert entry["rate/pairs"] == pytest.approx(4 * 3 / 24)
        assert entry["rate/edges"] == pytest.approx(7 * 3 / 24)
    assert first["exchange/bytes"] == 0
    assert first["memory/resident"] > 1e7


def test_what_starting_and_validation_move_is_not_the_steps(stage, tmp_path):
    """Waiting and bytes are those of the steps alone."""

    def take_a_second(epoch: int, step: int) -> None:
        stage.clock.now += 1

    stage.values = [0.1, 0.2, 0.3]
    stage.at_step = take_a_second
    loop = make_loop(stage, tmp_path, "training.epochs=3")

    def validate(state: TrainingState) -> dict[str, float]:
        loop.exchange.traffic.seconds += 100
        loop.exchange.traffic.bytes_sent += 1000
        return stage.validate(state)

    loop.validate = validate
    loop.exchange.traffic.seconds = 100  # of loading
    for entry in loop.run().history:
        assert entry["share/waiting"] < 0.01
        assert entry["exchange/bytes"] == 0


def test_lists_are_published_as_often_as_asked(stage, tmp_path):
    stage.values = [0.1] * 5
    trained = make_loop(stage, tmp_path, "training.epochs=5", "model.modality_graph.refresh_epochs=2")
    published = []
    for lists in trained.state.lists.values():
        lists.publish = lambda: published.append(len([e for e in stage.events if e == "validate"]))
    trained.run()
    assert published == [0, 0, 2, 2, 4, 4]  # two modalities, before epochs 0, 2 and 4


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best", "best_epoch"),
    [
        ([0.3, 0.2, 0.1, 0.9], 2, 3, 0.3, 1),
        ([0.1, 0.2, 0.2, 0.2, 0.9], 2, 4, 0.2, 2),  # as good is no better
        ([0.1, 0.05, 0.3, 0.2, 0.4, 0.1], 2, 6, 0.4, 5),  # an improvement starts the count anew
        ([0.0, 0.0, 0.1], 1, 2, 0.0, 1),
        ([-0.5, -0.6], 5, 2, -0.5, 1),
        ([0.2, 0.2 + 1e-12, 0.1], 2, 3, 0.2, 1),  # sums in another order are equal
    ],
)
def test_early_stop(stage, tmp_path, values, patience, epochs, best, best_epoch):
    stage.values = list(values)
    position = make_loop(
        stage, tmp_path, f"evaluation.patience={patience}", f"training.epochs={len(values)}"
    ).run()
    assert (position.epochs, position.best, position.best_epoch) == (epochs, best, best_epoch)
    assert [entry["recall@20"] for entry in position.history] == values[:epochs]


def test_the_metric_is_the_jobs(stage, tmp_path):
    stage.values = [0.1, 0.2, 0.3]
    position = make_loop(stage, tmp_path, "evaluation.metric=ndcg@20", "evaluation.patience=1").run()
    assert (position.epochs, position.best, position.best_epoch) == (2, 0.5, 1)


def test_validation_every_few_epochs_and_after_the_last(stage, tmp_path):
    stage.values = [0.1, 0.2, 0.3]
    loop = make_loop(stage, tmp_path, "training.epochs=5", "evaluation.every_epochs=2")
    assert loop.next_figures() == 2
    position = loop.run()
    assert [entry["epoch"] for entry in position.history] == [2.0, 4.0, 5.0]
    assert [report["epoch"] for report in loop.session.reports] == [2.0, 4.0, 5.0]
    expected = {1: 2, 2: 4, 3: 4, 4: 5, 5: None}  # where a training that is resumed stands: what comes next
    for epochs, epoch in expected.items():
        loop.position = replace(position, epochs=epochs, validations_since_best=0)
        assert loop.next_figures() == epoch
    loop.position = replace(position, epochs=3, validations_since_best=loop.job.evaluation.patience)
    assert loop.next_figures() is None


def test_each_report_has_a_checkpoint_that_says_the_same(stage, tmp_path):
    stage.values = [0.2, 0.1]
    position = make_loop(stage, tmp_path, "training.epochs=2").run()
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert names == ["checkpoint-00000", "checkpoint-00001"]
    files = {path.name for path in (tmp_path / names[1]).iterdir()}
    assert MANIFEST in files
    assert len(files) == BOOK.parts + 3
    assert positions(tmp_path)[-1] == position
    assert position.validations_since_best == 1


def positions(folder: Path) -> list[Position]:
    """Of the checkpoints, oldest first."""
    result: list[Location] = list(LocalSession(folder).checkpoints())
    return [read_checkpoint(folder_of_checkpoint, [], folder)[0] for folder_of_checkpoint in reversed(result)]


def test_checkpoints_within_an_epoch(stage, tmp_path):
    stage.values = [0.1, 0.2]
    trained = make_loop(
        stage, tmp_path, "training.epochs=2", every=2
    )  # asked after each step but an epoch's last
    end = trained.run()
    result = positions(tmp_path)
    assert [(p.epochs, p.steps, p.row_steps) for p in result] == [(0, 2, 2), (1, 0, 3), (1, 2, 5), (2, 0, 6)]
    assert result[-1] == end
    assert [p.losses for p in result] == [{"bpr": 1.0}, {}, {"bpr": 21.0}, {}]
    assert trained.session.reports[0] == {"epoch": 1, "step": 2, "steps": 3}


def test_going_on_within_an_epoch_repeats_and_skips_nothing(stage, tmp_path):
    def fail(epoch: int, step: int) -> None:
        if (epoch, step) == (1, 2):
            raise ValueError("in the step")

    stage.values, stage.at_step = [0.1], fail
    with pytest.raises(ValueError, match="in the step"):
        make_loop(stage, tmp_path, "training.epochs=2", every=2).run()
    stage.values, stage.events, stage.at_step = [0.2], [], lambda epoch, step: None
    position = make_loop(stage, tmp_path, "training.epochs=2").run()
    assert stage.events == ["show", "1.2", "validate"]  # the epoch's lists were published before
    assert [entry["loss/bpr"] for entry in position.history] == [
        1.0,
        11.0,
    ]  # means over all steps of each epoch


def test_going_on_counts_on(stage, tmp_path):
    stage.values = [0.3, 0.1]
    make_loop(stage, tmp_path, "training.epochs=2", "evaluation.patience=3").run()
    stage.values, stage.events = [0.2, 0.2, 0.9], []
    position = make_loop(stage, tmp_path, "training.epochs=9", "evaluation.patience=3").run()
    assert (position.epochs, position.best, position.best_epoch, position.row_steps) == (4, 0.3, 1, 12)
    assert [event for event in stage.events if event[0].isdigit()] == [
        "2.0",
        "2.1",
        "2.2",
        "3.0",
        "3.1",
        "3.2",
    ]
    assert [entry["epoch"] for entry in position.history] == [1.0, 2.0, 3.0, 4.0]
    stage.events = []
    again = make_loop(stage, tmp_path, "training.epochs=9", "evaluation.patience=3").run()
    assert again == position
    assert stage.events == ["show"]  # it had stopped: nothing is trained, validated or reported


def test_an_error_in_a_step_ends_the_run_and_the_sampling_thread(stage, tmp_path):
    def fail(epoch: int, step: int) -> None:
        if (epoch, step) == (1, 1):
            raise ValueError("in the step")

    stage.values, stage.at_step = [0.1], fail
    trained = make_loop(stage, tmp_path, "training.epochs=3")
    with pytest.raises(ValueError, match="in the step"):
        trained.run()
    assert trained.position.epochs == 1
    assert len(trained.session.reports) == 1
