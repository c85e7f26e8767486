"""The partition stage on Ray: one task, or a group of workers on the same exchange as training's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mmssl_dist.cluster.capacity import machines
from mmssl_dist.config import Job
from mmssl_dist.graph.partition import partition, progress_of, publish_partitions, require_nodes_of
from mmssl_dist.launch.lazy_cluster import LazyCluster
from mmssl_dist.launch.worker_group import WorkerGroup
from mmssl_dist.storage import Manifest

if TYPE_CHECKING:
    from mmssl_dist.exchange.worker import Worker


def run_partitioning(cluster: LazyCluster, job: Job, dataset: Manifest) -> Manifest:
    """Partition the dataset of ``job`` and publish the result; resumes where an earlier start was lost."""
    # Left from a stage before, they may hold the CPUs that partitioning waits for.
    cluster.release_workers()
    connected = cluster.connect()
    workers = partition_workers(job)
    if workers == 1:
        manifest: Manifest = cluster.run_task(partition, job, dataset)
        return manifest
    require_nodes_of(job, dataset)
    scaling = job.scaling.model_copy(update={"workers": workers, "gpus_per_worker": 0, "accelerator": None})
    # spread: a worker is limited by its machine's memory, of which it wants more than its share
    group = WorkerGroup(connected, job.model_copy(update={"scaling": scaling}), strategy="SPREAD")
    try:
        group.run(partial(write_parts, dataset=dataset), "partition")
    finally:
        group.close()
    # In the driver, once all have written: the manifest is what makes the artifact exist.
    return publish_partitions(job, dataset)


def write_parts(job: Job, worker: Worker, dataset: Manifest) -> None:
    """What each worker of the group runs."""
    from mmssl_dist.graph.partition_worker import write_partitions

    write_partitions(job, worker, dataset, progress_of(job, dataset))


def partition_workers(job: Job) -> int:
    """``partition.workers``; auto: 1 on one machine, on a cluster as many as training begins with."""
    if job.partition.workers != "auto":
        return job.partition.workers
    return job.scaling.fewest if machines() > 1 else 1
