"""The candidate critic (equation 8): scores rows over any C candidate items, its first layer's weights being
a function of the items themselves, so one critic serves any catalogue and any choice of candidates."""

# B rows, C candidates, D width of an item's row

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmssl_dist.model.row_functions import normalize

_SLOPE = 0.2  # of the leaky rectifiers
# The layer norms make the critic steep: its gradient at unit rows starts near sqrt(C) times the output
# layer. Small output weights start it near length 1, which the penalty asks for, instead of at 30 to 120.
_OUTPUT_GAIN = 0.05


class Critic(nn.Module):
    """A multilayer critic with linear output, for a WGAN.

    dimension: D. hidden: widths of the hidden layers, at least one. seed: the initial weights depend on it
        alone.
    """

    def __init__(self, dimension: int, hidden: Sequence[int], seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.tie = _linear(dimension, hidden[0], generator, bias=False)
        self.bias = nn.Parameter(torch.zeros(hidden[0]))
        # What shifts every score alike cancels between real and fake rows and would never get a gradient:
        # hence no bias in the last norm and the output.
        last = len(hidden) - 1
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=i < last) for i, width in enumerate(hidden))
        self.layers = nn.ModuleList(_linear(a, b, generator) for a, b in pairwise(hidden))
        self.output = _linear(hidden[-1], 1, generator, bias=False, gain=_OUTPUT_GAIN)

    def forward(self, x: Tensor, item_rows: Tensor) -> Tensor:
        """x [B, C] unit rows, item_rows [C, D] of the candidates in the same order, detached -> [B]
        float32."""
        weights = self.first_layer(item_rows)
        return self.score(x.to(weights.dtype) @ weights)

    def score(self, hidden: Tensor) -> Tensor:
        """What the layers behind the first make of x @ first_layer(item_rows), [B, hidden[0]] -> [B]
        float32."""
        # Here and not in ``first_layer``, whose result has to stay linear in the rows for the penalty.
        hidden = hidden + self.bias
        hidden = self.norms[0](nn.functional.leaky_relu(hidden, _SLOPE))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            hidden = norm(nn.functional.leaky_relu(layer(hidden), _SLOPE))
        score: Tensor = self.output(hidden).squeeze(-1).float()
        return score

    def first_layer(self, item_rows: Tensor) -> Tensor:
        """item_rows [C, D] -> [C, hidden[0]], the first layer's weights for these items.

        Item rows count by direction only: unit rows times Xavier weights keep x @ weights, and with it what
        the layer
        norms divide by, alike at any C and at any length the ID rows have grown to.
        """
        weights: Tensor = self.tie(normalize(item_rows).to(self.tie.weight.dtype))
        return weights


def _linear(
    inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = True, gain: float = 1.0
) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain, generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
