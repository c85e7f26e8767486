"""The adversarial term: by hand with a linear critic, by finite differences with the real one, and at zero
rows."""

from __future__ import annotations

import pytest
import torch

from mmssl_dist.config import model_sections
from mmssl_dist.losses import critic_loss, generator_loss, generator_rows, real_rows
from mmssl_dist.model.critic import Critic
from mmssl_dist.model.row_functions import normalize

ITEMS = torch.zeros(2, 1)


class Plain:
    """A critic that is ``score`` of the rows themselves."""

    def __init__(self, score) -> None:
        self.score = score

    def first_layer(self, item_rows: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(item_rows), requires_grad=True)


def linear(weight: torch.Tensor) -> Plain:
    return Plain(lambda x: x @ weight)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_rows_by_hand():
    user, item = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 0.0], [4.0, 7.0], [5.0, 0.0]])
    known = torch.tensor([[False, False, True], [True, True, True]])
    assert torch.allclose(generator_rows(user, item, known), torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]))
    real = real_rows(known, torch.zeros(2, 3), torch.full((2, 3), 0.5), model_sections.Adversarial())
    e = torch.tensor(1.0).exp()
    assert torch.allclose(real, normalize(torch.stack([torch.stack([e**0, e**0, e]), torch.ones(3)])))


def test_settings_of_real_rows_matter():
    known, signal, u = uniform(3, 5) < 0.4, normalize(uniform(3, 5, seed=1)), uniform(3, 5, seed=2)
    base = real_rows(known, signal, u, model_sections.Adversarial(signal_scale=1.0))
    for change in ({"gumbel_scale": 1e-2}, {"gumbel_temperature": 1e-5}, {"signal_scale": 2.0}):
        other = real_rows(known, signal, u, model_sections.Adversarial(**{"signal_scale": 1.0} | change))
        assert not torch.allclose(base, other, atol=1e-4)


def test_critic_loss_by_hand():
    w = torch.tensor([3.0, 4.0], requires_grad=True)  # its slope is 5 everywhere
    real, a, b = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        torch.zeros(2, 2),
        torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
    )
    epsilons = [uniform(2), uniform(2, seed=1)]
    loss = critic_loss(
        critic=linear(w), real=real, fakes=[a, b], item_rows=ITEMS, epsilons=epsilons, penalty=0.5, count=2
    )
    # scores: real 3, 4; a 0, 0; b 7, 0. Means over the four: 7/4 - 7/2 + 0.5 * (5 - 1)^2
    assert loss.item() == pytest.approx(7 / 4 - 7 / 2 + 8)
    loss.backward()
    # d/dw: mean fake (1, 1)/4 - mean real (1, 1)/2 + 0.5 * 2 (5 - 1) w/5
    assert w.grad.tolist() == pytest.approx([-0.25 + 2.4, -0.25 + 3.2])
    assert critic_loss(
        critic=linear(w), real=real, fakes=[a, b], item_rows=ITEMS, epsilons=epsilons, penalty=0.5, count=8
    ).item() == pytest.approx(loss.item() / 4)


def test_gradient_is_taken_between_fake_and_real():
    seen = []

    def square(x):
        seen.append(x.detach())
        return 0.5 * (x * x).sum(-1)  # its gradient is x

    real, fake = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    loss = critic_loss(
        critic=Plain(square),
        real=real,
        fakes=[fake],
        item_rows=ITEMS,
        epsilons=[torch.tensor([0.25])],
        penalty=1.0,
        count=1,
    )
    assert seen[-1].tolist() == [[2.0, 0.0]]
    assert loss.item() == pytest.approx(-32 + (2 - 1) ** 2)


def test_no_gradient_reaches_the_rows_from_the_critics_loss():
    real, fake = uniform(3, 4).requires_grad_(), uniform(3, 4, seed=1).requires_grad_()
    critic = Critic(5, (6,), seed=0)
    critic_loss(
        critic=critic,
        real=real,
        fakes=[fake],
        item_rows=uniform(4, 5),
        epsilons=[uniform(3)],
        penalty=0.3,
        count=3,
    ).backward()
    assert real.grad is None
    assert fake.grad is None


def test_shares_sum():
    critic, items = Critic(5, (8, 6), seed=0), uniform(9, 5) - 0.5
    real, fakes = normalize(uniform(7, 9)), [normalize(uniform(7, 9, seed=s)) for s in (1, 2)]
    epsilons = [uniform(7, seed=s) for s in (3, 4)]
    whole = critic_loss(
        critic=critic, real=real, fakes=fakes, item_rows=items, epsilons=epsilons, penalty=0.3, count=7
    )
    whole_generator = generator_loss(critic, fakes, items, 7)
    parts = [slice(0, 3), slice(3, 3), slice(3, 7)]
    split = sum(
        critic_loss(
            critic=critic,
            real=real[s],
            fakes=[f[s] for f in fakes],
            item_rows=items,
            epsilons=[e[s] for e in epsilons],
            penalty=0.3,
            count=7,
        )
        for s in parts
    )
    split_generator = sum(generator_loss(critic, [f[s] for f in fakes], items, 7) for s in parts)
    assert split.item() == pytest.approx(whole.item(), abs=1e-6)
    assert split_generator.item() == pytest.approx(whole_generator.item(), abs=1e-6)
    assert whole_generator.item() == pytest.approx(
        -torch.stack([critic(f, items).mean() for f in fakes]).mean().item()
    )


def test_every_weight_of_the_critic_has_the_gradient_of_finite_differences():
    critic, items = Critic(5, (8, 6), seed=0).double(), (uniform(9, 5) - 0.5).double()
    real, fake = normalize(uniform(4, 9)).double(), normalize(uniform(4, 9, seed=1)).double()
    epsilon = uniform(4, seed=2).double()

    def loss() -> torch.Tensor:
        return critic_loss(
            critic=critic, real=real, fakes=[fake], item_rows=items, epsilons=[epsilon], penalty=0.3, count=4
        )

    loss().backward()
    step = 1e-3  # scores leave the critic in float32
    for name, p in critic.named_parameters():
        assert p.grad.abs().max() > 1e-6, name
        at = p.grad.abs().argmax()
        with torch.no_grad():
            flat, values = p.view(-1), []
            for change in (step, -2 * step):
                flat[at] += change
                values.append(loss_value(loss))
            flat[at] += step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(p.grad.view(-1)[at].item(), rel=0.02), (
            name
        )


def loss_value(loss) -> float:
    with torch.enable_grad():
        return loss().item()


def test_generator_loss_reaches_the_rows():
    critic, items = Critic(5, (8, 6), seed=0).requires_grad_(False), uniform(9, 5) - 0.5
    user, item = (uniform(4, 5) - 0.5).requires_grad_(), (uniform(9, 5, seed=1) - 0.5).requires_grad_()
    known = uniform(4, 9, seed=2) < 0.3
    known[1] = True  # nothing left to score
    generator_loss(critic, [generator_rows(user, item, known)], items, 4).backward()
    assert user.grad.isfinite().all()
    assert user.grad[0].abs().max() > 0
    assert torch.equal(user.grad[1], torch.zeros(5))
    assert item.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_rows_are_finite(dtype):
    critic = Critic(5, (8, 6), seed=0).to(dtype)
    zero = torch.zeros(3, 9)
    loss = critic_loss(
        critic=critic,
        real=zero,
        fakes=[zero],
        item_rows=torch.zeros(9, 5),
        epsilons=[uniform(3)],
        penalty=0.3,
        count=3,
    )
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in critic.parameters())


def test_bf16_critic_trains_towards_telling_rows_apart():
    critic, items = Critic(5, (8, 6), seed=0).to(torch.bfloat16), uniform(9, 5) - 0.5
    real, fake = normalize(uniform(16, 9)), normalize(uniform(16, 9, seed=1) ** 8)
    optimizer = torch.optim.Adam(critic.parameters(), 0.01)
    values = []
    for step in range(60):
        loss = critic_loss(
            critic=critic,
            real=real,
            fakes=[fake],
            item_rows=items,
            epsilons=[uniform(16, seed=step)],
            penalty=0.3,
            count=16,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1
