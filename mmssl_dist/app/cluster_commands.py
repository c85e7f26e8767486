"""Commands about Ray and its machines: submit, jobs, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmssl_dist.app.options import Address, Debug, Force, JobFile, Json, Overrides, load_resolved
from mmssl_dist.app.reporting import reported, reported_detachable
from mmssl_dist.errors import EXIT_SYSTEM_FAILURE

app = typer.Typer()
jobs = typer.Typer(no_args_is_help=True, help="Jobs sent to a cluster: list, status, logs, stop.")
app.add_typer(jobs, name="jobs")
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="As `submit` and `jobs list` show it.")]
Dashboard = Annotated[
    str | None,
    typer.Option("--address", help="The cluster's dashboard. Default: RAY_ADDRESS, else 127.0.0.1:8265."),
]


@app.command()
@reported_detachable
def submit(
    job_file: JobFile,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(help="The cluster's dashboard. Default: RAY_ADDRESS, else http://127.0.0.1:8265."),
    ] = None,
    image: Annotated[
        bool,
        typer.Option("--image", help="The cluster's image has mmssl-dist installed: send the YAML alone."),
    ] = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the job on a Ray cluster.

    Follows the job's log and ends with its exit status; Ctrl-C detaches and the job keeps running. `ray start
    --head` starts a cluster on this machine. Relative paths in the YAML are relative to the current folder.
    """
    from mmssl_dist.cluster.submit import Submission
    from mmssl_dist.cluster.submit import submit as submit_job

    flags = tuple(name for name, is_set in (("--force", force), ("--debug", debug)) if is_set)
    status = submit_job(Submission(job_file, tuple(overrides or ()), flags, image), address, typer.echo)
    raise typer.Exit(status)


@jobs.command("list")
@reported
def list_jobs(address: Dashboard = None, as_json: Json = False, debug: Debug = False) -> None:
    """Show every job, the latest first.

    Id, status, start, duration, name of the YAML, and output; with --json the command too.
    """
    import time

    from mmssl_dist.cluster.jobs import listed_jobs
    from mmssl_dist.report.job_list import job_lines, jobs_json

    jobs = listed_jobs(address, time.time())
    typer.echo(jobs_json(jobs) if as_json else "\n".join(job_lines(jobs)))


@jobs.command("status")
@reported
def show_status(job_id: JobId, address: Dashboard = None, debug: Debug = False) -> None:
    """Show a job's status."""
    from mmssl_dist.cluster.jobs import job_status

    typer.echo(job_status(address, job_id))


@jobs.command("logs")
@reported_detachable
def show_logs(
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option(help="Follow until the job ends, and end with its exit status.")
    ] = True,
    address: Dashboard = None,
    debug: Debug = False,
) -> None:
    """Show a job's log, and follow it."""
    from mmssl_dist.cluster.jobs import job_logs

    raise typer.Exit(job_logs(address, job_id, typer.echo, follow))


@jobs.command("stop")
@reported
def end_job(job_id: JobId, address: Dashboard = None, debug: Debug = False) -> None:
    """End a job; what it published stays."""
    from mmssl_dist.cluster.jobs import stop_job

    typer.echo(stop_job(address, job_id))


@app.command()
@reported
def doctor(
    job_file: Annotated[
        Path | None, typer.Option("--job", help="Check this job's data and output too.")
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    debug: Debug = False,
) -> None:
    """Check versions, DGL, devices, Ray, storage.

    Exit status 1 when something is missing.
    """
    from mmssl_dist.launch.doctor import examine

    job = None if job_file is None else load_resolved(job_file, overrides)
    failed = False
    for check in examine(address, job):
        # Every check is shown, also after one that failed.
        failed |= not check.passed
        typer.echo(f"{'ok' if check.passed else 'FAIL':<5} {check.name:<12} {check.result}")
    if failed:
        raise typer.Exit(EXIT_SYSTEM_FAILURE)
