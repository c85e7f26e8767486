"""InfoNCE (equation 7): this worker's share of the loss, against the rows of all workers."""

# b rows of this worker, B rows of all workers, D width

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmssl_dist.model.row_functions import normalize

SCORES_AT_ONCE = 1 << 21  # 8 MB of float32
_EPSILON = 1e-8  # inside the logarithm, as released; bounds the loss of a row


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
    x, y = normalize(x_local), normalize(y_local)
    everyone = torch.cat([normalize(x_all), normalize(y_all)])  # [2B, D]
    positive = (x * y).sum(-1) / temperature
    # In logarithms: exp(1 / temperature) is no float32 at small temperatures.
    share = (positive - log_sum_of_others(x / temperature, everyone, positions)).exp()
    return -(share + _EPSILON).log().sum() / count


def log_sum_of_others(x: Tensor, everyone: Tensor, positions: Tensor) -> Tensor:
    """[b], log sum exp of x [b, D] times each row of ``everyone`` [n, D] but that at the row's position.

    The scores [b, n] are never whole in memory: they are computed for some rows of x at once, and once more
    for the gradient.
    """
    result: Tensor = _LogSumOfOthers.apply(x, everyone, positions)  # type: ignore[no-untyped-call]
    return result


class _LogSumOfOthers(torch.autograd.Function):
    """The gradient of a log sum is the softmax, which takes the scores again and their log sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, everyone: Tensor, positions: Tensor) -> Tensor:
        sums = x.new_empty(len(x))
        for rows in _pieces(len(x), len(everyone)):
            sums[rows] = _scores(x[rows], everyone, positions[rows]).logsumexp(1)
        ctx.save_for_backward(x, everyone, positions, sums)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, everyone, positions, sums = ctx.saved_tensors
        of_x, of_everyone = torch.empty_like(x), torch.zeros_like(everyone)
        for rows in _pieces(len(x), len(everyone)):
            shares = _scores(x[rows], everyone, positions[rows])
            shares.sub_(sums[rows, None]).exp_().mul_(gradient[rows, None])
            torch.mm(shares, everyone, out=of_x[rows])
            of_everyone.addmm_(shares.T, x[rows])
        return of_x, of_everyone, None


def _scores(x: Tensor, everyone: Tensor, positions: Tensor) -> Tensor:
    """x @ everyone.T, where a row is no negative of itself."""
    return (x @ everyone.T).scatter_(1, positions.unsqueeze(1), -torch.inf)


def _pieces(rows: int, columns: int) -> Iterator[slice]:
    at_once = max(1, SCORES_AT_ONCE // max(columns, 1))
    return (slice(first, first + at_once) for first in range(0, rows, at_once))
