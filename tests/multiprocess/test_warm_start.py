"""A training that starts from an earlier run: the same rows for the same ids, whoever holds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.graph.partition_files import load_feature_map
from mmssl_dist.launch.earlier_run import check_inputs, check_start, find_earlier_run, id_types_of, widths_of
from mmssl_dist.launch.warm_start import take_over
from mmssl_dist.launch.worker_data import external_ids, load_local_graph
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, publish
from mmssl_dist.training.checkpoint import GENERATOR, rows_file
from mmssl_dist.training.loop import Start, TrainingLoop
from mmssl_dist.training.state import TrainingState, initial_state
from tests.jobs import training_job
from tests.processes import run_workers
from tests.sessions import LocalSession
from tests.training import ITEMS, USERS, make_worker, publish_graph

TABLES = ("rows", "first_moment", "second_moment")
GONE = 5  # users and items of the earlier run that the later one lacks, and as many that it adds

Rows = dict[tuple[str, int], dict[str, Tensor]]


@dataclass
class Started:
    """What one worker has when it starts: tensors by side and external id, dense weights and figures."""

    rows: Rows
    dense: dict[str, Tensor]
    figures: dict[str, float]
    steps: int


def earlier_job(folder: Path, workers: int = 1, *sets: str) -> Job:
    return training_job(folder / "earlier", 2, workers, "training.epochs=2", *sets)


def later_job(folder: Path, workers: int = 1, *sets: str) -> Job:
    start = f"training.start_from={folder / 'earlier'}"
    return training_job(folder / "later", 2, workers, "partition.parts=3", "training.epochs=1", start, *sets)


def run_loop(rank: int, job: Job, session: LocalSession, start: Start | None = None) -> TrainingLoop:
    worker = make_worker(rank, job)
    graph = load_local_graph(job, worker)
    sampler = Exchange(dist.new_group(backend="gloo"), graph.book.worker_bounds(worker.world_size), rank)

    def validate(state: TrainingState) -> dict[str, float]:
        return {job.evaluation.metric: float(state.table.steps)}

    loop = TrainingLoop(
        job=job,
        worker=worker,
        graph=graph,
        exchange=graph.exchange(worker),
        sampler_exchange=sampler,
        session=session,
        validate=validate,
        start=start,
    )
    loop.run()
    return loop


def train_earlier(rank: int, folder: Path, *sets: str) -> None:
    """Train and publish as the stage does."""
    job = earlier_job(folder, 1, *sets)
    location = RunFolder.of(job).training.location
    run_loop(rank, job, LocalSession(Path(location.path) / "run"))
    checkpoint = max((Path(location.path) / "run").glob("checkpoint-*"))
    files = {}
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        files[f"run/{checkpoint.name}/{path.name}"] = FileRecord(
            len(content), hashlib.sha256(content).hexdigest()
        )
    publish(location, Manifest("training", "of a test", {"checkpoint": f"run/{checkpoint.name}"}, files))


def start_later(rank: int, folder: Path, workers: int, *sets: str) -> Started:
    job = later_job(folder, workers, *sets)
    worker = make_worker(rank, job)
    graph = load_local_graph(job, worker)
    exchange = graph.exchange(worker)
    state = initial_state(job, graph, worker.device)
    figures = take_over(job, worker, graph=graph, exchange=exchange, state=state)
    ids = external_ids(job, worker, graph)
    rows: Rows = {}
    for side, nodes, columns in (
        ("user", graph.users, [users for users, _ in ids]),
        ("item", graph.items, [items for _, items in ids]),
    ):
        external = [value for column in columns for value in column.to_pylist()]
        for node, value in zip(nodes.tolist(), external, strict=True):
            rows[side, value] = {name: getattr(state.table, name)[node].clone() for name in TABLES}
    return Started(rows, state.generator.state(), figures, state.table.steps)


def train_later_twice(rank: int, folder: Path) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Reports of a training with a start, and what its resumed successor knows of the start."""
    job = later_job(folder)
    session = LocalSession(folder / "session")

    def start(state: TrainingState) -> dict[str, float]:
        state.table.steps = 7
        return {"users/taken": 3.0}

    run_loop(rank, job, session, start)

    def never(state: TrainingState) -> dict[str, float]:
        raise AssertionError("a resumed training starts from its own checkpoint")

    return session.reports, dict(run_loop(rank, job, LocalSession(folder / "session"), never).position.start)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return with_earlier_run(tmp_path_factory.mktemp("warm-start"))


def with_earlier_run(folder: Path, *sets: str) -> Path:
    """``folder`` with the trained earlier run, and the partitions of the later one."""
    earlier, later = earlier_job(folder, 1, *sets), later_job(folder, 1, *sets)
    publish_graph(earlier)
    publish_graph(later, seed=1, users=range(GONE, USERS + GONE), items=range(GONE, ITEMS + GONE))
    RunFolder.of(earlier).job_file.write_bytes(yaml.safe_dump(earlier.model_dump(mode="json")).encode())
    run_workers(1, train_earlier, folder, *sets)
    return folder


@pytest.fixture(scope="module")
def started(folder) -> dict[int, list[Started]]:
    return {workers: run_workers(workers, start_later, folder, workers) for workers in (1, 2)}


@pytest.fixture(scope="module")
def earlier(folder) -> tuple[Rows, dict[str, Tensor], int]:
    """What the earlier run published: tensors by side and external id, dense weights, steps of the rows."""
    run = find_earlier_run(later_job(folder))
    rows: Rows = {}
    for part in range(len(run.book.users)):
        stored = load_file(Path(run.checkpoint.path) / rows_file(part))
        users, items = run.ids(part, folder)
        names = [("user", value) for value in users.to_pylist()]
        names += [("item", value) for value in items.to_pylist()]
        for row, name in enumerate(names):
            rows[name] = {table: stored[table][row] for table in TABLES}
    dense = load_file(Path(run.checkpoint.path) / GENERATOR)
    return rows, dense, int(dense["steps"])


def test_rows_and_moments_follow_their_ids(started, earlier):
    theirs, dense, steps = earlier
    (own,) = started[1]
    common = own.rows.keys() & theirs.keys()
    assert len(common) == USERS + ITEMS - 2 * GONE
    for name in common:
        for table in TABLES:
            assert torch.equal(own.rows[name][table], theirs[name][table]), (name, table)
    assert own.steps == steps > 0
    for name, value in dense.items():
        assert torch.equal(own.dense[name].flatten(), value.flatten()), name
    assert own.figures == {
        "users/taken": USERS - GONE,
        "users/new": GONE,
        "users/gone": GONE,
        "items/taken": ITEMS - GONE,
        "items/new": GONE,
        "items/gone": GONE,
    }


def check_partitions(job, partitions):
    check_inputs(job, id_types_of(partitions.facts), widths_of(partitions.facts))


def test_weights_of_reduced_features_are_turned_into_the_later_run_s_directions(tmp_path):
    sets = "partition.feature_dimensions=3", "partition.method=random"
    folder = with_earlier_run(tmp_path, *sets)
    job = later_job(folder, 1, *sets)
    check_partitions(job, RunFolder.of(job).partitions.require())
    run = find_earlier_run(job)
    dense = load_file(Path(run.checkpoint.path) / GENERATOR)
    for workers in (1, 2):
        own = run_workers(workers, start_later, folder, workers, *sets)[0].dense
        for modality, before in run.feature_maps(("image", "text"), folder).items():
            partitions = RunFolder.of(job).partitions
            after = load_feature_map(partitions.location, partitions.require(), modality, folder)
            name = f"projections.modality_{modality}.weight"
            # What the earlier weights make of raw features, of those features that the later run still sees.
            raw = dense[name].double().numpy() @ before.components.T @ after.components
            np.testing.assert_allclose(own[name].double().numpy(), raw, rtol=1e-5, atol=1e-6)
            assert own[f"exp_avg_sq.{name}"].min() >= 0


def test_widths_before_reduction_are_compared(folder):
    job = later_job(folder)
    partitions = RunFolder.of(job).partitions.require()
    partitions.facts["reduced"] = {"text": {"from": 9, "kept": 0.5}}
    with pytest.raises(InputError, match=r"text with 9 values, where the earlier run has 6"):
        check_partitions(job, partitions)


def test_new_nodes_start_among_their_neighbours_and_as_long_as_known_rows(started, earlier):
    (own,) = started[1]
    for side in ("user", "item"):
        known = [row["rows"] for name, row in own.rows.items() if name[0] == side and name in earlier[0]]
        new = [row for name, row in own.rows.items() if name[0] == side and name not in earlier[0]]
        length = torch.stack(known).norm(dim=1).mean()
        assert len(new) == GONE
        for row in new:
            assert row["rows"].norm() == pytest.approx(float(length), rel=1e-5)
            assert not row["first_moment"].any()


def test_the_number_of_workers_does_not_matter(started):
    (one,) = started[1]
    two = {name: row for worker in started[2] for name, row in worker.rows.items()}
    assert two.keys() == one.rows.keys()
    for name, row in one.rows.items():
        for table in TABLES:
            torch.testing.assert_close(two[name][table], row[table], atol=1e-6, rtol=1e-5)
    assert [worker.figures for worker in started[2]] == [one.figures] * 2


def test_the_state_before_the_first_step_is_epoch_0_and_a_resumed_training_does_not_start_again(folder):
    ((reports, start),) = run_workers(1, train_later_twice, folder)
    assert [report["epoch"] for report in reports] == [0, 1]
    assert reports[0]["recall@20"] == 7
    assert start == {"users/taken": 3.0, "recall@20": 7.0}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("model.dimension=32",), "model.dimension 32, where the earlier run has 16"),
        (("training.rows.second_moment=row",), "second_moment row, where the earlier run has element"),
    ],
)
def test_runs_with_rows_of_another_shape_are_refused(folder, sets, message):
    job = training_job(folder / "later", 2, 1, f"training.start_from={folder / 'earlier'}", *sets)
    with pytest.raises(InputError, match=message):
        check_start(job)


def test_other_modalities_and_widths_are_refused(folder):
    start = f"training.start_from={folder / 'earlier'}"
    with pytest.raises(InputError, match="modalities image, where the earlier run has image, text"):
        check_start(training_job(folder / "later", 1, 1, start))
    job = later_job(folder)
    check_start(job)
    partitions = RunFolder.of(job).partitions.require()
    check_partitions(job, partitions)
    partitions.facts["modalities"]["text"] += 1
    with pytest.raises(InputError, match="features of text with 7 values, where the earlier run has 6"):
        check_partitions(job, partitions)


def test_a_folder_without_a_trained_run_is_refused(folder):
    job = training_job(folder / "later", 2, 1, f"training.start_from={folder / 'nothing'}")
    with pytest.raises(InputError, match=r"training\.start_from: found .*no published partitions"):
        check_start(job)
