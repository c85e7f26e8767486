"""Bayesian personalized ranking (equation 6): this worker's share of the loss."""

from __future__ import annotations

from torch import Tensor, nn


def bpr(user: Tensor, positive: Tensor, negative: Tensor, count: int) -> Tensor:
    """-log sigmoid(user . positive - user . negative), summed over the rows [B, D] and divided by ``count``.

    count: rows of all workers together, so that the workers' shares sum to the loss.
    """
    margin = (user * positive).sum(-1) - (user * negative).sum(-1)
    # -log sigmoid(x) as softplus(-x), which stays finite for large negative margins.
    return nn.functional.softplus(-margin).sum() / count
