"""Sampled softmax over cosines (equation 6 with many negatives at once): this worker's share of the loss."""

# b pairs of this worker, C candidate items, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmssl_dist.model.row_functions import normalize


def sampled_softmax(
    user: Tensor, positive: Tensor, candidates: Tensor, known: Tensor, temperature: float, count: int
) -> Tensor:
    """Cross entropy of the positive among itself and the candidates, by cosine / temperature.

    Args:
        user, positive: [b, D]. candidates: [C, D].
        known: bool [b, C], candidates among the user's training items, which are no negatives of it.
        count: pairs of all workers together, so that the workers' shares sum to the loss.
    """
    # Divided here, on [b, D], and not after the product, on [b, C].
    x = normalize(user) / temperature
    own = (x * normalize(positive)).sum(-1, keepdim=True)  # [b, 1]
    others = x @ normalize(candidates).T  # [b, C]
    others.detach().masked_fill_(known, -torch.inf)  # outside of the gradient, which is zero there anyway
    first = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return nn.functional.cross_entropy(torch.cat([own, others], 1), first, reduction="sum") / count
