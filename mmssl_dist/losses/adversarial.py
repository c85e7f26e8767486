"""The adversarial term (equation 8): rows for the critic, the critic's loss and the generator's. Losses are this
worker's share; every value and gradient is finite for zero rows too."""

# B rows (users), C candidate items, D width, M modalities

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmssl_dist.config import tree
from mmssl_dist.model.rows import normalize

_EPSILON = 1e-8  # as in the released Gumbel noise

CriticCall = Callable[[Tensor, Tensor], Tensor]
"""(rows [B, C], item rows [C, D]) -> scores [B]; the module or an engine around it."""


def generator_rows(user: Tensor, item: Tensor, known: Tensor) -> Tensor:
    """user [B, D] . item [C, D], pairs ``known`` [B, C] bool set to 0 -> [B, C] of unit length, or zero."""
    return normalize((user @ item.T).masked_fill(known, 0.0))


def real_rows(known: Tensor, collaborative_rows: Tensor, uniform: Tensor, settings: tree.Adversarial) -> Tensor:
    """Rows of the data: softmax of known interactions with Gumbel noise, plus the collaborative signal, unit length.

    known [B, C] bool; collaborative_rows [B, C]: ``generator_rows`` of the final rows; uniform [B, C] in (0, 1). The
    temperature divides the noise, not the interactions, as in the released code.
    """
    noise = ((uniform + _EPSILON).log().neg() + _EPSILON).log()
    logits = known.to(noise.dtype) - noise * (settings.gumbel_scale / settings.gumbel_temperature)
    return normalize(logits.softmax(-1) + settings.signal_scale * collaborative_rows)


def critic_loss(
    critic: CriticCall,
    real: Tensor,
    fakes: Sequence[Tensor],
    item_rows: Tensor,
    epsilons: Sequence[Tensor],
    penalty: float,
    count: int,
) -> Tensor:
    """WGAN with gradient penalty: mean(fake) - mean(real) + penalty * mean((|gradient| - 1)^2), mean over modalities.

    real, and per modality a fake: [B, C], detached here. epsilons: per modality [B] in (0, 1), where between fake (0)
    and real (1) the gradient is taken. count: rows of all workers together.
    """
    real = real.detach()
    fakes = [fake.detach() for fake in fakes]
    scores = critic(torch.cat([real, *fakes]), item_rows)
    real_score, fake_score = scores[: real.shape[0]], scores[real.shape[0] :]
    mixed = [e.unsqueeze(1) * real + (1.0 - e.unsqueeze(1)) * f for e, f in zip(epsilons, fakes, strict=True)]
    slopes = _slopes(critic, torch.cat(mixed), item_rows)
    total = fake_score.sum() - len(fakes) * real_score.sum() + penalty * ((slopes - 1.0) ** 2).sum()
    return total / (len(fakes) * count)


def generator_loss(critic: CriticCall, fakes: Sequence[Tensor], item_rows: Tensor, count: int) -> Tensor:
    """-mean(critic(fake)) over the rows and modalities. The caller keeps the critic's weights out of the gradient."""
    return -critic(torch.cat(list(fakes)), item_rows).sum() / (len(fakes) * count)


def _slopes(critic: CriticCall, rows: Tensor, item_rows: Tensor) -> Tensor:
    """Length of the critic's gradient at each row [n, C] -> [n], differentiable in the critic's weights."""
    rows = rows.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(rows, item_rows).sum(), rows, create_graph=True)
    # Clamped before the root, whose own gradient at zero is infinite.
    return (gradient * gradient).sum(-1).clamp_min(1e-24).sqrt()
