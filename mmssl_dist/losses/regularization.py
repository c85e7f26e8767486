"""L2 on rows (equation 9): this worker's share of the loss."""

from __future__ import annotations

from torch import Tensor


def l2(*rows: Tensor, count: int) -> Tensor:
    """Half the sum of squares of all the rows [..., D], at least one tensor, divided by ``count``."""
    total = (rows[0] * rows[0]).sum()
    for part in rows[1:]:
        total = total + (part * part).sum()
    return 0.5 * total / count
