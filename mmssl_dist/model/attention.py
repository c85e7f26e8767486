"""Cross-modal attention (equation 3): a node's modality-aware rows mixed over its modalities."""

# M modalities, N nodes, D embedding, H heads

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CrossModalAttention(nn.Module):
    """Multi-head attention over the modalities of each node, averaged over modalities.

    Values are the unprojected rows, so a head returns a D-wide mix. Without biases, a node whose rows are all zero
    gets a zero row. With a single modality the softmax is 1 whatever the scores, so there are no query and key weights.
    """

    def __init__(self, dimension: int, heads: int, modalities: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.w_cat = nn.Parameter(_xavier(heads * dimension, dimension, generator))
        if modalities > 1:
            self.w_q = nn.Parameter(_xavier(dimension, dimension, generator))
            self.w_k = nn.Parameter(_xavier(dimension, dimension, generator))

    def forward(self, per_modality: Sequence[Tensor]) -> Tensor:
        """Per modality [N, D] float32, in the order the weights were trained with -> [N, D] float32."""
        x = torch.stack(tuple(per_modality))  # [M, N, D]
        if len(per_modality) == 1:
            mixed = x[0].unsqueeze(1).expand(-1, self.heads, -1)  # [N, H, D]
        else:
            # The mean over modalities moves inside: it acts on the [M, M] scores instead of on H * D wide rows.
            share = self._scores(x).softmax(-1).mean(2)  # [N, H, M]
            mixed = torch.einsum("nhk,knd->nhd", share, x)
        wide = mixed.reshape(x.shape[1], -1).to(self.w_cat.dtype)  # [N, H * D]
        rows: Tensor = (wide @ self.w_cat).float()
        return rows

    def _scores(self, x: Tensor) -> Tensor:
        """x [M, N, D] -> scaled query-key products [N, H, M, M] float32."""
        m, n, d = x.shape
        cast = x.to(self.w_q.dtype)
        width = d // self.heads
        query = (cast @ self.w_q).view(m, n, self.heads, width).float()
        key = (cast @ self.w_k).view(m, n, self.heads, width).float()
        score: Tensor = torch.einsum("mnhw,knhw->nhmk", query, key) / width**0.5
        return score


def _xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)
