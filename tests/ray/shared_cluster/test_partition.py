"""The partition stage on a group of Ray Train workers, and on one that loses a worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mmssl_dist.config import Job
from mmssl_dist.graph.partition import partition, publish_partitions
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.partition_stage import partition_workers, run_partitioning
from mmssl_dist.launch.worker_group import WorkerGroup
from mmssl_dist.storage import Manifest
from tests.multiprocess.communities import job_of, write_data
from tests.ray import launch_functions


def prepared(folder: Path, workers: int | str) -> tuple[Job, Manifest]:
    dataset = write_data(folder / "dataset")
    job = job_of(folder, {"parts": 3, "method": "random", "workers": workers})
    return job.model_copy(update={"scaling": job.scaling.model_copy(update={"workers": 2})}), dataset


def test_two_workers_publish_what_one_does(cluster, tmp_path):
    one = partition(*prepared(tmp_path / "one", 1))
    job, dataset = prepared(tmp_path / "two", 2)
    assert run_partitioning(LazyCluster(lambda: cluster), job, dataset) == one
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["dataset", "partitions"]
    assert partition_workers(prepared(tmp_path / "auto", "auto")[0]) == 1  # this is one machine


def test_a_lost_worker_costs_no_modality_that_is_published(cluster, tmp_path):
    one = partition(*prepared(tmp_path / "one", 1))
    job, dataset = prepared(tmp_path / "two", 2)
    workers = WorkerGroup(cluster, job)
    function = partial(launch_functions.dies_while_it_partitions, dataset=dataset, folder=str(tmp_path))
    try:
        workers.run(function, "partition")
    finally:
        workers.close()
    assert len(list(tmp_path.glob("start-1-*"))) == 2
    assert publish_partitions(job, dataset) == one
