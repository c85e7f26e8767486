"""`mmssl-dist jobs` about a job that runs on a cluster."""

from __future__ import annotations

import subprocess
import sys

from tests.autoscaling import wait_until
from tests.clusters import started_head

_SUBMIT = """
import sys
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
for _ in range(100):
    try:
        print(client.submit_job(entrypoint="echo hello && exec sleep 600", submission_id="waits"))
        break
    except RuntimeError as error:
        if "No available agent" not in str(error):
            raise
"""


def test_a_job_is_listed_shown_and_stopped(tmp_path):
    with started_head(cpus=1) as head:
        sent = subprocess.run(
            [sys.executable, "-c", _SUBMIT, head.address],
            capture_output=True,
            text=True,
            env=head.ray_environment,
            timeout=120,
        )
        assert sent.stdout.split() == ["waits"], sent.stderr

        def output_of(*arguments: str, status: int = 0) -> str:
            done = head.command(tmp_path, "jobs", *arguments, "--address", head.address)
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout

        assert wait_until(lambda: "hello" in output_of("logs", "waits", "--no-follow"), 60)
        assert output_of("list").splitlines()[1].startswith("waits  running ")
        assert "status:      running" in output_of("status", "waits")
        assert "waits is stopping" in output_of("stop", "waits")
        assert "waits: stopped" in output_of("logs", "waits", status=1)
        assert "waits has already ended" in output_of("stop", "waits")
        output_of("status", "nobody", status=2)
