"""Adam without torch's compiler steps as torch's does, and leaves the compiler out."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import pytest
import torch

from mmssl_dist.training.eager_adam import EagerAdam

PROGRAM = """
import sys
import torch
from mmssl_dist.training.eager_adam import EagerAdam
weight = torch.nn.Parameter(torch.ones(3))
adam = EagerAdam([weight], lr=0.1)
weight.sum().backward()
adam.step()
adam.zero_grad()
adam.load_state_dict(adam.state_dict())
assert weight.max() < 1
assert "torch._dynamo" not in sys.modules, "imported"
"""


def _after_steps(kind: type[torch.optim.Adam], steps: int) -> tuple[torch.Tensor, dict]:
    torch.manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(5, 3)), torch.nn.Parameter(torch.randn(4))]
    adam = kind(weights[:1], lr=0.03, betas=(0.5, 0.9))
    adam.add_param_group({"params": weights[1:], "lr": 0.01})
    for step in range(steps):
        if step == steps // 2:  # as a training that is resumed
            state, adam = adam.state_dict(), kind(weights, lr=1.0)
            adam.param_groups.clear()
            adam.add_param_group({"params": weights[:1]})
            adam.add_param_group({"params": weights[1:]})
            adam.load_state_dict(state)
        loss = adam.step(partial(_loss, adam, weights))
    assert loss.requires_grad
    return torch.cat([weight.detach().flatten() for weight in weights]), adam.state_dict()


def _loss(adam: torch.optim.Adam, weights: list[torch.nn.Parameter]) -> torch.Tensor:
    adam.zero_grad()
    with torch.enable_grad():
        loss = sum(((weight - 1) ** 2).sum() + torch.randn(()) * weight.sum() for weight in weights)
        loss.backward()
    return loss


def test_it_steps_as_torchs_does():
    weights, state = _after_steps(EagerAdam, 8)
    expected, expected_state = _after_steps(torch.optim.Adam, 8)
    assert torch.equal(weights, expected)
    assert state["param_groups"] == expected_state["param_groups"]
    for own, theirs in zip(state["state"].values(), expected_state["state"].values(), strict=True):
        assert all(torch.equal(own[name], theirs[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


@pytest.mark.processes
def test_the_compiler_is_not_imported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
