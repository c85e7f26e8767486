"""Clusters that grow: for a job, and shrink after it; by hand, under an elastic job. All machines are
processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from tests.autoscaling import autoscaling_head, wait_until
from tests.clusters import BIN, ROOT, Head, added_machine, started_head

PATH = str(ROOT)  # machines inherit it: workers import tests.ray.launch_functions

_ALIVE = """
import json, sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + float(sys.argv[3])
while True:
    alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(alive) == int(sys.argv[2]) or time.monotonic() > deadline:
        break
    time.sleep(0.5)
print(json.dumps(alive))
"""
_TRAIN = """
import json, sys
from functools import partial
import pyarrow.fs as pafs
from mmssl_dist.cluster.connection import connect
from mmssl_dist.launch.run_workers import RunSettings, run_workers
from mmssl_dist.storage import Location
from tests.jobs import make_job
from tests.ray import launch_functions
import logging
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("mmssl_dist").setLevel(logging.INFO)
address, folder, workers = sys.argv[1:4]
job = make_job(scaling={"workers": json.loads(workers), "wait_seconds": 120})
storage = Location(pafs.LocalFileSystem(), folder, folder)
with connect(job.scaling, job.storage, address) as cluster:
    function = partial(launch_functions.machines_seen, folder=folder)
    run = RunSettings(storage=storage, name="run")
    outcome = run_workers(cluster, job, function, stage="test", run=run)
print(json.dumps(outcome.returned))
"""

_ELASTIC = """
import logging, sys
from functools import partial
from mmssl_dist.launch import run_workers, train_stage
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.model_stages import run_evaluation
from mmssl_dist.cluster.connection import connect
from mmssl_dist.report.progress import training_lines
from mmssl_dist.storage import open_location, read_manifest
from tests.jobs import training_job
from tests.ray.launch_functions import train_and_hold_alone
from tests.training import publish_graph
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("mmssl_dist").setLevel(logging.INFO)
run_workers._RESIZE_SECONDS = 3.0
train_stage.train_on_worker = train_and_hold_alone
job = training_job(sys.argv[2], 2, 1, "scaling.workers=[1, 2]", "training.epochs=4",
                   "evaluation.every_epochs=1", "evaluation.ks=[20]")
publish_graph(job)
partitions = read_manifest(open_location(job.output, job.storage) / "partitions", "partitions")
with connect(job.scaling, job.storage, sys.argv[1]) as cluster:
    line = partial(training_lines, epochs=job.training.epochs, metric=job.evaluation.metric)
    training = train_stage.run_training(cluster, job, partitions, line)
    run_evaluation(LazyCluster(lambda: cluster), job, training)
"""

_NOTICE = """
import json, sys
from functools import partial
import pyarrow.fs as pafs
from mmssl_dist.cluster.connection import connect
from mmssl_dist.launch.run_workers import RunSettings, run_workers
from mmssl_dist.storage import Location
from tests.jobs import make_job
from tests.ray import launch_functions
job = make_job(scaling={"workers": 2}, training={"timeout_seconds": 60})
storage = Location(pafs.LocalFileSystem(), sys.argv[2], sys.argv[2])
run = RunSettings(storage=storage, name="run", keep=1, metric="recall@20")
with connect(job.scaling, job.storage, sys.argv[1]) as cluster:
    function = partial(launch_functions.counts_until_told_to_leave, folder=sys.argv[2])
    outcome = run_workers(cluster, job, function, stage="test", run=run)
print(json.dumps(outcome.returned))
"""


def _python(head: Head, code: str, *arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**head.ray_environment, "PYTHONPATH": PATH},
    )


def _machines(head: Head, count: int, seconds: float = 0.0) -> set[str]:
    """The nodes alive when there are ``count`` of them, which has to be within ``seconds``."""
    done = _python(head, _ALIVE, head.gcs, str(count), str(seconds))
    assert done.returncode == 0, done.stderr
    result = set(json.loads(done.stdout.splitlines()[-1]))
    assert len(result) == count
    return result


@pytest.fixture(scope="module")
def head():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        with autoscaling_head(workers=2) as started:
            yield started


def test_the_cluster_grows_for_a_job_and_shrinks_after_it(head, tmp_path):
    _machines(head, 1)
    done = _python(head, _TRAIN, head.gcs, str(tmp_path), "3")
    assert done.returncode == 0, done.stderr
    assert "test: waiting for room for 3 worker(s) of 1 CPU each" in done.stderr
    assert "test: room found after" in done.stderr
    returned = json.loads(done.stdout.splitlines()[-1])
    assert len(returned) == 3
    assert returned[0]["machines"] == 3
    _machines(head, 1, 120)


@pytest.mark.timeout(900)
def test_a_machine_taken_on_notice_leaves_a_checkpoint_and_counts_as_no_failure(tmp_path):
    """The cloud takes a worker's machine, half a minute after it said so; another machine is there. No
    failures are allowed, and the workers go on from a checkpoint made after the notice."""
    with started_head(cpus=1, variables={"PYTHONPATH": PATH}) as head:
        first = _machines(head, 1)
        with added_machine(head):
            (leaving,) = _machines(head, 2, 60) - first
            job = subprocess.Popen(
                [sys.executable, "-c", _NOTICE, head.gcs, str(tmp_path)],
                stdout=subprocess.PIPE,
                text=True,
                env=head.environment,
            )
            try:
                assert wait_until(lambda: any(tmp_path.glob("run*")), 400)
                time.sleep(10)
                assert not list(tmp_path.glob("due-*"))
                with added_machine(head):
                    drain = [
                        str(BIN / "ray"),
                        "drain-node",
                        f"--address={head.gcs}",
                        f"--node-id={leaving}",
                        "--reason=DRAIN_NODE_REASON_PREEMPTION",
                        "--reason-message=spot",
                        "--deadline-remaining-seconds=30",
                    ]
                    subprocess.run(drain, check=True, env=head.ray_environment, capture_output=True)
                    output, _ = job.communicate(timeout=240)
            finally:
                job.kill()
    assert job.returncode == 0
    (due,) = [int(path.name.removeprefix("due-")) for path in tmp_path.glob("due-*")]
    assert json.loads(output.splitlines()[-1]) == [[due, due + 2]] * 2


@pytest.mark.timeout(900)
def test_an_elastic_job_starts_with_the_fewest_workers_and_takes_a_machine_that_appears(tmp_path):
    """A real training: two epochs on the only machine, then a machine joins, and two workers train the other
    two."""
    log, output = tmp_path / "log", tmp_path / "out"
    with started_head(cpus=1, variables={"PYTHONPATH": PATH}) as head, log.open("w") as stream:
        job = subprocess.Popen(
            [sys.executable, "-c", _ELASTIC, head.gcs, str(output)],
            stdout=stream,
            stderr=stream,
            env=head.environment,
        )
        try:
            assert wait_until(lambda: "epoch 2/4" in log.read_text() or job.poll() is not None, 400), (
                log.read_text()
            )
            assert "a group of 2" not in log.read_text()
            with added_machine(head):
                assert job.wait(420) == 0, log.read_text()
        finally:
            job.kill()
    happened = re.findall(r"a group of \d|epoch \d/4", log.read_text())
    assert happened == ["a group of 1", "epoch 1/4", "epoch 2/4", "a group of 2", "epoch 3/4", "epoch 4/4"]
    history = json.loads((output / "training/manifest.json").read_text())["facts"]["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    assert 0 < json.loads((output / "evaluation/metrics.json").read_text())["test"]["recall@20"] <= 1
