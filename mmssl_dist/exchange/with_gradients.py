"""Messages between workers as functions with a gradient, which travels back by the same route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

SplitSizes = tuple[tuple[int, ...], tuple[int, ...]]
"""Rows to each worker, and rows from each."""


class Messages(Protocol):
    """What moves rows between workers, without a gradient."""

    rank: int
    world_size: int

    def all_to_all(self, rows: Tensor, outgoing: Sequence[int], incoming: Sequence[int]) -> Tensor:
        """``rows`` to each worker, and those from each."""

    def together(self, parts: Sequence[Tensor], splits: Sequence[SplitSizes]) -> tuple[Tensor, ...]:
        """The same of several tensors in one message."""


class SendRows(torch.autograd.Function):
    """Rows out, gradients back by the same route."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, outgoing: Sequence[int], incoming: Sequence[int], exchange: Messages
    ) -> Tensor:
        # The other way round: a gradient returns to where its row came from.
        ctx.split, ctx.exchange = (incoming, outgoing), exchange
        return exchange.all_to_all(rows, outgoing, incoming)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.exchange.all_to_all(gradient, *ctx.split), None, None, None


class SendTogether(torch.autograd.Function):
    """Several tensors out in one message, and their gradients back in one."""

    @staticmethod
    def forward(
        ctx: Any, exchange: Messages, splits: Sequence[SplitSizes], *parts: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.exchange, ctx.splits = exchange, [(incoming, outgoing) for outgoing, incoming in splits]
        return exchange.together(parts, splits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.exchange.together(gradients, ctx.splits)


class GatherTogether(torch.autograd.Function):
    """All rows of several tensors to everybody in one message; in backward each worker sends home what it has
    for the others, in one message too."""

    @staticmethod
    def forward(
        ctx: Any, exchange: Messages, counts: Sequence[Sequence[int]], *parts: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.exchange, ctx.counts = exchange, counts
        workers = exchange.world_size
        message = torch.cat([rows.reshape(-1) for rows in parts])
        sizes = _sizes(counts, parts, workers)
        incoming = [sum(of_worker) for of_worker in sizes]
        # Not all_gather: workers have different numbers of rows, and gloo's takes equal ones only.
        received = exchange.all_to_all(message.repeat(workers), [len(message)] * workers, incoming)
        pieces = torch.split(received, [size for of_worker in sizes for size in of_worker])
        # ``cat`` above brought parts of several types to a common one, so each returns to its own.
        return tuple(
            torch.cat(pieces[number :: len(parts)]).view(-1, *rows.shape[1:]).to(rows.dtype)
            for number, rows in enumerate(parts)
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exchange, workers = ctx.exchange, ctx.exchange.world_size
        sizes = _sizes(ctx.counts, gradients, workers)
        pieces = [
            torch.split(gradient.reshape(-1), [of_worker[number] for of_worker in sizes])
            for number, gradient in enumerate(gradients)
        ]
        message = torch.cat([piece for of_worker in zip(*pieces, strict=True) for piece in of_worker])
        own = sizes[exchange.rank]
        received = exchange.all_to_all(message, [sum(of_worker) for of_worker in sizes], [sum(own)] * workers)
        # Each worker sends a gradient for all that this one contributed: W rows of equal length arrive.
        summed = torch.split(received.view(workers, -1).sum(0), own)
        return (
            None,
            None,
            *(
                part.view(-1, *gradient.shape[1:]).to(gradient.dtype)
                for part, gradient in zip(summed, gradients, strict=True)
            ),
        )


def _sizes(counts: Sequence[Sequence[int]], parts: Sequence[Tensor], workers: int) -> list[list[int]]:
    """By worker, numbers that it contributes to each of ``parts``."""
    # From the shape where there is no row: this worker receives those of the others all the same.
    widths = [rows[0].numel() if len(rows) else rows.shape[1:].numel() for rows in parts]
    return [
        [of_part[rank] * width for of_part, width in zip(counts, widths, strict=True)]
        for rank in range(workers)
    ]
