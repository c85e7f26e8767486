"""The lines about a process that is ended from outside, from real processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.clusters import ROOT

_PROGRAM = """
import os, signal, subprocess, sys
from mmssl_dist.cluster.exit_watch import ExitWatch
watch = ExitWatch()
inherits = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(40)"], stderr=subprocess.DEVNULL)
try:
    {end}
finally:
    inherits.kill()
    watch.close()
    watch.close()
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("end", "status", "lines"),
    [
        ("os._exit(1)", 1, 1),  # Ray's way
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, 1),
        ("os.killpg(0, signal.SIGTERM)", -signal.SIGTERM, 1),  # the watch is in the group
        ("pass", 0, 0),
        ("sys.exit(3)", 3, 0),
        ("os.kill(watch._watch.pid, signal.SIGKILL)", 0, 0),
    ],
)
def test_one_line_where_the_process_could_not_end_in_its_own_way(end, status, lines):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(end=end)],
        cwd=ROOT,
        text=True,
        start_new_session=True,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert done.returncode == status
    output = done.stderr.splitlines()
    assert len(output) == lines
    assert all(line.startswith("error: this command's process was ended from outside") for line in output)


_STOPPED = """
import os, signal, sys, threading, time
from mmssl_dist.cluster.exit_watch import RESUME, Terminated, kept_sigterm, terminable

def rays_own(number, frame):
    sys.exit(number)

with terminable(RESUME):
    try:
        with kept_sigterm():
            signal.signal(signal.SIGTERM, rays_own)
            {during}
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    except Terminated:
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(143)
"""


@pytest.mark.parametrize("during", ["pass", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"])
@pytest.mark.processes
def test_sigterm_is_one_line_on_how_to_resume_also_while_ray_starts(during):
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED.format(during=during)],
        cwd=ROOT,
        text=True,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    assert done.stderr == (
        "stopped by SIGTERM. What is published is complete; run the same command again to resume.\n"
    )
    assert done.returncode == 143  # and a second signal does not disturb the end
