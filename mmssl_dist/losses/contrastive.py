"""InfoNCE (equation 7): this worker's share of the loss, against the rows of all workers."""

# b rows of this worker, B rows of all workers, D width

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmssl_dist.model.row_functions import normalize

_SCORES, _SCORES_ON_GPU = 1 << 19, 1 << 24
_LEAST_ROWS = 64  # of a product
_EPSILON = 1e-8  # inside the logarithm, as released; bounds the loss of a row
_NEEDS_SHIFT = 1 / 40  # below this temperature exp(1 / temperature) may leave float32


def contrastive(
    x_local: Tensor,
    y_local: Tensor,
    x_all: Tensor,
    y_all: Tensor,
    positions: Tensor,
    temperature: float,
    count: int,
) -> Tensor:
    """x_local [b, D] against y_local; negatives are the other rows of x_all [B, D] and of y_all.

    positions [b] int64: where the local rows stand among all rows. count: rows over which the loss is
    averaged; with count = B the workers' shares sum to the loss. Rows need not have unit length.
    """
    everyone = torch.cat([normalize(x_all), normalize(y_all)])  # [2B, D]
    return (
        info_nce(
            x=normalize(x_local),
            y=normalize(y_local),
            everyone=everyone,
            positions=positions,
            temperature=temperature,
        )
        / count
    )


def rows_at_once(columns: int, *, gpu: bool) -> int:
    """Rows whose scores against ``columns`` others are in memory at once: some 2 MB of them, which a
    processor's cache holds, or 64 MB on a GPU, which few launches are more important to."""
    return max(_LEAST_ROWS, (_SCORES_ON_GPU if gpu else _SCORES) // max(columns, 1))


def info_nce(x: Tensor, y: Tensor, everyone: Tensor, positions: Tensor, temperature: float) -> Tensor:
    """Sum over the rows of -log(exp(x y / temperature) / the sum of exp(x e / temperature)).

    The scores [b, n] are never whole in memory, and are computed once: the gradient of a piece of them is
    taken while it is in the processor's cache. Without second derivatives.

    Args:
        x, y: [b, D], rows of unit length or zero. everyone: [n, D], the same; e is each of them but that at
            x's position. positions: int64 [b].
    """
    loss: Tensor = _InfoNCE.apply(x, y, everyone, positions, temperature)  # type: ignore[no-untyped-call]
    return loss


class _InfoNCE(torch.autograd.Function):
    """Keeps the gradient at its three matrices instead of the scores."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, everyone: Tensor, positions: Tensor, temperature: float
    ) -> Tensor:
        scaled = x / temperature
        positive = (scaled * y).sum(-1)
        loss, of_positive = torch.empty_like(positive), torch.empty_like(positive)
        of_x, of_everyone = torch.empty_like(x), torch.zeros_like(everyone)
        at_once = rows_at_once(len(everyone), gpu=x.device.type != "cpu")
        memory = x.new_empty(len(everyone) * min(at_once, len(x)))
        for first in range(0, len(x), at_once):
            rows = slice(first, first + at_once)
            some, own = scaled[rows], positive[rows]
            # [n, some], which both products with it are fast with; where the last piece's were
            scores = torch.mm(everyone, some.T, out=memory[: len(everyone) * len(some)].view(-1, len(some)))
            scores.scatter_(0, positions[rows].unsqueeze(0), -torch.inf)  # a row is no negative of itself
            if temperature < _NEEDS_SHIFT:
                largest = scores.amax(0)
                scores.sub_(largest)
                own = own - largest
            sums = scores.exp_().sum(0)
            excess = own - sums.log()
            loss[rows] = (excess.exp() + _EPSILON).log_().neg_()
            slope = (1 + _EPSILON * (-excess).exp()).reciprocal_()  # of the loss at the sum's logarithm
            of_positive[rows] = -slope
            slope = slope.div_(sums).unsqueeze(1)
            torch.mm(scores.T, everyone, out=of_x[rows])
            of_x[rows].mul_(slope)
            of_everyone.addmm_(scores, some * slope)
        of_y = scaled * of_positive.unsqueeze(1)
        of_x.addcmul_(y, of_positive.unsqueeze(1)).div_(temperature)
        ctx.save_for_backward(of_x, of_y, of_everyone)
        return loss.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        of_x, of_y, of_everyone = ctx.saved_tensors
        return gradient * of_x, gradient * of_y, gradient * of_everyone, None, None
