"""What thousands of tasks have in common is stored once."""

from __future__ import annotations

import os

import pytest
import ray

from mmssl_dist.cluster import connection
from mmssl_dist.cluster.connection import Cluster
from tests.ray.launch_functions import length_and_number


def test_an_argument_of_all_tasks_is_stored_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    records = {f"part-{number:05}": os.urandom(20) for number in range(1000)}
    stored: list[object] = []
    put = ray.put
    monkeypatch.setattr(ray, "put", lambda value: stored.append(value) or put(value))
    calls = [(records, number, "of all") for number in range(20)]
    assert cluster.run_tasks(length_and_number, calls) == [(1000, number) for number in range(20)]
    assert [value is records or value == "of all" for value in stored] == [True, True]
    # One call alone, or calls that have nothing in common, store nothing
    assert cluster.run_task(length_and_number, records, 7, "of one") == (1000, 7)
    assert cluster.run_tasks(length_and_number, [({}, 1, "a"), ({}, 2, "b")]) == [(0, 1), (0, 2)]
    assert len(stored) == 2
    assert connection._same_in_all([]) == {}
