"""A whole job, as the command line and Python run it: all stages, the report, and the end of its trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmssl_dist.config import Job
from mmssl_dist.launch.fingerprints import run_name
from mmssl_dist.launch.lazy_cluster import lazy_cluster
from mmssl_dist.pipeline import stages
from mmssl_dist.report.html import write_report
from mmssl_dist.tracking.mlflow import end_mlflow
from mmssl_dist.tracking.tensorboard import end_tensorboard
from mmssl_dist.tracking.wandb import end_wandb


@dataclass(frozen=True)
class WholeRun:
    """What a job has published.

    Attributes:
        metrics: facts of its evaluation.
        report: URL of report.html.
    """

    metrics: Mapping[str, Any]
    report: str


def run_whole(job: Job, address: str | None = None, force: bool = False, debug: bool = False) -> WholeRun:
    """Run all stages of ``job``, skipping those whose output matches their inputs, and write the report.

    Args:
        job: with absolute local paths, as ``resolved`` makes it.
        address: of a Ray cluster; by default RAY_ADDRESS, else a Ray of this machine.
        force: repeat what is done.

    Raises:
        MmsslError: as the stages do.
    """
    with lazy_cluster(job, address, debug) as cluster:
        manifests = stages.run_all(job, cluster, force)
    metrics, report = manifests["evaluate"].facts, write_report(job.output, job.storage)
    name = run_name(job, manifests["partition"])
    end_tensorboard(job, name, metrics)
    end_mlflow(job, name, metrics)
    end_wandb(job, name, manifests["train"].facts["history"], metrics)
    return WholeRun(metrics, report)
