"""One command at a time writes to a run: a second is refused, also where the first was killed meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.launch.lazy_cluster import not_needed
from mmssl_dist.pipeline.engine import Pipeline
from mmssl_dist.storage import open_location
from mmssl_dist.storage.run_lock import writing_alone
from tests.jobs import make_job

HOLDER = """
import sys, time
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import open_location
from mmssl_dist.storage.run_lock import writing_alone
with writing_alone(open_location(sys.argv[1], Storage())):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.processes
def test_a_second_command_is_refused_until_the_first_has_ended(tmp_path):
    output = open_location(str(tmp_path / "out"), Storage())
    command = [sys.executable, "-c", HOLDER, output.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError) as refused, writing_alone(output):
            pass
        holder.kill()
    assert f"out, in use by process {holder.pid} on " in str(refused.value)
    assert "one command at a time writes to a run. Wait until it ends" in str(refused.value)
    with writing_alone(output):
        pass


def test_a_refused_command_changes_nothing(tmp_path):
    first, second = (make_job(f"output={tmp_path}/out", f"seed={seed}") for seed in (1, 2))
    with Pipeline(first, not_needed()).begun():
        text = (tmp_path / "out/job.yaml").read_text()
        with pytest.raises(InputError, match="in use by process"), Pipeline(second, not_needed()).begun():
            pass
        assert (tmp_path / "out/job.yaml").read_text() == text
    with Pipeline(second, not_needed()).begun():
        assert (tmp_path / "out/job.yaml").read_text() != text
