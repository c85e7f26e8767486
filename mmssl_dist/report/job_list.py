"""The jobs of a cluster as aligned lines, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mmssl_dist.cluster.jobs import ListedJob
from mmssl_dist.report.progress import duration


def job_lines(jobs: Sequence[ListedJob]) -> list[str]:
    """A line of column names and one per job: id, status, start, duration, name, output."""
    head = ("id", "status", "started", "duration", "name", "output")
    rows = [head, *map(_cells, jobs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def jobs_json(jobs: Sequence[ListedJob]) -> str:
    """A list of objects with the attributes of ``ListedJob``."""
    return json.dumps([asdict(job) for job in jobs], ensure_ascii=False)


def _cells(job: ListedJob) -> tuple[str, ...]:
    spent = None if job.seconds is None else duration(job.seconds)
    return tuple(text or "-" for text in (job.id, job.status, job.started, spent, job.name, job.output))
