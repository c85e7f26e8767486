"""What is done to rows without learned weights: unit length and stateless dropout. Finite everywhere, zero rows
included, in value and gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from mmssl_dist.sampling import draws

_SHORTEST = 1e-12  # a row not longer than this counts as zero


def normalize(x: Tensor) -> Tensor:
    """Rows of x [..., D] at unit length; a zero row stays zero and passes no gradient.

    Dividing by max(norm, 1e-12) would give the same values, but a gradient 1e12 times too large at zero rows.
    """
    square = (x * x).sum(-1, keepdim=True)
    inverse = square.clamp_min(_SHORTEST**2).rsqrt()
    return x * torch.where(square > _SHORTEST**2, inverse, torch.zeros_like(inverse))


def dropout(rows: Tensor, node_ids: Tensor, key: int, rate: float) -> Tensor:
    """Inverted dropout of rows [n, D] whose mask depends on (key, node id, dimension) alone.

    node_ids [n] int64: so a node is masked alike wherever and in whatever order its row is computed.
    """
    if rate == 0.0:
        return rows
    dimensions = torch.arange(rows.shape[1], device=rows.device)
    kept = draws.uniform(key, node_ids.unsqueeze(1), dimensions) >= rate
    return rows * kept.to(rows.dtype).mul_(1.0 / (1.0 - rate))
