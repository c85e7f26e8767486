"""The adversarial term (equation 8): rows for the critic, the critic's loss and the generator's. Losses are
this worker's share; every value and gradient is finite for zero rows too."""

# B rows (users), C candidate items, D width, M modalities

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from mmssl_dist.config import model_sections
from mmssl_dist.model.row_functions import normalize

_EPSILON = 1e-8  # as in the released Gumbel noise


class CriticModule(Protocol):
    """The critic, cut behind its one wide layer, which is linear in the rows it scores. H: that layer's
    width."""

    def first_layer(self, item_rows: Tensor) -> Tensor:
        """item_rows [C, D] -> [C, H], the layer's weights for these items."""

    def score(self, hidden: Tensor) -> Tensor:
        """rows [n, C] @ weights [C, H] -> scores [n] float32."""


def generator_rows(user: Tensor, item: Tensor, known: Tensor) -> Tensor:
    """user [B, D] . item [C, D], pairs ``known`` [B, C] bool set to 0 -> [B, C] of unit length, or zero."""
    return normalize((user @ item.T).masked_fill_(known, 0.0))


def real_rows(
    known: Tensor, collaborative_rows: Tensor, uniform: Tensor, settings: model_sections.Adversarial
) -> Tensor:
    """Rows of the data: softmax of known interactions with Gumbel noise, plus the collaborative signal, unit
    length.

    known [B, C] bool; collaborative_rows [B, C]: ``generator_rows`` of the final rows; uniform [B, C] in (0,
    1). The temperature divides the noise, not the interactions, as in the released code.
    """
    noise = (uniform + _EPSILON).log_().neg_().add_(_EPSILON).log_()
    # In place: with many candidates these [B, C] tensors are the largest of a step.
    logits = noise.mul_(-settings.gumbel_scale / settings.gumbel_temperature).add_(known)
    return normalize(logits.softmax(-1).add_(collaborative_rows, alpha=settings.signal_scale))


def critic_loss(
    critic: CriticModule,
    real: Tensor,
    fakes: Sequence[Tensor],
    item_rows: Tensor,
    epsilons: Sequence[Tensor],
    penalty: float,
    count: int,
) -> Tensor:
    """WGAN with gradient penalty: mean(fake) - mean(real) + penalty * mean((|gradient| - 1)^2), mean over
    modalities.

    real, and per modality a fake: [B, C], detached here. epsilons: per modality [B] in (0, 1), where between
    fake (0)
    and real (1) the gradient is taken. count: rows of all workers together.
    """
    weights = critic.first_layer(item_rows)
    of_real, *of_fakes = (rows.detach().to(weights.dtype) @ weights for rows in (real, *fakes))  # each [B, H]
    scores = critic.score(torch.cat([of_real, *of_fakes]))
    real_score, fake_score = scores[: real.shape[0]], scores[real.shape[0] :]
    # the layer is linear: what it makes of mixed rows is the mix of what it makes of them
    mixed = [
        torch.lerp(f, of_real, e.unsqueeze(1).to(f.dtype)) for e, f in zip(epsilons, of_fakes, strict=True)
    ]
    slopes = _slopes(critic, torch.cat(mixed), weights)
    total = fake_score.sum() - len(fakes) * real_score.sum() + penalty * ((slopes - 1.0) ** 2).sum()
    return total / (len(fakes) * count)


def generator_loss(critic: CriticModule, fakes: Sequence[Tensor], item_rows: Tensor, count: int) -> Tensor:
    """-mean(critic(fake)) over the rows and modalities. The caller keeps the critic's weights out of the
    gradient."""
    weights = critic.first_layer(item_rows)
    hidden = torch.cat([fake.to(weights.dtype) @ weights for fake in fakes])
    return -critic.score(hidden).sum() / (len(fakes) * count)


def _slopes(critic: CriticModule, hidden: Tensor, weights: Tensor) -> Tensor:
    """Length of the critic's gradient at each row [n], differentiable in the critic's weights.

    hidden: rows @ weights [n, H]. The gradient at the rows is that at ``hidden``, g, times the weights'
        transpose, so
    its square length is g (weights' transpose @ weights) g: nothing here is C wide.
    """
    (gradient,) = torch.autograd.grad(critic.score(hidden).sum(), hidden, create_graph=True)
    gradient, weights = gradient.float(), weights.float()
    square = ((gradient @ (weights.T @ weights)) * gradient).sum(-1)
    # Clamped before the root, whose own gradient at zero is infinite.
    return square.clamp_min(1e-24).sqrt()
