"""Ray Train's trainer without the helpers that a run here has no use for.

Each of them is an actor in a process of its own, which imports Ray Train and Ray Data: two seconds of
processor time, at a moment when the workers need it to start.
"""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

# Shards of Ray Data's datasets: workers read partitions instead.
_NEVER = (DatasetsCallback,)
# Frees the workers' resources if the controller dies. It asks the dashboard about that, which a Ray of this
# machine does not have, and which ends with the command anyway.
_NOT_ON_OWN_RAY = (PlacementGroupCleanerCallback,)

OWN_RAY_SETTINGS = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Variables for a Ray of this machine: nobody gives notice of taking it away."""


class LeanTrainer(TorchTrainer):  # type: ignore[misc]
    """``TorchTrainer``, on ``own_ray`` or on a cluster, with fewer actors beside the workers."""

    def __init__(self, *arguments: Any, own_ray: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._own_ray = own_ray

    def _create_default_callbacks(self) -> list[Any]:
        left_out = (*_NEVER, *_NOT_ON_OWN_RAY) if self._own_ray else _NEVER
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, left_out)]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self._own_ray and type(arguments["scaling_policy"]) is FixedScalingPolicy:
            arguments["scaling_policy"] = _NoAutoscaler(self.scaling_config)
        return super()._initialize_and_run_controller(**arguments)


class _NoAutoscaler(FixedScalingPolicy):  # type: ignore[misc]
    """Asks for no machines: no autoscaler watches a Ray of this machine. Before any worker starts, Ray Train
    otherwise waits for the actor that it asks."""

    def after_controller_start(self, train_run_context: object) -> None:
        """See the class."""

    def _maybe_send_resource_request(self) -> None:
        pass
