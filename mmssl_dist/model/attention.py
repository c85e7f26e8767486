"""Cross-modal attention (equation 3): a node's modality-aware rows mixed over its modalities."""

# M modalities, N nodes, D embedding, H heads

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CrossModalAttention(nn.Module):
    """Multi-head attention over the modalities of each node, averaged over modalities.

    Values are the unprojected rows, so a head returns a D-wide mix. Without biases, a node whose rows are all
    zero gets a zero row. With a single modality the softmax is 1 whatever the scores, so there are no query
    and key weights.
    """

    def __init__(self, dimension: int, heads: int, modalities: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        # Drawn first: its initial values then do not depend on whether there are queries and keys.
        self.w_cat = nn.Parameter(_xavier(heads * dimension, dimension, generator))
        if modalities > 1:
            self.w_q = nn.Parameter(_xavier(dimension, dimension, generator))
            self.w_k = nn.Parameter(_xavier(dimension, dimension, generator))

    def forward(self, per_modality: Sequence[Tensor]) -> Tensor:
        """Per modality [N, D] float32, in the order the weights were trained with -> [N, D] float32."""
        x = torch.stack(tuple(per_modality), 1)  # [N, M, D]
        if len(per_modality) == 1:
            mixed = x.expand(-1, self.heads, -1)  # [N, H, D]
        else:
            # The mean over modalities moves inside: it acts on M x M scores instead of on H * D wide rows.
            share = self._scores(per_modality).softmax(1).mean(0)  # [M, N, H]
            mixed = torch.bmm(share.permute(1, 2, 0), x)
        wide = mixed.flatten(1).to(self.w_cat.dtype)  # [N, H * D]
        rows: Tensor = (wide @ self.w_cat).float()
        return rows

    def _scores(self, per_modality: Sequence[Tensor]) -> Tensor:
        """Scaled products of each modality's queries with each one's keys: [M (query), M (key), N, H]
        float32."""
        m, n, dimension = len(per_modality), *per_modality[0].shape
        width = dimension // self.heads
        cast = [x.to(self.w_q.dtype) for x in per_modality]
        query = [(x @ self.w_q).float() for x in cast]
        key = [(x @ self.w_k).float() for x in cast]
        # A head's few columns are summed faster by a product with their indicator than by many small sums.
        head_of = torch.arange(dimension, device=self.w_q.device) // width
        heads = torch.arange(self.heads, device=self.w_q.device)
        sums = (head_of.unsqueeze(1) == heads).float() / width**0.5  # [D, H]
        return torch.stack([(q * k) @ sums for q in query for k in key]).view(m, m, n, self.heads)


def _xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)
