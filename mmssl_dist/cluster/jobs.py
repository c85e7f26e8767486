"""Jobs that were sent to a cluster: which there are, how they stand, what they say, and an end to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mmssl_dist.cluster.submit import NAME, OUTPUT, cluster_address, follow_job, job_client
from mmssl_dist.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ListedJob:
    """A job of the cluster.

    Attributes:
        id, status, command: as Ray has them.
        name: of its YAML; None for a job that another program submitted.
        output: its output; None likewise.
        started, ended: in UTC, such as 2026-01-05 10:00:00Z; None where they have not.
        seconds: from its start to its end, or to now.
    """

    id: str
    status: str
    name: str | None
    output: str | None
    started: str | None
    ended: str | None
    seconds: float | None
    command: str


def listed_jobs(address: str | None, now: float) -> list[ListedJob]:
    """Every job of the cluster, the latest first.

    Args:
        address: of the cluster's dashboard.
        now: seconds since 1970.
    """
    # Ray also lists drivers that were started by hand; they have no id to follow or stop them by.
    jobs = [job for job in job_client(cluster_address(address)).list_jobs() if job.submission_id]
    return [_listed(job, now) for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True)]


def job_status(address: str | None, job_id: str) -> str:
    """How the job stands, in a few lines."""
    info = _info(job_client(cluster_address(address)), job_id)
    lines = {
        "status": info.status.value.lower(),
        "name": (info.metadata or {}).get(NAME, "-"),
        "output": (info.metadata or {}).get(OUTPUT, "-"),
        "started": _time(info.start_time) or "-",
        "ended": _time(info.end_time) or "-",
        "exit status": "-" if info.driver_exit_code is None else str(info.driver_exit_code),
        "command": info.entrypoint,
        "message": (info.message or "-").strip().splitlines()[0],
    }
    return "\n".join(f"{name + ':':<13}{text}" for name, text in lines.items())


def job_logs(address: str | None, job_id: str, show: Callable[[str], None], follow: bool) -> int:
    """Give the job's log to ``show``: as it is, or until the job ends. Returns the job's exit status when
    followed."""
    target = cluster_address(address)
    client = job_client(target)
    _info(client, job_id)
    if follow:
        return follow_job(client, target, job_id, show)
    show(str(client.get_job_logs(job_id)).rstrip("\n"))
    return 0


def stop_job(address: str | None, job_id: str) -> str:
    """End the job; what it published stays. Returns what there is to say about it."""
    client = job_client(cluster_address(address))
    if _info(client, job_id).status.is_terminal():
        return f"{job_id} has already ended"
    client.stop_job(job_id)
    return f"{job_id} is stopping; submit it again to resume from what was published"


def _listed(job: Any, now: float) -> ListedJob:
    about, seconds = job.metadata or {}, None
    if job.start_time:
        end = job.end_time / 1000 if job.end_time else now
        seconds = round(max(0.0, end - job.start_time / 1000), 1)
    return ListedJob(
        id=job.submission_id,
        status=job.status.value.lower(),
        name=about.get(NAME),
        output=about.get(OUTPUT),
        started=_time(job.start_time),
        ended=_time(job.end_time),
        seconds=seconds,
        command=job.entrypoint,
    )


def _info(client: Any, job_id: str) -> Any:
    try:
        return client.get_job_info(job_id)
    except RuntimeError as error:
        if "404" not in str(error) and "does not exist" not in str(error):
            raise
        raise InputError(
            "JOB_ID", job_id, "the cluster must know the job", "See `mmssl-dist jobs list`."
        ) from error


def _time(milliseconds: int | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
