"""Memory that the workers of one machine share, for messages between them.

What goes through a socket is copied into the kernel and out of it, in pieces: by gloo on the loopback
interface 14 MB each way take 11 ms, which are copied in 2. Here the sender writes where the receiver reads.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import weakref
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

_SLOT = 1 << 24  # bytes of a message; pages that no message reached take no memory
_LEAST = 1 << 12  # bytes from which it is faster than a socket, through which a sign has to go in any case
_HEAD = mmap.PAGESIZE  # bytes ahead of the slots, whose first 8 tell one worker's memory from another's
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


_of_groups: weakref.WeakKeyDictionary[dist.ProcessGroup, PeerMemory] = weakref.WeakKeyDictionary()


def peer_memory_of(group: dist.ProcessGroup, rank: int, world_size: int) -> PeerMemory:
    """The memory of a group, which all that send over it share, one message after the other (collective at
    first). Arguments as of ``PeerMemory``."""
    memory = _of_groups.get(group)
    if memory is None:
        memory = _of_groups[group] = PeerMemory(group, rank, world_size)
    return memory


class PeerMemory:
    """What one worker writes for each of the others, and where it reads what they wrote.

    Two slots for each pair of workers take turns: a worker that has the others' sign for one message knows
    that they have read the one before. The memory has no name, so nothing stays of it when the workers end,
    however they do.

    Args:
        group: the process group of all workers, which is asked at once (collective).
        rank: this worker.
        world_size: how many workers there are.
    """

    def __init__(self, group: dist.ProcessGroup, rank: int, world_size: int) -> None:
        self.rank, self._world_size, self._turn = rank, world_size, 0
        size = _HEAD + 2 * world_size * _SLOT
        # 63 bits, which fit the int64 that it travels in.
        token = secrets.randbits(63)
        own = _anonymous_memory(size, token)
        file = -1 if own is None else own[0]
        self._maps: dict[int, mmap.mmap] = {} if own is None else {rank: own[1]}
        peers = _gathered(group, world_size, [_machine(), os.getpid(), file, token])
        machine = peers[rank][0]
        for peer, (of, process, peers_file, expected) in enumerate(peers):
            if peer != rank and own is not None and of == machine and peers_file >= 0:
                opened = _opened(process, peers_file, size, expected)
                if opened is not None:
                    self._maps[peer] = opened
        # Both ends of a pair have to know whether they share memory.
        reached = _gathered(group, world_size, [int(peer in self._maps) for peer in range(world_size)])
        self._shares = [bool(reached[rank][peer] and reached[peer][rank]) for peer in range(world_size)]
        if own is not None:
            os.close(file)  # all who can have it mapped by now

    def shares(self, peer: int) -> bool:
        """Whether this worker and another one read each other's memory."""
        return peer != self.rank and self._shares[peer]

    def takes(self, peer: int, size: int) -> bool:
        """Whether a message of ``size`` bytes to or from a worker goes through memory."""
        return self.shares(peer) and _LEAST < size <= _SLOT

    def outgoing(self, peer: int, count: int, dtype: torch.dtype) -> Tensor:
        """Where to write ``count`` values for a worker."""
        return self._values(self.rank, peer, count, dtype)

    def incoming(self, peer: int, count: int, dtype: torch.dtype) -> Tensor:
        """Where ``count`` values of a worker are; they stay until this worker's next message."""
        return self._values(peer, self.rank, count, dtype)

    def turn(self) -> None:
        """Goes on to the other slots: after each message, whether it went through memory or not."""
        self._turn = 1 - self._turn

    def _values(self, writer: int, reader: int, count: int, dtype: torch.dtype) -> Tensor:
        offset = _HEAD + (self._turn * self._world_size + reader) * _SLOT
        return torch.frombuffer(self._maps[writer], dtype=dtype, count=count, offset=offset)


def _anonymous_memory(size: int, token: int) -> tuple[int, mmap.mmap] | None:
    """A file in memory without a name, mapped, which begins with ``token``; None where the system has no such
    files or refuses them, or no room for it among this process's addresses."""
    if not hasattr(os, "memfd_create"):  # not Linux
        return None
    try:
        file = os.memfd_create("mmssl-dist-messages")
    except OSError:
        return None
    try:
        os.ftruncate(file, size)
        mapped = mmap.mmap(file, size)
    except OSError:
        os.close(file)
        return None
    mapped[:8] = token.to_bytes(8, "little")
    return file, mapped


def _machine() -> int:
    """A number for this machine and its numbers of processes, which containers have of their own."""
    if not (_BOOT.exists() and _PROCESSES.exists()):
        return secrets.randbits(63)  # no other worker's
    names = f"{_BOOT.read_text()} {os.readlink(_PROCESSES)}"
    return int.from_bytes(hashlib.sha256(names.encode()).digest()[:8], "little") >> 1


def _opened(process: int, file: int, size: int, token: int) -> mmap.mmap | None:
    """Another process's file in memory; None where the system does not let this one have it."""
    try:
        opened = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR)
    except OSError:
        return None
    try:
        mapped = mmap.mmap(opened, size)
    except (OSError, ValueError):  # it is another file, and shorter
        return None
    finally:
        os.close(opened)
    # A file of this size may still be another one: numbers of processes and of files are used again.
    return mapped if mapped[:8] == token.to_bytes(8, "little") else None


def _gathered(group: dist.ProcessGroup, world_size: int, numbers: list[int]) -> list[list[int]]:
    """The ``numbers`` of each worker (collective)."""
    mine = torch.tensor(numbers, dtype=torch.int64)
    of_all = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(of_all, mine, group=group)
    return [of_one.tolist() for of_one in of_all]
