"""Losses, each as this worker's share: the shares of all workers sum to the loss of the global batch."""

from mmssl_dist.losses.adversarial import critic_loss, generator_loss, generator_rows, real_rows
from mmssl_dist.losses.bpr import bpr
from mmssl_dist.losses.contrastive import contrastive
from mmssl_dist.losses.perturbation import RankedRows, RankingFunction, moved, with_gradients
from mmssl_dist.losses.regularization import l2
from mmssl_dist.losses.softmax import sampled_softmax

__all__ = [
    "RankedRows",
    "RankingFunction",
    "bpr",
    "contrastive",
    "critic_loss",
    "generator_loss",
    "generator_rows",
    "l2",
    "moved",
    "real_rows",
    "sampled_softmax",
    "with_gradients",
]
