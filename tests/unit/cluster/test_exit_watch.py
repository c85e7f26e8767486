"""The line about a process that could not say anything itself, from real processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.clusters import ROOT

_PROGRAM = """
import os, signal, subprocess, sys
from mmssl_dist.cluster.exit_watch import LastWords
words = LastWords()
inherits = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(40)"], stderr=subprocess.DEVNULL)
try:
    {end}
finally:
    inherits.kill()
    words.close()
    words.close()
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
        ("os.kill(words._watch.pid, signal.SIGKILL)", 0, 0),
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
    said = done.stderr.splitlines()
    assert len(said) == lines
    assert all(line.startswith("error: this command's process was ended from outside") for line in said)
