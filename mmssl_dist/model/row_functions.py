"""What is done to rows without learned weights: unit length and stateless dropout. Finite everywhere, zero
rows included, in value and gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmssl_dist.kernels.keyed import dropout

__all__ = ["dropout", "normalize"]

_SHORTEST = 1e-12  # a row not longer than this counts as zero


def normalize(x: Tensor) -> Tensor:
    """Rows of x [..., D] at unit length; a zero row stays zero and passes no gradient.

    Dividing by max(norm, 1e-12) would give the same values, but a gradient 1e12 times too large at zero rows.
    """
    unit: Tensor = _Normalize.apply(x)[0]  # type: ignore[no-untyped-call]
    return unit


class _Normalize(torch.autograd.Function):
    """Unit rows and 1 / length of each, with fewer passes over x than the gradients of a square, a sum, a
    root and a product take. The second result is there for second derivatives, which have to see that it
    depends on x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.where(length > _SHORTEST, length.reciprocal(), torch.zeros_like(length))
        unit = x * inverse
        ctx.save_for_backward(unit, inverse)
        return unit, inverse

    @staticmethod
    def backward(ctx: Any, of_unit: Tensor, of_inverse: Tensor) -> Tensor:
        unit, inverse = ctx.saved_tensors
        # The gradient at unit length has no part along the row; the second term serves second derivatives.
        along = (of_unit * unit).sum(-1, keepdim=True) + of_inverse * inverse
        return torch.addcmul(of_unit, unit, along, value=-1).mul_(inverse)
