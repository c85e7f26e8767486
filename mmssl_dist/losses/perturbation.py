"""Adversarial perturbation of the ranked rows (equation 8): every row moves by a bounded step in the
direction that raises the ranking loss most, and the loss of the moved rows is minimised as well.

With z the rows that the ranking loss compares, L that loss and g the gradient of L at a row:

    delta = eps * |z| * g / |g|, a constant;    term = L(z + delta)

He et al., Adversarial Personalized Ranking (SIGIR 2018), do so with BPR; Tang et al., Adversarial Training
Towards Robust Multimedia Recommender System (TKDE 2019), with BPR on items' features. They bound the step by
a fixed length, this by the row's own: rows grow in training, and cosines do not see how long they are.
Since the step is a constant, a longer row is moved less: with the softmax over cosines the term lengthens
rows, those of frequent items most, and a ranking by dot products counts that like popularity.
"""

# b pairs of this worker, n negatives of them or candidates of all workers, D width

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmssl_dist.model.row_functions import normalize


class RankedRows(NamedTuple):
    """The rows a ranking loss compares, or something of each of them, such as their gradients.

    user, positive: [b, D], pair by pair. others: [n, D], what the positives are ranked above.
    """

    user: Tensor
    positive: Tensor
    others: Tensor


RankingFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""This worker's share of the loss of (user, positive, others)."""


def with_gradients(loss: RankingFunction, rows: RankedRows) -> tuple[Tensor, RankedRows]:
    """``loss`` of ``rows``, differentiable in them, and this worker's share of its gradients at the rows.

    The gradients are computed here, once; a later backward passes them on instead of computing them again.
    They are those of first order: the loss cannot be differentiated twice.
    """
    leaves = RankedRows(*(x.detach().requires_grad_() for x in rows))
    with torch.enable_grad():
        value = loss(*leaves)
    gradients = RankedRows(*torch.autograd.grad(value, leaves))
    known: Tensor = _KnownGradients.apply(value.detach(), *rows, *gradients)  # type: ignore[no-untyped-call]
    return known, gradients


def moved(rows: Tensor, gradient: Tensor, length: Tensor) -> Tensor:
    """``rows`` [n, D] moved along ``gradient`` [n, D] by ``length`` [n, 1]; the step itself is a constant.

    A row with a zero gradient stays where it is.
    """
    return rows + length.detach() * normalize(gradient.detach())


class _KnownGradients(torch.autograd.Function):
    """A scalar whose gradients at three tensors are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *rows_and_gradients: Tensor) -> Tensor:
        ctx.save_for_backward(*rows_and_gradients[3:])
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(gradient * known for known in ctx.saved_tensors), None, None, None
