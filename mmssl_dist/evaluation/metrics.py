"""Ranking metrics of held-out items, summed over users so that workers and blocks add up to the same mean.

Users without held-out items are not counted. NDCG is the standard one: the ideal list holds min(K, positives)
hits.

Shapes: B users, K length of the ranked lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmssl_dist.errors import InputError
from mmssl_dist.exchange.exchange import Exchange

METRICS = ("recall", "precision", "ndcg", "hit_rate", "mrr")


def metric_names(ks: Sequence[int]) -> tuple[str, ...]:
    """Names of all metrics at all cut-offs, such as "recall@20", in the order of their sums."""
    return tuple(f"{metric}@{k}" for k in ks for metric in METRICS)


@dataclass(frozen=True)
class MetricSums:
    """Sums over users, to be added up over workers.

    Attributes:
        ks: cut-offs.
        totals: float64 [len(metric_names(ks)) + 1] sum of each metric, then the number of users counted.
    """

    ks: tuple[int, ...]
    totals: Tensor

    @property
    def users(self) -> int:
        """Users counted: those with at least one held-out item."""
        return int(self.totals[-1])

    @property
    def sums(self) -> dict[str, float]:
        """Sum over users of each metric."""
        return dict(zip(metric_names(self.ks), self.totals[:-1].tolist(), strict=True))

    def over_workers(self, exchange: Exchange) -> MetricSums:
        """The sums of all workers; every worker has to call it."""
        return MetricSums(self.ks, exchange.sum(self.totals))

    def means(self) -> dict[str, float]:
        """Mean over users of each metric, each in [0, 1].

        Raises:
            InputError: no user has held-out items.
        """
        if not self.users:
            raise InputError(
                "evaluation",
                "no user with held-out interactions",
                "a metric needs at least one",
                "Change `data.split` so that validation and test hold interactions.",
            )
        return {name: total / self.users for name, total in self.sums.items()}


def sums_of(values: Tensor, ks: Sequence[int]) -> MetricSums:
    """The sums of what ``user_metrics`` gave for some users."""
    return MetricSums(tuple(ks), torch.cat([values.sum(0), values.new_tensor([len(values)])]))


def user_metrics(hits: Tensor, positives: Tensor, ks: Sequence[int]) -> Tensor:
    """All metrics of each user at all cut-offs: float64 [B, len(metric_names(ks))], in the order of the
    names.

    Recall divides a user's hits by its held-out items, precision by K; a hit at rank r gains 1 / log2(r + 1)
    of DCG; hit rate is 1 with any hit; MRR is 1 / r of the first hit, 0 without one.

    Args:
        hits: bool [B, K] which ranked items were held out, best first; K at least max(ks).
        positives: int [B] held-out items of each user, at least 1.
        ks: cut-offs.
    """
    if hits.shape[1] < max(ks):
        raise ValueError(f"lists of {hits.shape[1]} items have no metrics at {max(ks)}")
    # float64: float32 sums of millions of users would lose the digits in which two models differ.
    gained = hits[:, : max(ks)].double()
    rank = torch.arange(1, max(ks) + 1, dtype=torch.float64, device=hits.device)
    # In float64, so that sums over millions of users do not depend on their order in the digits shown.
    discount = 1.0 / torch.log2(rank + 1.0)
    ideal = discount.cumsum(0)
    hits = gained.cumsum(1)  # [B, K] hits up to each rank
    dcg = (gained * discount).cumsum(1)
    reciprocal = (gained / rank).cummax(1).values  # the first hit's is the largest
    columns: list[Tensor] = []
    for k in ks:
        at = hits[:, k - 1]
        columns += [
            at / positives,
            # By K even where fewer items can be ranked, or a small catalogue would look precise.
            at / k,
            # At most K hits are possible, so a user with more held-out items can still reach 1.
            dcg[:, k - 1] / ideal[positives.clamp(max=k) - 1],
            (at > 0).double(),
            reciprocal[:, k - 1],
        ]
    return torch.stack(columns, 1)
