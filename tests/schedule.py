"""Which tests one of several pytest processes takes as a whole: what they share is made once, and used by
one."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

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
    """As ``--dist loadfile``, with the files of a unit together; and the run goes on where a process ends
    within a test.

    pytest-xdist 3.8 runs that test again, for as long as before. It also hands out the units that the process
    had finished, of which nothing is left, and single tests to a process that starts none before it knows its
    next: the run then waits forever.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)

    def remove_node(self, node: WorkerController) -> str | None:
        """Take ``node`` out; gives the test that ended it, if one did, and leaves the others to the rest."""
        workload = self.assigned_work[node]
        running = next(
            ((unit, test) for unit, tests in workload.items() for test, done in tests.items() if not done),
            None,
        )
        if running is not None:
            unit, test = running
            workload[unit][test] = True
        for unit in [unit for unit, tests in workload.items() if all(tests.values())]:
            del workload[unit]
        super().remove_node(node)
        return running and running[1]

    def _reschedule(self, node: WorkerController) -> None:
        super()._reschedule(node)
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(super()._split_scope(nodeid))
