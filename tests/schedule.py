"""Which tests one of several pytest processes takes as a whole: what they share is made once, and used by
one."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

# Their files are one unit; any other file is a unit of its own.
TOGETHER = {
    # share a trained job, and each case restores its folder
    "tests/end_to_end/bad_input/": "bad input",
    # share a Ray of this machine
    "tests/ray/shared_cluster/": "own Ray",
    # start clusters by `ray start`, whose machines take the ports of their workers from one range
    "tests/ray/test_autoscaling.py": "clusters",
    "tests/ray/test_jobs.py": "clusters",
    "tests/ray/test_object_storage.py": "clusters",
    "tests/ray/test_submit.py": "clusters",
    # each starts a service, and some ports of Ray Serve are the machine's
    "tests/end_to_end/test_own_data.py": "services",
    "tests/end_to_end/test_serve.py": "services",
}


def unit_of(file: str) -> str:
    """The unit that a test file belongs to; ``file`` is relative to the repository."""
    return next((unit for prefix, unit in TOGETHER.items() if file.startswith(prefix)), file)


class Scheduling(LoadFileScheduling):
    """As ``--dist loadfile``, with the files of a unit together."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(super()._split_scope(nodeid))
