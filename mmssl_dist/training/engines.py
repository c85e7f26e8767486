"""Dense weights inside DeepSpeed engines, and their state as plain full tensors that any number of workers
can load.

DeepSpeed's own checkpoints are pickles cut for one number of workers; these are dictionaries of float32
tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmssl_dist.config.training_sections import DenseOptimizer
from mmssl_dist.training.eager_adam import EagerAdam

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Engine:
    """A module wrapped by DeepSpeed with a torch Adam.

    Attributes:
        wrapped: the DeepSpeed engine: call it, ``backward`` and ``step``.
        module: the module itself, for what must not go through the engine.
    """

    wrapped: Any
    module: nn.Module

    def state(self) -> dict[str, Tensor]:
        """Weights and moments of every parameter in full, float32, on the CPU (collective)."""
        result = {}
        for name, parameter in self.module.named_parameters():
            # Cloned: on a CPU ``cpu`` gives the parameter itself, which the next step changes.
            result[name] = self._weight(parameter).detach().cpu().clone()
            for moment in _MOMENTS:
                result[f"{moment}.{name}"] = self._moment(parameter, moment).detach().cpu().clone()
        result["steps"] = torch.tensor([self._steps()], dtype=torch.int64)
        return result

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from ``state()`` of an engine of any number of workers and ZeRO stage (collective)."""
        steps = int(state["steps"])
        self._make_state()
        for name, parameter in self.module.named_parameters():
            self._set_weight(parameter, state[name])
            for moment in _MOMENTS:
                self._set_moment(parameter, moment, state[f"{moment}.{name}"])
        # Adam made by a step with zero gradients counts one; the true number decides the bias correction.
        for entry in self._adam().state.values():
            entry["step"] = torch.tensor(float(steps))

    def gradients(self) -> Iterator[Tensor]:
        """Those that the next ``wrapped.step()`` will use: of all parameters, or with ZeRO of this worker's
        share."""
        if not self._sharded():
            yield from (
                parameter.grad for parameter in self.module.parameters() if parameter.grad is not None
            )
            return
        for share in self.wrapped.optimizer.averaged_gradients.values():
            yield from share if isinstance(share, list) else [share]

    def _adam(self) -> torch.optim.Adam:
        optimizer = self.wrapped.optimizer
        # For ZeRO and bf16 DeepSpeed puts an optimizer of its own around Adam.
        inner: torch.optim.Adam = getattr(optimizer, "optimizer", optimizer)
        return inner

    def _sharded(self) -> bool:
        return bool(self.wrapped.zero_optimization())

    def _master(self, parameter: nn.Parameter) -> Tensor:
        """Without ZeRO: the tensor Adam works on, a float32 copy in bf16 training."""
        optimizer = self.wrapped.optimizer
        if not hasattr(optimizer, "fp16_groups"):
            return parameter
        # DeepSpeed's names are those of fp16; in bf16 training they are bf16 weights and float32 copies.
        pairs = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        full: Tensor = next(
            f for low, high in pairs for h, f in zip(low, high, strict=True) if h is parameter
        )
        return full

    def _weight(self, parameter: nn.Parameter) -> Tensor:
        if not self._sharded():
            return self._master(parameter)
        from deepspeed.utils import safe_get_full_fp32_param

        weight: Tensor = safe_get_full_fp32_param(parameter)
        return weight

    def _moment(self, parameter: nn.Parameter, moment: str) -> Tensor:
        if not self._sharded():
            entry = self._adam().state.get(self._master(parameter), {})
            return entry[moment] if moment in entry else torch.zeros_like(parameter, dtype=torch.float32)
        from deepspeed.utils import safe_get_full_optimizer_state

        # Adam has no moments before its first step.
        value = safe_get_full_optimizer_state(parameter, moment) if self._steps() else None
        return torch.zeros_like(parameter, dtype=torch.float32) if value is None else value

    def _set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        value = value.to(parameter.device)
        if self._sharded():
            from deepspeed.utils import safe_set_full_fp32_param

            safe_set_full_fp32_param(parameter, value)
        else:
            self._master(parameter).copy_(value)
        # In bf16 and under ZeRO the lines above set the optimizer's float32 copy; the module uses this one.
        parameter.copy_(value)

    def _set_moment(self, parameter: nn.Parameter, moment: str, value: Tensor) -> None:
        value = value.to(parameter.device)
        if self._sharded():
            from deepspeed.utils import safe_set_full_optimizer_state

            safe_set_full_optimizer_state(parameter, value, moment)
        else:
            self._adam().state[self._master(parameter)][moment].copy_(value)

    def _steps(self) -> int:
        return max((int(entry["step"]) for entry in self._adam().state.values()), default=0)

    def _make_state(self) -> None:
        """Adam makes its moments in its first step; a step with zero gradients makes them and moves
        nothing."""
        adam = self._adam()
        tensors = [tensor for group in adam.param_groups for tensor in group["params"]]
        for tensor in tensors:
            tensor.grad = torch.zeros_like(tensor)
        adam.step()
        for tensor in tensors:
            tensor.grad = None
        if self._sharded():
            # accessors find the moments just made
            self.wrapped.optimizer._lazy_init_hp_params_optimizer_state()


def make_engine(
    module: nn.Module, learning_rate: float, betas: tuple[float, float], settings: DenseOptimizer
) -> Engine:
    """``module`` in a DeepSpeed engine over all workers of the process group that exists."""
    # DeepSpeed picks its accelerator when imported; without this it may choose one by what is installed
    first = next(module.parameters())
    if first.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Launchers set it, Ray Train among them; DeepSpeed insists on it even for a module on its device
    os.environ.setdefault("LOCAL_RANK", str(first.device.index or 0))
    from mmssl_dist.training.light_deepspeed import deepspeed

    config = {
        # DeepSpeed wants one; batches are made here, and losses are global means
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": settings.precision == "bf16"},
        "gradient_clipping": settings.clip,
        "steps_per_print": 1 << 40,  # never: the log has figures of its own
    }
    # ZeRO imports torch's compiler itself, and warns of optimizers other than torch's
    make_adam = torch.optim.Adam if settings.zero_stage else EagerAdam
    adam = make_adam(module.parameters(), lr=learning_rate, betas=betas)
    # The process group exists already, and DeepSpeed must not make another one.
    wrapped, *_ = deepspeed.initialize(model=module, optimizer=adam, config=config, dist_init_required=False)
    return Engine(wrapped, wrapped.module)
