"""Messages between workers that share memory, that do not, and where only some of them do."""

from __future__ import annotations

import errno
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from mmssl_dist.exchange import peer_memory, transport
from mmssl_dist.exchange.transport import Transport
from tests.processes import run_workers

ROUNDS = 40
PATHS = {  # the machine that each worker says to be on
    "one machine": lambda rank: 1,
    "a machine each": lambda rank: rank,
    "two machines": lambda rank: rank // 2,
}


def check_messages(rank: int, workers: int, path: str) -> list[bool]:
    """Random messages of every type, some of them empty, as large as a slot or larger than any message."""
    peer_memory._LEAST, peer_memory._SLOT, transport._MESSAGE_BYTES = 16, 4096, 20_000
    peer_memory._machine = lambda: PATHS[path](rank)
    sender = Transport(dist.group.WORLD, rank, workers)
    for seed in range(ROUNDS):
        rng = np.random.default_rng(seed)
        dtype = (torch.float32, torch.int64, torch.bfloat16, torch.bool)[seed % 4]
        width = int(rng.integers(1, 4))
        counts = rng.choice([0, 1, 5, 100, 4096 // (width * dtype.itemsize), 7000], (workers, workers))
        values = [
            [torch.from_numpy(rng.integers(0, 9, (n, width))).to(dtype) for n in of_one] for of_one in counts
        ]
        received = sender.all_to_all(torch.cat(values[rank]), counts[rank].tolist(), counts[:, rank].tolist())
        assert torch.equal(received, torch.cat([of_one[rank] for of_one in values]))
    assert sender.memory is not None
    return [sender.memory.shares(peer) for peer in range(workers)]


@pytest.mark.parametrize(
    ("path", "pairs"),
    [
        ("one machine", [[False, True, True], [True, False, True], [True, True, False]]),
        ("a machine each", [[False] * 3] * 3),
        ("two machines", [[False, True, False], [True, False, False], [False] * 3]),
    ],
)
def test_messages_arrive_by_every_path(path, pairs):
    assert run_workers(3, check_messages, 3, path) == pairs


def check_slow_reader(rank: int) -> int:
    """What arrived stays until this worker's next message, however far ahead the other one is."""
    sender = Transport(dist.group.WORLD, rank, 2)
    wrong = 0
    for number in range(50):
        mine, other = 100 * rank + number, 100 * (1 - rank) + number
        messages = sender.swap(torch.int64, [3000] * 2, [3000] * 2, lambda _, box, n=mine: box.fill_(n))
        if rank == 0:
            torch.ones(10**6).cumsum(0)  # the other one writes its next message meanwhile
        wrong += int((messages[1 - rank] != other).sum())
    return wrong


def test_nothing_is_written_over_before_it_is_read():
    assert run_workers(2, check_slow_reader) == [0, 0]


def check_two_on_one_group(rank: int) -> bool:
    """Each with messages of its own, by turns, as the exchanges of ``partition``."""
    senders = [Transport(dist.group.WORLD, rank, 2) for _ in range(2)]
    for number in range(20):
        count = 3000 + number
        values = torch.full((2 * count,), 10 * number + rank)
        received = senders[number % 3 % 2].all_to_all(values, [count] * 2, [count] * 2)
        assert torch.equal(received.view(2, -1)[:, -1], torch.tensor([10 * number, 10 * number + 1]))
    return senders[0].memory is senders[1].memory


def test_exchanges_on_one_group_have_one_memory():
    assert run_workers(2, check_two_on_one_group) == [True, True]


def check_refused(rank: int) -> list[bool]:
    def refuse(name: str) -> int:
        raise PermissionError(errno.EACCES, "refused", name)

    if rank == 1:
        os.memfd_create = refuse
    sender = Transport(dist.group.WORLD, rank, 2)
    assert sender.all_to_all(torch.full((4000,), rank), [2000] * 2, [2000] * 2)[[0, -1]].tolist() == [0, 1]
    assert sender.memory is not None
    return [sender.memory.shares(peer) for peer in range(2)]


def test_a_system_that_refuses_files_in_memory_uses_the_backend():
    assert run_workers(2, check_refused) == [[False, False]] * 2


def check_without_room(rank: int) -> tuple[list[bool], list[int]]:
    """One of the workers may have no more addresses."""
    if rank == 1:
        size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])
        resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (1 << 25), resource.RLIM_INFINITY))
    sender = Transport(dist.group.WORLD, rank, 2)
    received = sender.all_to_all(torch.full((4000,), rank), [2000] * 2, [2000] * 2)
    assert sender.memory is not None
    return [sender.memory.shares(peer) for peer in range(2)], received[[0, -1]].tolist()


def test_a_worker_without_room_for_shared_memory_uses_the_backend():
    assert run_workers(2, check_without_room) == [([False, False], [0, 1])] * 2


def test_memory_of_another_process_is_not_taken_for_a_workers():
    file = os.memfd_create("other")
    try:
        os.ftruncate(file, 8192)
        assert peer_memory._opened(os.getpid(), file, 8192, 5) is None
        os.write(file, (5).to_bytes(8, "little"))
        assert peer_memory._opened(os.getpid(), file, 8192, 5) is not None
        assert peer_memory._opened(os.getpid(), file, 1 << 20, 5) is None  # shorter
    finally:
        os.close(file)
    assert peer_memory._opened(os.getpid(), file, 8192, 5) is None
