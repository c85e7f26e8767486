"""Exchange: ids go to the workers that own them, rows come back, and gradients of those rows return by
the same route.

Every user and item is a node, and a worker owns one contiguous range of node ids, so finding owners of sorted
ids is W binary searches. With one worker each call is plain indexing and nothing is sent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from mmssl_dist.exchange.expected_counts import HEAD, ExpectedCounts
from mmssl_dist.exchange.transport import Transport
from mmssl_dist.exchange.with_gradients import GatherTogether, SendRows, SendTogether, SplitSizes


@dataclass(frozen=True)
class Route:
    """Who asks whom for how many rows, known on both sides once the ids have travelled.

    Attributes:
        received_counts: [W] numbers of rows this worker receives from each worker.
        requested: int64 local row numbers this worker sends, requester by requester; within one, sorted and
            unique.
        requested_counts: [W] how many of them each requester gets.
        announced: [W] the number that each worker sent along with what it asks for.
    """

    received_counts: tuple[int, ...]
    requested: Tensor
    requested_counts: tuple[int, ...]
    announced: tuple[int, ...] = ()

    def to(self, device: torch.device) -> Route:
        """The same route with its tensors on ``device``."""
        return replace(self, requested=self.requested.to(device))


@dataclass
class Traffic:
    """What an exchange moved since ``take`` was last called.

    Attributes:
        seconds: in collectives, waiting for the other workers included.
        bytes_sent: to other workers.
        rows, local_rows: rows asked for, and those of them that this worker owns.
    """

    seconds: float = 0.0
    bytes_sent: int = 0
    rows: int = 0
    local_rows: int = 0

    def take(self) -> Traffic:
        """The counts so far; all of them return to zero."""
        taken = replace(self)
        self.seconds, self.bytes_sent, self.rows, self.local_rows = 0.0, 0, 0, 0
        return taken


class Exchange:
    """Moves rows between the W workers of a process group.

    Args:
        group: the process group; None for a single worker.
        bounds: [W + 1] int64, first node id of each worker, then the number of nodes.
        rank: this worker.
        wire_dtype: what float32 rows that go out together, and their gradients, travel as; None as they are.

    Attributes:
        traffic: what it has moved; not what DeepSpeed reduces.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        bounds: np.ndarray,
        rank: int,
        wire_dtype: torch.dtype | None = None,
    ) -> None:
        self.wire_dtype = wire_dtype
        self.group, self.rank, self.world_size = group, rank, len(bounds) - 1
        self.traffic = Traffic()
        self._transport = None if group is None else Transport(group, rank, self.world_size)
        self._expected: dict[str, ExpectedCounts] = {}
        self.bounds = torch.from_numpy(np.ascontiguousarray(bounds, dtype=np.int64))
        # Else every collective below would quietly use the default group.
        if self.world_size > 1 and group is None:
            raise ValueError(f"{self.world_size} workers need a process group")

    @property
    def wire(self) -> torch.dtype:
        """What node ids travel as: int32, half the bytes, where all of them fit."""
        return torch.int32 if int(self.bounds[-1]) < 2**31 else torch.int64

    @property
    def first(self) -> int:
        """The first node id this worker owns."""
        return int(self.bounds[self.rank])

    @property
    def rows(self) -> int:
        """How many nodes this worker owns."""
        return int(self.bounds[self.rank + 1]) - self.first

    def route(self, ids: Tensor, announce: int = 0, series: str | None = None) -> Route:
        """Tell each owner which of its rows this worker wants.

        Args:
            ids: int64 node ids, sorted and unique. announce: a number that every worker is to know.
            series: name of routes that are much alike, such as those of a hop: the number of ids then
                travels with them, in one message instead of two.
        """
        self.traffic.rows += len(ids)
        if self.world_size == 1:
            self.traffic.local_rows += len(ids)
            return Route((len(ids),), ids, (len(ids),), (announce,))
        # Ids are sorted and owners hold ranges, so W searches cut them by owner.
        cuts = torch.searchsorted(ids, self.bounds.to(ids.device)).tolist()
        counts = tuple(b - a for a, b in pairwise(cuts))
        self.traffic.local_rows += counts[self.rank]
        wanted = ids.to(self.wire)
        if series is not None:
            expected = self._expected.setdefault(
                series, ExpectedCounts([0] * self.world_size, [0] * self.world_size)
            )
            requested, requested_counts, announced = self._with_counts(wanted, counts, announce, expected)
        else:
            # Both numbers in one message: a round trip costs far more than eight more bytes.
            numbers = torch.tensor([[count, announce] for count in counts], device=self.device)
            ones = (1,) * self.world_size
            requested_counts, announced = map(tuple, self.all_to_all(numbers, ones, ones).T.tolist())
            requested = self.all_to_all(wanted, counts, requested_counts)
        return Route(counts, requested.to(torch.int64).sub_(self.first), requested_counts, announced)

    def subroute(self, route: Route, wanted: Tensor, requested: Tensor) -> Route:
        """The route of some rows of ``route``, which both ends know without a message.

        Args:
            wanted: bool [sum(route.received_counts)], which rows this worker asks for. requested: bool
                [len(route.requested)], which rows it sends.
        """
        return Route(
            received_counts=_segment_sums(wanted.to(torch.int64), route.received_counts),
            requested=route.requested[requested],
            requested_counts=_segment_sums(requested.to(torch.int64), route.requested_counts),
        )

    def fetch(self, route: Route, rows: Tensor) -> Tensor:
        """The rows this worker asked for, in the order of its ids; differentiable.

        Args:
            rows: [len(route.requested), ...], this worker's rows ``route.requested``, which others asked for.
        """
        return self.send(rows, route.requested_counts, route.received_counts)

    def fetch_ragged(
        self, route: Route, counts: Tensor, values: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Rows of different lengths: the counts and, for each of ``values``, the concatenated entries.

        Args:
            counts: int64 [len(route.requested)], length of each requested row.
            values: tensors [sum(counts), ...], the rows' entries.
        """
        if self.world_size == 1:
            return counts, list(values)
        # First the lengths: what arrives next is cut by them. Those of single rows fit into 32 bits.
        received = self.fetch(route, counts.to(torch.int32)).to(torch.int64)
        outgoing = _segment_sums(counts, route.requested_counts)
        incoming = _segment_sums(received, route.received_counts)
        return received, [self.send(value, outgoing, incoming) for value in values]

    def send(self, rows: Tensor, outgoing: Sequence[int], incoming: Sequence[int]) -> Tensor:
        """Send ``rows``, cut by ``outgoing`` [W], and return what arrives, cut by ``incoming`` [W];
        differentiable."""
        if self.world_size == 1:
            return rows
        counts = tuple(outgoing), tuple(incoming)
        result: Tensor = SendRows.apply(rows, *counts, self)  # type: ignore[no-untyped-call]
        return result

    def send_together(self, parts: Sequence[tuple[Tensor, Sequence[int], Sequence[int]]]) -> list[Tensor]:
        """``send`` of several (rows, outgoing, incoming) in one message each way; all rows have one type.

        What stays on this worker is copied past the collective. With ``wire_dtype``, float32 numbers travel
        in it.
        """
        if self.world_size == 1:
            return [rows for rows, _, _ in parts]
        splits = [(tuple(outgoing), tuple(incoming)) for _, outgoing, incoming in parts]
        tensors = [rows for rows, _, _ in parts]
        arrived = SendTogether.apply(self, splits, *tensors)  # type: ignore[no-untyped-call]
        return list(arrived)

    def swap_counts(self, outgoing: Sequence[int]) -> tuple[int, ...]:
        """How many rows each worker will send here, given how many this one sends to each of them."""
        if self.world_size == 1:
            return tuple(outgoing)
        sent = torch.tensor(outgoing, dtype=torch.int64, device=self.device)
        ones = (1,) * self.world_size
        return tuple(self.all_to_all(sent, ones, ones).tolist())

    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Rows of all workers, worker by worker; differentiable: gradients from everywhere are summed at
        home.

        Args:
            counts: [W] how many rows each worker contributes, see ``gather_counts``.
        """
        return self.gather_together([(rows, counts)])[0]

    def gather_together(self, parts: Sequence[tuple[Tensor, Sequence[int]]]) -> list[Tensor]:
        """``gather_rows`` of several (rows, counts) in one message each way."""
        if self.world_size == 1 or not parts:
            return [rows for rows, _ in parts]
        counts = [tuple(of_part) for _, of_part in parts]
        tensors = [rows for rows, _ in parts]
        gathered = GatherTogether.apply(self, counts, *tensors)  # type: ignore[no-untyped-call]
        return list(gathered)

    def gather_counts(self, count: int) -> tuple[int, ...]:
        """``count`` of each worker."""
        return self.swap_counts((count,) * self.world_size)

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over the workers; same on each of them, not differentiable."""
        if self.world_size == 1:
            return values.detach()
        # A clone, since the collective writes its result over what it is given.
        total = values.detach().clone().to(self.device)
        with self._timed():
            dist.all_reduce(total, group=self.group)
        return total.to(values.device)

    def max(self, value: int) -> int:
        """The largest ``value`` of any worker."""
        if self.world_size == 1:
            return value
        largest = torch.tensor([value], dtype=torch.int64, device=self.device)
        with self._timed():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.group)
        return int(largest)

    def all_to_all(self, rows: Tensor, outgoing: Sequence[int], incoming: Sequence[int]) -> Tensor:
        """``send`` without a gradient, for more than one worker."""
        per_row = math.prod(rows.shape[1:]) * rows.element_size()
        self.traffic.bytes_sent += per_row * (sum(outgoing) - outgoing[self.rank])
        with self._timed() as transport:
            return transport.all_to_all(rows, outgoing, incoming)

    def together(self, parts: Sequence[Tensor], splits: Sequence[SplitSizes]) -> tuple[Tensor, ...]:
        """``send_together`` without a gradient."""
        widths = [math.prod(rows.shape[1:]) for rows in parts]
        sent = [torch.split(rows, list(outgoing)) for rows, (outgoing, _) in zip(parts, splits, strict=True)]
        # Only floats: an id rounded to bf16's eight significant bits would be another id.
        dtype = self.wire_dtype if parts[0].dtype == torch.float32 and self.wire_dtype else parts[0].dtype

        def sizes(side: int) -> list[list[int]]:  # by peer, of each part
            return [
                [split[side][peer] * width for split, width in zip(splits, widths, strict=True)]
                for peer in range(self.world_size)
            ]

        def write(peer: int, message: Tensor) -> None:
            pieces = [of_part[peer].reshape(-1) for of_part in sent]
            # ``cat`` writes to memory of its own device only; rows on a GPU take one copy more.
            if message.device == pieces[0].device:
                torch.cat(pieces, out=message)
            else:
                message.copy_(torch.cat(pieces))

        outgoing, incoming = sizes(0), sizes(1)
        to, of = [*map(sum, outgoing)], [*map(sum, incoming)]
        self.traffic.bytes_sent += dtype.itemsize * (sum(to) - to[self.rank])
        with self._timed() as transport:
            messages = transport.swap(dtype, to, of, write)
        arrived = {peer: torch.split(message, incoming[peer]) for peer, message in messages.items()}
        results = []
        for number, (rows, (_, counts)) in enumerate(zip(parts, splits, strict=True)):
            result = rows.new_empty((sum(counts), *rows.shape[1:]))
            for peer, piece in enumerate(torch.split(result, list(counts))):
                # This worker's own rows are copied past the message, and keep all of their bits.
                source = sent[number][peer] if peer == self.rank else arrived[peer][number]
                piece.copy_(source.view_as(piece))
            results.append(result)
        return tuple(results)

    def _with_counts(
        self, ids: Tensor, counts: Sequence[int], announce: int, expected: ExpectedCounts
    ) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
        """``ids`` to their owners behind their number and ``announce``, filled up to the size that both ends
        expect; what is beyond it goes from end to end. Returns what arrives, of each worker how much, and its
        ``announce``."""
        pieces = [piece.to(self.device) for piece in torch.split(ids, list(counts))]
        message = torch.cat([expected.filled(peer, piece, announce) for peer, piece in enumerate(pieces)])
        received = self.all_to_all(message, expected.sizes(expected.to), expected.sizes(expected.of))
        arrived = torch.split(received, expected.sizes(expected.of))
        heads = torch.stack([piece[:HEAD] for piece in arrived]).tolist()
        requested_counts, announced = map(tuple, zip(*heads, strict=True))
        rest = [piece[size:] for piece, size in zip(pieces, expected.to, strict=True)]
        late = [
            ids.new_empty(max(count - size, 0), device=self.device)
            for count, size in zip(requested_counts, expected.of, strict=True)
        ]
        late[self.rank] = rest[self.rank]  # what stays here is never sent
        with self._timed() as transport:
            transport.between_ends(self._of_others(rest), self._of_others(late))
        self.traffic.bytes_sent += ids.element_size() * (sum(map(len, rest)) - len(rest[self.rank]))
        whole = [
            piece
            for head, tail, count in zip(arrived, late, requested_counts, strict=True)
            for piece in (head[HEAD : HEAD + count], tail)
        ]
        # Last: both ends of this message have to cut it by the sizes from before it.
        expected.grow(counts, requested_counts, but=self.rank)
        return torch.cat(whole).to(ids.device), requested_counts, announced

    def _of_others(self, pieces: Sequence[Tensor]) -> dict[int, Tensor]:
        """By other worker, what is not empty."""
        return {peer: piece for peer, piece in enumerate(pieces) if peer != self.rank and len(piece)}

    @property
    def device(self) -> torch.device:
        """Where the group's own numbers have to be."""
        return torch.device("cpu") if self._transport is None else self._transport.device

    @contextmanager
    def _timed(self) -> Iterator[Transport]:
        assert self._transport is not None  # callers have several workers
        started = time.perf_counter()
        yield self._transport
        self.traffic.seconds += time.perf_counter() - started


def _segment_sums(counts: Tensor, segments: Sequence[int]) -> tuple[int, ...]:
    sums = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    ends = torch.tensor([0, *segments], device=counts.device).cumsum(0)
    return tuple(sums[ends].diff().tolist())
