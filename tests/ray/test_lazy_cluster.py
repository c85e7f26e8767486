"""The order in which a command's workers and its Ray end."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from mmssl_dist.errors import InputError
from mmssl_dist.launch.lazy_cluster import lazy_cluster
from tests.ray import launch_functions
from tests.ray.launch_functions import group_job


@pytest.fixture
def own_ray(monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Ray's workers inherit it and import tests.ray.launch_functions
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_workers_that_no_stage_released_end_before_their_ray(own_ray):
    job = group_job()
    with lazy_cluster(job) as lazy:
        lazy.connect()
        assert not ray._private.state.actors()  # a log that nobody writes to takes no process
        results = lazy.workers(job, "evaluate").run(launch_functions.process_and_sum, "evaluate")
    assert len(results) == 2
    assert not ray.is_initialized()


def test_an_error_beside_running_workers_is_the_one_that_is_raised(own_ray):
    job = group_job()

    def fail() -> None:
        with lazy_cluster(job) as lazy:
            lazy.workers(job, "evaluate")
            raise InputError("metrics.json", "nothing", "there are metrics", "Evaluate again.")

    with pytest.raises(InputError, match=r"metrics\.json"):
        fail()
    assert not ray.is_initialized()
