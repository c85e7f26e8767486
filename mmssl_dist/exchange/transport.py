"""How tensors get from worker to worker: by memory that two of them share, or by the group's backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mmssl_dist.exchange.peer_memory import PeerMemory, peer_memory_of

_MESSAGE_BYTES = 64_000_000  # sent to one worker at once: gloo fails on very large messages


class Transport:
    """Messages between W > 1 workers, without gradients.

    Args:
        group: the process group.
        rank: this worker.
        world_size: W.
    """

    def __init__(self, group: dist.ProcessGroup, rank: int, world_size: int) -> None:
        self._group, self._rank, self._world_size = group, rank, world_size
        self._memory: PeerMemory | None = None

    @property
    def device(self) -> torch.device:
        """Where tensors have to be that the group's backend sends."""
        if dist.get_backend(self._group) == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    @property
    def memory(self) -> PeerMemory | None:
        """What workers of one machine share; None for tensors on devices (collective at first)."""
        # Not functools' cached_property: until Python 3.12 its lock is one for all instances, and threads of
        # two groups that come here in another order on another worker would wait for ever.
        if self._memory is None and self.device.type == "cpu":
            self._memory = peer_memory_of(self._group, self._rank, self._world_size)
        return self._memory

    def all_to_all(self, rows: Tensor, outgoing: Sequence[int], incoming: Sequence[int]) -> Tensor:
        """``rows``, cut by ``outgoing`` [W], to each worker; returns what arrives, cut by ``incoming`` [W]
        (collective).

        Rows on a device that the group's backend does not reach go by way of the machine's memory.
        """
        if rows.device.type != self.device.type:
            return self.all_to_all(rows.to(self.device), outgoing, incoming).to(rows.device)
        received = rows.new_empty((sum(incoming), *rows.shape[1:]))
        width = math.prod(rows.shape[1:])
        if not self._shares_any() and max(*outgoing, *incoming) * width <= _at_once(rows.dtype):
            # Collectives send memory as it lies; a view with strides would be refused.
            rows = rows.contiguous()
            dist.all_to_all_single(received, rows, list(incoming), list(outgoing), group=self._group)
            return received
        sent, arriving = torch.split(rows, list(outgoing)), torch.split(received, list(incoming))
        arriving[self._rank].copy_(sent[self._rank])
        messages = self.swap(
            rows.dtype,
            [count * width for count in outgoing],
            [count * width for count in incoming],
            lambda peer, message: message.copy_(sent[peer].reshape(-1)),
        )
        for peer, message in messages.items():
            arriving[peer].copy_(message.view_as(arriving[peer]))
        return received

    def swap(
        self,
        dtype: torch.dtype,
        outgoing: Sequence[int],
        incoming: Sequence[int],
        write: Callable[[int, Tensor], object],
    ) -> dict[int, Tensor]:
        """A message to each other worker, and one of each (collective).

        Args:
            dtype: of the values.
            outgoing, incoming: [W] how many values to and of each worker; this one's own do not count.
            write: fills the message to a worker, [outgoing[worker]].

        Returns:
            by worker, [incoming[worker]] values, which stay until the next message.
        """
        to, of = self._sent_by_backend(outgoing, dtype), self._sent_by_backend(incoming, dtype)
        leaving = torch.empty(sum(to), dtype=dtype, device=self.device)
        entering = torch.empty(sum(of), dtype=dtype, device=self.device)
        memory = self.memory
        sent = self._messages(outgoing, leaving, to, memory.outgoing if memory else None)
        arrived = self._messages(incoming, entering, of, memory.incoming if memory else None)
        for peer, message in sent.items():
            write(peer, message)
        # Between workers that share memory, also the sign that what is in it is whole.
        dist.all_to_all_single(entering, leaving, of, to, group=self._group)
        if memory is not None:
            memory.turn()
        self.between_ends(_large(sent), _large(arrived))
        return arrived

    def between_ends(self, sent: Mapping[int, Tensor], received: Mapping[int, Tensor]) -> None:
        """``sent`` to workers and ``received`` of workers, in slices. Both ends of a message have to know its
        length; workers without any need not know of it.

        Args:
            sent, received: [values] by worker.
        """
        longest = max((len(piece) for side in (sent, received) for piece in side.values()), default=0)
        at_once = max(
            (_at_once(piece.dtype) for side in (sent, received) for piece in side.values()), default=1
        )
        for start in range(0, longest, at_once):
            # Sends and receives are started together: one after the other, two ends that both send first
            # would wait for each other.
            messages = [
                dist.P2POp(operation, piece[start : start + at_once], group=self._group, group_peer=peer)
                for operation, side in ((dist.isend, sent), (dist.irecv, received))
                for peer, piece in side.items()
                if len(piece) > start
            ]
            for work in dist.batch_isend_irecv(messages):
                work.wait()

    def _shares_any(self) -> bool:
        return self.memory is not None and any(map(self.memory.shares, range(self._world_size)))

    def _sent_by_backend(self, counts: Sequence[int], dtype: torch.dtype) -> list[int]:
        """How many values of the messages with ``counts`` [W] values go by the backend."""
        sizes = []
        for peer, count in enumerate(counts):
            elsewhere = peer == self._rank or count > _at_once(dtype) or self._takes(peer, count, dtype)
            # At least one to a worker that shares memory: so neither is a message ahead of the other.
            least = int(self.memory is not None and self.memory.shares(peer))
            sizes.append(least if elsewhere else max(count, least))
        return sizes

    def _messages(
        self,
        counts: Sequence[int],
        buffer: Tensor,
        sizes: Sequence[int],
        in_memory: Callable[[int, int, torch.dtype], Tensor] | None,
    ) -> dict[int, Tensor]:
        """Where the messages of one side are, by worker: in shared memory; in the backend's ``buffer``, of
        which they have ``sizes``; or apart, where they are too large for it."""
        messages = {}
        for peer, (count, piece) in enumerate(zip(counts, torch.split(buffer, list(sizes)), strict=True)):
            if peer == self._rank:
                continue
            if in_memory is not None and self._takes(peer, count, buffer.dtype):
                messages[peer] = in_memory(peer, count, buffer.dtype)
            # Sent in slices by ``between_ends``, once the collective is over.
            elif count > _at_once(buffer.dtype):
                messages[peer] = buffer.new_empty(count)
            else:
                messages[peer] = piece[:count]
        return messages

    def _takes(self, peer: int, count: int, dtype: torch.dtype) -> bool:
        return self.memory is not None and self.memory.takes(peer, count * dtype.itemsize)


def _at_once(dtype: torch.dtype) -> int:
    """Values that a message of the backend may have."""
    return max(1, _MESSAGE_BYTES // dtype.itemsize)


def _large(messages: Mapping[int, Tensor]) -> dict[int, Tensor]:
    return {peer: message for peer, message in messages.items() if len(message) > _at_once(message.dtype)}
