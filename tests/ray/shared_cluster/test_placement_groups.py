"""Room that a dead actor had reserved, as a trial that is stopped does."""

from __future__ import annotations

import time

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from mmssl_dist.cluster.placement_groups import remove_orphans


@ray.remote(num_cpus=0)
class _Trial:
    def reserve(self) -> str:
        group = placement_group([{"CPU": 1}])
        ray.get(group.ready())
        return str(group.id.hex())


def _state(group: str) -> str:
    return str(placement_group_table()[group]["state"])


def _is_removed(group: str) -> bool:
    """Whether the room is given back, once Ray knows that its actor is dead."""
    deadline = time.monotonic() + 60
    while _state(group) != "REMOVED" and time.monotonic() < deadline:
        time.sleep(0.1)
        remove_orphans()
    return _state(group) == "REMOVED"


def test_the_room_of_a_dead_actor_is_free_again(cluster):
    own = placement_group([{"CPU": 1}])  # the driver's
    ray.get(own.ready())
    trial, other = (_Trial.remote() for _ in range(2))  # type: ignore[attr-defined]
    group = ray.get(trial.reserve.remote())
    remove_orphans()
    assert _state(group) == _state(own.id.hex()) == "CREATED"
    ray.kill(trial)
    time.sleep(1)
    assert _state(group) == "CREATED"  # Ray itself keeps it
    assert _is_removed(group)
    assert _state(own.id.hex()) == "CREATED"
    # Of three processors the driver has one, and the dead actor had another.
    again = ray.get(other.reserve.remote(), timeout=60)
    remove_orphans()
    assert _state(again) == "CREATED"
    ray.kill(other)
    remove_placement_group(own)
    assert _is_removed(again)
