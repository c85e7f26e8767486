"""The helper itself: results by rank, failures with their tracebacks, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
import torch
import torch.distributed as dist

from tests.processes import WorkerFailure, run_workers


def add_ranks(rank: int, start: int) -> torch.Tensor:
    value = torch.tensor([start + rank])
    dist.all_reduce(value)
    return value


def fail_on_one(rank: int) -> None:
    if rank == 1:
        raise ValueError("the cause")
    dist.barrier()


def die_on_one(rank: int) -> None:
    if rank == 1:
        os._exit(7)
    dist.barrier()


def sleep_on_one(rank: int) -> None:
    if rank == 1:
        time.sleep(600)


def test_results_come_by_rank() -> None:
    assert [value.tolist() for value in run_workers(2, add_ranks, 10)] == [[21], [21]]
    assert [value.tolist() for value in run_workers(1, add_ranks, 10)] == [[10]]


def test_a_failure_shows_its_traceback() -> None:
    with pytest.raises(
        WorkerFailure, match=r"rank 1, exit code 1(.|\n)*in fail_on_one(.|\n)*ValueError: the cause"
    ):
        run_workers(2, fail_on_one)
    assert not multiprocessing.active_children()


def test_a_death_is_noticed() -> None:
    with pytest.raises(WorkerFailure, match="rank 1, exit code 7:\nno traceback"):
        run_workers(2, die_on_one)


def test_a_hang_ends_at_the_time_limit_and_says_where() -> None:
    run_workers(1, add_ranks, 0)  # whatever is imported at the first start does not count
    with pytest.raises(TimeoutError, match=r"ranks \[(0, )?1\] of 2(.|\n)*in sleep_on_one"):
        run_workers(2, sleep_on_one, timeout=10)
    assert not multiprocessing.active_children()
