"""Adam without torch's compiler.

The methods of torch's optimizers import it at their first call, to keep it from compiling them, and nothing
here is compiled: an import as long as that of torch itself, in every worker, before its first step.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch.optim import Adam


class EagerAdam(Adam):
    """``torch.optim.Adam``, computed by the same functions."""

    # Without the wrappers that import the compiler.
    add_param_group = unwrap(Adam.add_param_group)
    load_state_dict = unwrap(Adam.load_state_dict)
    state_dict = unwrap(Adam.state_dict)
    zero_grad = unwrap(Adam.zero_grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """See ``Adam.step``; gradients do not pass through it, as there without ``differentiable``."""
        return _adam_step(self, closure)


_adam_step = unwrap(Adam.step)
