"""One Ray of this machine, with room for two workers and a task, for tests that leave it as they find it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmssl_dist.cluster.connection import Cluster, connect
from mmssl_dist.config.resource_sections import Scaling, Storage


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Ray's workers inherit it and import tests.ray.launch_functions
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        # for which Ray Train asks a stopped worker to leave its group; its default is 30
        patch.setenv("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", "5")
        with connect(Scaling(workers=2), Storage()) as connected:
            yield connected
