"""Placement groups that outlive the actors that made them."""

from __future__ import annotations

import ray
from ray import PlacementGroupID
from ray._private.state import state
from ray.core.generated import gcs_pb2
from ray.util.placement_group import PlacementGroup, remove_placement_group


def remove_orphans() -> None:
    """Remove the placement groups of dead actors of this driver: Ray keeps them, and the room that they
    reserve, until the driver ends. Ray Train's own cleaner asks the dashboard, which a Ray of this machine
    does not have."""
    job = ray.get_runtime_context().get_job_id()
    # Ray's public functions do not say who made a group.
    tables = state._connect_and_get_accessor().get_placement_group_table()
    groups = [gcs_pb2.PlacementGroupTableData.FromString(table) for table in tables]
    kept = [
        group
        for group in groups
        if group.creator_job_id.hex() == job
        and group.state != gcs_pb2.PlacementGroupTableData.REMOVED
        and not group.is_detached
    ]
    if not kept:
        return
    dead = ray._private.state.actors(job_id=ray.JobID.from_hex(job), actor_state_name="DEAD")
    for group in kept:
        if group.creator_actor_id.hex() in dead:
            identity = PlacementGroupID(group.placement_group_id)
            remove_placement_group(PlacementGroup(identity))
