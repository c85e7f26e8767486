"""Clusters that grow for a job and shrink after it; the nodes are processes of this machine (see tests.autoscaling)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.autoscaling import autoscaling_head, wait_until
from tests.clusters import ROOT, Head

_ALIVE = """
import ray
ray.init(address={gcs!r}, log_to_driver=False, logging_level="ERROR")
print(sum(node["Alive"] for node in ray.nodes()))
"""
_TRAIN = """
import json, sys
from pathlib import Path
import pyarrow.fs as pafs
from mmssl_dist.config import parse_job
from mmssl_dist.launch.cluster import connect
from mmssl_dist.launch.train import Run, run_workers
from mmssl_dist.storage import Location
import logging
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("mmssl_dist").setLevel(logging.INFO)
address, folder, workers = sys.argv[1:4]
job = parse_job({"output": "unused", "data": {"path": "unused", "modalities": {"image": {"file": "image.npy"}}},
                 "scaling": {"workers": json.loads(workers), "wait_seconds": 120}})
from mmssl_dist.launch import train
train._RESIZE_SECONDS = 5.0
storage = Location(pafs.LocalFileSystem(), folder, folder)
with connect(job.scaling, job.storage, address) as cluster:
    outcome = run_workers(cluster, job, "test", sys.argv[4], {"folder": folder}, Run(storage, "run"))
print(json.dumps(outcome.returned))
"""


def _python(head: Head, code: str, *arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    path = f"{ROOT}:{Path(__file__).parent}"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=timeout,
                          env={**head.environment, "PYTHONPATH": path})  # fmt: skip


def _machines(head: Head) -> int:
    done = _python(head, _ALIVE.format(gcs=head.gcs))
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def head():
    with pytest.MonkeyPatch.context() as patch:
        # the machines inherit it: workers import launch_functions by name
        patch.setenv("PYTHONPATH", f"{ROOT}:{Path(__file__).parent}")
        with autoscaling_head(workers=2) as started:
            yield started


def test_the_cluster_grows_for_a_job_and_shrinks_after_it(head, tmp_path):
    assert _machines(head) == 1
    done = _python(head, _TRAIN, head.gcs, str(tmp_path), "3", "launch_functions:machines_seen")
    assert done.returncode == 0, done.stderr
    assert "test: waiting for room for 3 worker(s) of 1 CPU each" in done.stderr
    assert "test: room found after" in done.stderr
    returned = json.loads(done.stdout.splitlines()[-1])
    assert len(returned) == 3
    assert returned[0]["machines"] == 3
    assert wait_until(lambda: _machines(head) == 1, 120)


def test_an_elastic_job_takes_machines_that_come(head, tmp_path):
    """Begun with room for one worker, ended with two: in a new group, unless the machine came before the first."""
    assert wait_until(lambda: _machines(head) == 1, 120)
    done = _python(head, _TRAIN, head.gcs, str(tmp_path), "[1, 2]", "launch_functions:until_there_are_two")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])) == 2
    assert (tmp_path / "group-2").exists()
