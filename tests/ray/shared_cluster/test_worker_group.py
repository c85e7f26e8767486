"""Workers that serve one stage after the other, and what follows when one of them fails."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import ray

from mmssl_dist.errors import InputError, StorageFault, WorkerError
from mmssl_dist.launch.lazy_cluster import LazyCluster
from tests.ray import launch_functions
from tests.ray.launch_functions import group_job


@pytest.fixture
def lazy(cluster) -> Iterator[LazyCluster]:
    lazy = LazyCluster(lambda: cluster)
    yield lazy
    lazy.release_workers()


def _starts(folder: Path, rank: int) -> int:
    return len(list(folder.glob(f"start-{rank}-*")))


def test_two_stages_share_the_workers_and_tasks_run_among_them(lazy, caplog):
    job = group_job()
    with caplog.at_level(logging.INFO, "mmssl_dist"):
        first = lazy.workers(job, "evaluate").run(launch_functions.process_and_sum, "evaluate")
        second = lazy.workers(job, "export").run(launch_functions.process_and_sum, "export")
    assert first == second
    assert [total for _, total in first] == [1, 1]
    assert [r.message for r in caplog.records if r.name == "mmssl_dist.training"] == ["the sum is 1"] * 2
    assert lazy.run_task(os.getpid) == first[0][0]  # no CPU beside those of the workers is needed
    assert ray.available_resources().get("CPU", 0) == ray.cluster_resources()["CPU"] - 2
    lazy.release_workers()
    assert lazy.run_task(os.getpid) not in {process for process, _ in first}


def test_a_job_that_asks_for_other_workers_gets_others(lazy):
    one = group_job().model_copy(update={"scaling": group_job().scaling.model_copy(update={"workers": 1})})
    first = lazy.workers(group_job(), "evaluate").run(launch_functions.process_and_sum, "evaluate")
    (alone,) = lazy.workers(one, "evaluate").run(launch_functions.process_and_sum, "evaluate")
    assert alone[1] == 0
    assert alone[0] not in {process for process, _ in first}


def test_a_task_is_repeated_when_the_worker_it_ran_in_is_lost(lazy, caplog):
    (process, _), _ = lazy.workers(group_job(), "evaluate").run(launch_functions.process_and_sum, "evaluate")
    os.kill(process, signal.SIGKILL)
    assert lazy.run_task(os.getpid) != process
    assert "its work is repeated in a task" in caplog.text
    again = lazy.workers(group_job(), "export").run(launch_functions.process_and_sum, "export")
    assert [total for _, total in again] == [1, 1]


def test_input_error_of_one_worker_ends_the_stage_at_once(lazy, tmp_path):
    workers = lazy.workers(group_job(failures=3), "export")
    with pytest.raises(InputError) as caught:
        workers.run(partial(launch_functions.group_rejects_input, folder=str(tmp_path)), "export")
    assert caught.value.exit_status == 2
    assert str(caught.value) == "data/a.parquet, row 17: found NaN; features are finite. Remove the row."
    assert _starts(tmp_path, 1) == 1


def test_bug_in_one_worker_is_named_with_its_rank_and_not_tried_again(lazy, tmp_path):
    workers = lazy.workers(group_job(failures=3), "export")
    with pytest.raises(WorkerError, match="worker 1 failed: KeyError: 'no such modality'") as caught:
        workers.run(partial(launch_functions.group_has_a_bug, folder=str(tmp_path)), "export")
    assert "group_has_a_bug" in "".join(caught.value.__notes__)
    assert _starts(tmp_path, 1) == 1


def test_a_lost_worker_repeats_the_stage_on_new_ones(lazy, tmp_path, caplog):
    workers = lazy.workers(group_job(failures=1), "evaluate")
    function = partial(launch_functions.group_loses_a_worker, folder=str(tmp_path), times=1)
    assert workers.run(function, "evaluate") == (1, 1)
    assert _starts(tmp_path, 0) == _starts(tmp_path, 1) == 2
    (warning,) = [r.message for r in caplog.records if "the workers restart" in r.message]
    assert warning.startswith("evaluate: worker 1 failed: ActorDiedError")


def test_workers_lost_too_often_end_the_stage(lazy, tmp_path):
    workers = lazy.workers(group_job(failures=1), "evaluate")
    function = partial(launch_functions.group_loses_a_worker, folder=str(tmp_path), times=9)
    with pytest.raises(WorkerError, match="worker 1 failed: ActorDiedError"):
        workers.run(function, "evaluate")
    assert _starts(tmp_path, 1) == 2


@pytest.mark.parametrize(("times", "starts"), [(1, 2), (9, 2)])
def test_storage_that_does_not_answer_is_asked_by_new_workers_once(lazy, tmp_path, times, starts):
    workers = lazy.workers(group_job(failures=5), "evaluate")
    function = partial(launch_functions.group_without_storage, folder=str(tmp_path), times=times)
    if times == 1:
        assert workers.run(function, "evaluate") == (1, 1)
    else:
        with pytest.raises(StorageFault, match="s3://b/k: found HTTP status 503"):
            workers.run(function, "evaluate")
    assert _starts(tmp_path, 0) == starts
