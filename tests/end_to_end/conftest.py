"""One Ray for the commands of this folder's tests, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

_HEAD = """
import sys
import ray
from mmssl_dist.cluster.local_ray import few_services
with few_services():
    ray.init(address="local", num_cpus=3, object_store_memory=150_000_000, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="package")
def ray_address() -> Iterator[str]:
    """Where commands find a Ray with 3 cores: each of them would take seconds to start its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HEAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, "Ray did not start"
        yield address
    finally:
        process.stdin.close()
        process.wait(60)
