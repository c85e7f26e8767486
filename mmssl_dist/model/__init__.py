"""The model as plain modules: no rank, no Ray, no DGL, no DeepSpeed."""

from mmssl_dist.model.critic import Critic
from mmssl_dist.model.mmssl import Mmssl, SeedRows
from mmssl_dist.model.row_functions import dropout, normalize

__all__ = ["Critic", "Mmssl", "SeedRows", "dropout", "normalize"]
