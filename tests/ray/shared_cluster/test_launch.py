"""Workers on Ray Train: results, errors and checkpoints come back from real processes with a gloo group."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.fs as pafs
import pytest
import ray

from mmssl_dist.cluster.capacity import await_room
from mmssl_dist.cluster.connection import Cluster, require_resources, worker_environment
from mmssl_dist.cluster.shared_paths import unseen
from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Scaling
from mmssl_dist.errors import InputError, StorageFault, WorkerError
from mmssl_dist.launch.run_workers import RunSettings, run_workers
from mmssl_dist.storage import Location
from tests.jobs import make_job
from tests.ray import launch_functions
from tests.servers import Refusal, client, refusing_server


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job(seed=5, scaling={"workers": 2}, training={"timeout_seconds": 60})


def _run(tmp_path: Path, **settings: Any) -> RunSettings:
    folder = tmp_path / "storage"
    storage = Location(pafs.LocalFileSystem(), str(folder), str(folder))
    return RunSettings(storage=storage, name="run", **settings)


def _starts(folder: Path, rank: int) -> int:
    return len(list(folder.glob(f"start-{rank}-*")))


def test_every_worker_gets_job_identity_and_group(cluster, job, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "mmssl_dist"):
        function = partial(launch_functions.sum_of_ranks, offset=10)
        outcome = run_workers(cluster, job, function, stage="test", run=_run(tmp_path))
    common = {"sum": 21, "seed": 5, "cache": True, "fanout": (10, 10), "threads": "1", "device": "cpu"}
    assert outcome.returned == ({"rank": 0, **common}, {"rank": 1, **common})
    assert [r.message for r in caplog.records if r.name == "mmssl_dist.training"] == ["the sum is 21"]
    _only_what_is_needed_was_started()


def _only_what_is_needed_was_started() -> None:
    """Of Ray's services and Ray Train's actors: each of the others takes seconds of a start."""
    commands = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended in the meantime
            commands.append(" ".join(process.cmdline()))
    assert any("/raylet/raylet" in command for command in commands)
    assert not [name for name in commands if re.search(r"/(dashboard|monitor|log_monitor)\.py", name)]
    actors = {actor["ActorClassName"] for actor in ray._private.state.actors().values()}
    assert {"TrainController", "RayTrainWorker"} <= actors
    without_use = {
        "DatasetManager",
        "PlacementGroupCleaner",
        "PreemptionWatcher",
        "_AutoscalingCoordinatorActor",
    }
    assert not actors & without_use


def test_input_error_of_one_worker_ends_the_run_at_once(cluster, job, tmp_path):
    with pytest.raises(InputError) as caught:
        run_workers(
            cluster,
            job,
            partial(launch_functions.second_worker_rejects_input, folder=str(tmp_path)),
            stage="test",
            run=_run(tmp_path, max_failures=3),
        )
    assert caught.value.exit_status == 2
    assert str(caught.value) == "data/a.parquet, row 17: found NaN; features are finite. Remove the row."
    assert _starts(tmp_path, 1) == 1


def _stored(
    tmp_path: Path, cluster: Cluster, fails_while: Callable[[], bool], failures: int
) -> tuple[str, ...]:
    """What two workers read from an S3 server that answers 503 while ``fails_while()``."""
    refusal = Refusal(
        status=503, code="SlowDown", methods=("GET", "HEAD"), matches=lambda path: fails_while()
    )
    with refusing_server(refusal, otherwise_moto=True) as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        s3 = client(endpoint)
        s3.create_bucket(Bucket="faults")
        s3.put_object(Bucket="faults", Key="greeting", Body=b"hello")
        job = make_job(
            scaling={"workers": 2},
            training={"timeout_seconds": 60},
            storage={"endpoint": endpoint, "region": "us-east-1", "path_style": True, "retries": 0},
        )
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        with_keys = replace(cluster, environment={**cluster.environment, **keys})
        function = partial(
            launch_functions.reads_from_object_storage, folder=str(tmp_path), url="s3://faults/greeting"
        )
        run = _run(tmp_path, max_failures=failures)
        return run_workers(with_keys, job, function, stage="test", run=run).returned


def test_storage_that_does_not_answer_for_a_while_starts_the_workers_again(cluster, tmp_path):
    assert _stored(tmp_path, cluster, lambda: _starts(tmp_path, 0) < 2, 3) == ("hello", "hello")
    assert _starts(tmp_path, 0) == 2


def test_storage_that_does_not_answer_twice_ends_the_run(cluster, tmp_path, caplog):
    with pytest.raises(StorageFault, match=r"s3://faults/greeting: found .*503") as caught:
        _stored(tmp_path, cluster, lambda: True, 3)
    assert caught.value.exit_status == 1
    assert _starts(tmp_path, 0) == 2
    (warning,) = [r.message for r in caplog.records if "the workers restart" in r.message]
    assert re.match(r"test: s3://faults/greeting: found .*503", warning)


def test_bug_in_one_worker_is_named_with_its_rank_and_not_tried_again(cluster, job, tmp_path):
    with pytest.raises(WorkerError, match="worker 1 failed: KeyError: 'no such modality'") as caught:
        run_workers(
            cluster,
            job,
            partial(launch_functions.second_worker_has_a_bug, folder=str(tmp_path)),
            stage="test",
            run=_run(tmp_path, max_failures=3),
        )
    assert caught.value.exit_status == 1
    assert "second_worker_has_a_bug" in "".join(caught.value.__notes__)
    assert _starts(tmp_path, 1) == 1


def test_killed_worker_resumes_from_latest_checkpoint_and_best_are_kept(cluster, job, tmp_path):
    run = _run(tmp_path, max_failures=1, keep=1, metric="recall@20")
    function = partial(launch_functions.dies_after_second_epoch, folder=str(tmp_path))
    outcome = run_workers(cluster, job, function, stage="test", run=run)
    assert (tmp_path / "killed").exists()
    assert _starts(tmp_path, 1) == 2
    assert outcome.returned == ([2, 3], [2, 3])
    best = max(outcome.checkpoints, key=lambda c: c.metrics["recall@20"])
    assert (best.metrics["epoch"], best.metrics["recall@20"]) == (1, 0.4)
    assert sorted(p.name for p in Path(best.path).iterdir()) == ["shard-0.json", "shard-1.json"]

    again = run_workers(
        cluster, job, function, stage="test", run=run
    )  # the same storage and name: nothing is left to do
    assert again.returned == ([], [])
    assert {c.path for c in again.checkpoints} == {c.path for c in outcome.checkpoints}


def test_a_worker_that_hangs_is_named_by_the_one_that_waits(cluster, job, tmp_path):
    with pytest.raises(
        WorkerError, match=r"worker 0 failed: LostWorkerError: worker 1 sent no heartbeat for 10 s"
    ):
        run_workers(cluster, job, launch_functions.second_worker_stops, stage="test", run=_run(tmp_path))


def _double(number: int) -> int:
    logging.getLogger("mmssl_dist.graph").info("doubling %d", number)
    return 2 * number


def _reject() -> None:
    raise InputError("data/b.csv", "empty", "a split has rows", "Add some.")


def _divide() -> float:
    return 1 / 0


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (_reject, InputError, "data/b.csv: found empty"),
        (_divide, WorkerError, "_divide failed: ZeroDivisionError"),
    ],
)
def test_task_errors_arrive_unwrapped(cluster, function, error, message):
    with pytest.raises(error, match=message):
        cluster.run_task(function)


def _variable(name: str) -> str | None:
    return os.environ.get(name)


def test_tasks_have_the_variables_of_workers_and_the_driver_has_not(cluster, job):
    variables = worker_environment(job.scaling, job.storage)
    assert {name: cluster.run_task(_variable, name) for name in variables} == variables
    assert "MALLOC_TOP_PAD_" not in os.environ


def test_task_returns_and_logs_to_the_driver(cluster, caplog):
    with caplog.at_level(logging.INFO, "mmssl_dist"):
        assert cluster.run_task(_double, 21) == 42
    assert [r.message for r in caplog.records if r.name == "mmssl_dist.graph"] == ["doubling 21"]


def test_workers_that_can_never_start_are_refused_in_seconds(cluster):
    started = time.monotonic()
    with pytest.raises(InputError, match=r"found 4 worker\(s\) of 2 CPU each; .* room for 1 worker\(s\)"):
        require_resources(Scaling(workers=4, cpus_per_worker=2))
    with pytest.raises(InputError, match=r"1 CPU, 1 GPU each; the Ray cluster has 3 CPU, 0 GPU in all"):
        require_resources(Scaling(gpus_per_worker=1))
    assert time.monotonic() - started < 5
    require_resources(Scaling(workers=3))
    require_resources(Scaling(workers=(3, 9)))
    with pytest.raises(InputError, match=r"found 1 worker\(s\) of 1 CPU, accelerator_type:L4 each"):
        require_resources(Scaling(accelerator="L4"))


def test_a_path_that_a_machine_does_not_see_is_named_with_the_machine(cluster, tmp_path):
    result = unseen({"data.path": str(tmp_path), "output": str(tmp_path / "none")})
    assert list(result) == ["output"]
    assert result["output"].count(".") == 3  # an address
    assert unseen({}) == {}


def test_room_that_does_not_come_is_waited_for_with_a_line_and_a_limit(cluster, caplog):
    await_room([{"CPU": 1.0}], 1, "test")
    assert caplog.records == []
    started = time.monotonic()
    with caplog.at_level(logging.INFO, "mmssl_dist"), pytest.raises(InputError) as caught:
        await_room([{"CPU": 2.0}] * 4, 3, "train")
    assert time.monotonic() - started < 10
    assert "train: waiting for room for 4 worker(s) of 2 CPU each; free now: 3 CPU;" in caplog.text
    assert str(caught.value).startswith(
        "scaling.wait_seconds: found no room for 4 worker(s) of 2 CPU each after 3 s; "
        "the Ray cluster must have it free by then (free now: 3 CPU)."
    )
    await_room([{"CPU": 1.0}] * 3, 1, "test")  # what was reserved is free again
