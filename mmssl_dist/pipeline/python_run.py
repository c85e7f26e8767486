"""A job run from Python: the YAML or its content, with progress on stderr as the command line has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mmssl_dist.config import load_job, parse_job
from mmssl_dist.launch.preflight import resolved
from mmssl_dist.pipeline.whole_run import run_whole
from mmssl_dist.report.live import logged_progress


def run_from_python(
    job: str | os.PathLike[str] | Mapping[str, object],
    overrides: Sequence[str],
    *,
    address: str | None,
    force: bool,
    progress: bool,
) -> tuple[str, Mapping[str, object]]:
    """Run ``job``; the URL of its output, and how it is reached: see ``mmssl_dist.run``."""
    if isinstance(job, str | os.PathLike):
        parsed = resolved(load_job(os.fspath(job), overrides))
    else:
        parsed = resolved(parse_job(job, overrides))
    with logged_progress(progress):
        run_whole(parsed, address, force=force)
    return parsed.output, parsed.storage.model_dump(exclude_unset=True)
