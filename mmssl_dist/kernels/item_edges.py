"""Edges from items to the seeds that take their rows: an item seed its own, a user those drawn for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmssl_dist.kernels.bits import ONE
from mmssl_dist.kernels.compiling import kernel


def item_edges(
    keep: Tensor, source: Tensor, counts: Tensor, is_item: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The edges of k seeds, seed by seed; those of a seed weigh alike and sum to 1.

    Args:
        keep: int64 [k], where the seeds stand among n nodes. source: int64 [sum(counts)], where the nodes
            drawn for them stand. counts: int64 [k], how many of these each seed has. is_item: bool [n].

    Returns:
        counts int64 [k], 1 for an item; items int64 [sum(counts)], numbered in the order of the nodes;
        weights float32 [sum(counts)].
    """
    if keep.device.type != "cpu":
        return item_edges_plain(keep, source, counts, is_item)
    of_seed = torch.where(is_item.index_select(0, keep), 1, counts)
    ranks = torch.empty(len(is_item), dtype=torch.int32)
    total = int(of_seed.sum())
    items, weights = torch.empty(total, dtype=torch.int64), torch.empty(total)
    arrays = [x.contiguous().numpy() for x in (keep, source, counts, is_item)]
    _join(*arrays, ranks.numpy(), items.numpy(), weights.numpy())
    return of_seed, items, weights


def item_edges_plain(
    keep: Tensor, source: Tensor, counts: Tensor, is_item: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``item_edges`` in torch."""
    ranks = torch.cumsum(is_item, 0).sub_(1)
    seed_is_item = is_item.index_select(0, keep)
    of_seed = torch.where(seed_is_item, 1, counts)
    of_user = ~torch.repeat_interleave(seed_is_item, counts, output_size=len(source))
    of_item = torch.repeat_interleave(seed_is_item, of_seed)
    items = torch.empty_like(of_item, dtype=torch.int64)
    items[of_item] = ranks[keep[seed_is_item]]
    items[~of_item] = ranks[source[of_user]]
    weights = torch.repeat_interleave(
        of_seed.clamp(min=1).float().reciprocal(), of_seed, output_size=len(items)
    )
    return of_seed, items, weights


@kernel("void(int64[::1], int64[::1], int64[::1], boolean[::1], int32[::1], int64[::1], float32[::1])")
def _join(
    keep: np.ndarray,
    source: np.ndarray,
    counts: np.ndarray,
    is_item: np.ndarray,
    ranks: np.ndarray,
    items: np.ndarray,
    weights: np.ndarray,
) -> None:
    rank = 0
    for node in range(np.uint64(len(is_item))):
        ranks[node] = rank
        rank += is_item[node]
    drawn, edge = np.uint64(0), np.uint64(0)
    for i in range(np.uint64(len(keep))):
        seed, last = np.uint64(keep[i]), drawn + np.uint64(counts[i])
        if is_item[seed]:
            items[edge], weights[edge] = ranks[seed], np.float32(1.0)
            edge += ONE
            drawn = last
            continue
        weight = np.float32(1.0) / np.float32(max(counts[i], 1))
        while drawn < last:
            items[edge], weights[edge] = ranks[np.uint64(source[drawn])], weight
            drawn += ONE
            edge += ONE
