"""InfoNCE (equation 7): this worker's share of the loss, against the rows of all workers."""

# b rows of this worker, B rows of all workers, D width

from __future__ import annotations

import torch
from torch import Tensor

from mmssl_dist.model.row_functions import normalize

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
    scores = (x / temperature) @ everyone.T  # [b, 2B]
    # a row is no negative of itself; outside of the gradient, which is zero there anyway
    scores.detach().scatter_(1, positions.unsqueeze(1), float("-inf"))
    positive = (x * y).sum(-1) / temperature
    # In logarithms: exp(1 / temperature) is no float32 at small temperatures.
    share = (positive - scores.logsumexp(1)).exp()
    return -(share + _EPSILON).log().sum() / count
