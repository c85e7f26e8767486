"""A cluster that grows and shrinks on this machine: Ray's autoscaler with its fake provider, whose nodes are
processes.

Like ``ray.cluster_utils.AutoscalingCluster``, which cannot be used as it is: a file it reads is not in Ray's
wheel, it
expects its GCS at port 6379, and it stops every Ray of the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.clusters import Head, started_head

_INTERVAL_SECONDS = 1
_IDLE_MINUTES = 0.2


@contextmanager
def autoscaling_head(workers: int, head_cpus: int = 1) -> Iterator[Head]:
    """A head with ``head_cpus``, and up to ``workers`` machines of 1 CPU that come on demand and go when
    idle."""
    variables = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": str(_INTERVAL_SECONDS)}

    def configuration(gcs: str) -> dict[str, object]:
        return {
            "cluster_name": "grows",
            "max_workers": workers,
            "idle_timeout_minutes": _IDLE_MINUTES,
            "upscaling_speed": 10,
            "auth": {},
            "docker": {},
            "initialization_commands": [],
            "setup_commands": [],
            "head_setup_commands": [],
            "worker_setup_commands": [],
            "head_start_ray_commands": [],
            "worker_start_ray_commands": [],
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            "provider": {
                "type": "fake_multinode",
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
                "gcs_address": gcs,
            },
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {"CPU": head_cpus}, "node_config": {}, "max_workers": 0},
                "worker": {
                    "resources": {"CPU": 1, "object_store_memory": 100_000_000},
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": workers,
                },
            },
        }

    with started_head(head_cpus, variables, configuration) as head:
        yield head


def wait_until(condition: object, seconds: float) -> bool:
    """Whether ``condition()`` came true within ``seconds``."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False
