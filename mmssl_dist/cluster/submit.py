"""Sends a job to a Ray cluster as a Ray Job, follows its log, and ends as the job ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmssl_dist
from mmssl_dist.cluster.authentication import accepted_token, token_refused
from mmssl_dist.cluster.connection import no_cluster, probe
from mmssl_dist.cluster.exit_watch import Terminated
from mmssl_dist.config import load_job
from mmssl_dist.config.named_paths import named_paths
from mmssl_dist.errors import EXIT_BAD_INPUT, EXIT_SYSTEM_FAILURE, InputError
from mmssl_dist.storage.paths import absolute

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
NAME, OUTPUT = "mmssl_name", "mmssl_output"
"""Keys of a job's metadata on the cluster."""
_CLI = "from mmssl_dist.app import main\n\nif __name__ == '__main__':\n    main()\n"
_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_NO_AGENT = "No available agent"
_STATUS_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Submission:
    """What is sent.

    Attributes:
        job_file: the YAML.
        overrides: a.b=c, as given.
        flags: further arguments of ``run``.
        installed: the cluster's image has this package; only the YAML is sent.
    """

    job_file: Path
    overrides: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    installed: bool = False


def cluster_address(address: str | None) -> str:
    """Where to submit: ``address``, else Ray's own variables, else the dashboard of a Ray on this machine."""
    return (
        address
        or os.environ.get("RAY_API_SERVER_ADDRESS")
        or os.environ.get("RAY_ADDRESS")
        or DEFAULT_ADDRESS
    )


def submit(submission: Submission, address: str | None, show: Callable[[str], None]) -> int:
    """Submit, give the log to ``show`` until the job ends, and return its exit status.

    Raises:
        InputError: the job is not valid, or no cluster answers; says how to start one.
        KeyboardInterrupt, Terminated: from outside; the job runs on, and ``show`` got how to follow it again.
    """
    # Before anything is sent: a job that is not valid is refused here and not minutes later in a log.
    overrides = _portable_overrides(submission)
    target = cluster_address(address)
    client = job_client(target)
    # A folder of its own, as Ray packs all of a working directory: never the user's, with data and runs in it
    with tempfile.TemporaryDirectory(prefix="mmssl-submit-") as name:
        folder = Path(name)
        job_path = _pack(submission, folder)
        environment: dict[str, Any] = {"working_dir": name}
        if not submission.installed:
            # On this machine, or one with the same folders, `python` then means this package's interpreter.
            environment["env_vars"] = {"PATH": f"{Path(sys.executable).parent}:${{PATH}}"}
        program = ["mmssl-dist"] if submission.installed else ["python", "cli.py"]
        settings = [part for override in overrides for part in ("--set", override)]
        entrypoint = shlex.join([*program, "run", job_path, *settings, *submission.flags])
        job_id = _send(
            client=client,
            target=target,
            entrypoint=entrypoint,
            environment=environment,
            description=_description(submission),
        )
    show(f"submitted {job_id} to {target}")
    return follow_job(client, target, job_id, show)


def follow_job(client: Any, target: str, job_id: str, show: Callable[[str], None]) -> int:
    """Give the log of ``job_id`` to ``show`` until the job ends, and return its exit status.

    Raises:
        KeyboardInterrupt, Terminated: from outside; the job runs on, and ``show`` got how to follow it again.
    """
    try:
        asyncio.run(_follow(client, job_id, show))
        return _exit_status(client, job_id, show)
    except (KeyboardInterrupt, Terminated):
        show(f"detached; {job_id} runs on. Follow it again: mmssl-dist jobs logs {job_id} --address {target}")
        show(f"Stop it: mmssl-dist jobs stop {job_id} --address {target}")
        raise


def _description(submission: Submission) -> dict[str, str]:
    """What `jobs list` shows of the job beside what Ray knows: the name of its YAML, and its output."""
    output = absolute(load_job(submission.job_file, submission.overrides).output)
    return {NAME: submission.job_file.stem, OUTPUT: output}


def _send(
    client: Any, target: str, entrypoint: str, environment: dict[str, Any], description: dict[str, str]
) -> str:
    """Submit; a cluster that has only just started may not take jobs for some seconds."""
    started = time.monotonic()
    while True:
        try:
            return str(
                client.submit_job(entrypoint=entrypoint, runtime_env=environment, metadata=description)
            )
        except RuntimeError as error:
            # Only this refusal passes by itself, when the cluster's agent has started.
            if _NO_AGENT not in str(error):
                raise no_cluster("--address", target, error) from error
            if time.monotonic() - started > _PATIENCE_SECONDS:
                raise _no_agent(target) from error
        time.sleep(_STATUS_SECONDS)


def _no_agent(target: str) -> InputError:
    return InputError(
        "--address",
        target,
        f"no machine of that cluster takes jobs after {_PATIENCE_SECONDS:g} s: its dashboard agent does not "
        "run, usually because another Ray on the machine listens on the agent's port, 52365",
        "End the other Ray, or start this one with `ray start --head --dashboard-agent-listen-port=PORT`.",
    )


def _portable_overrides(submission: Submission) -> tuple[str, ...]:
    """The overrides, and absolute forms of local paths: the job runs in another working directory."""
    # Relative paths are those of the folder in which the command was given.
    paths = named_paths(load_job(submission.job_file, submission.overrides))
    moved = {key: absolute(path) for key, path in paths.items() if absolute(path) != path}
    return (*submission.overrides, *(f"{key}={json.dumps(path)}" for key, path in moved.items()))


def _pack(submission: Submission, folder: Path) -> str:
    """Fill the job's working directory; returns the YAML's path in it."""
    jobs = folder / "jobs"
    jobs.mkdir()
    shutil.copyfile(submission.job_file, jobs / submission.job_file.name)
    if not submission.installed:
        package = Path(mmssl_dist.__file__).parent
        # The package travels with the job, so that a cluster of bare Ray images runs this very version.
        shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "cli.py").write_text(_CLI)
    return f"jobs/{submission.job_file.name}"


def job_client(target: str) -> Any:
    """A client of the jobs at ``target``.

    Raises:
        InputError: nothing answers there, it is not a dashboard, or it refuses this machine's token.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if target.startswith("ray://"):
        raise InputError(
            "--address", target, "jobs are sent to the dashboard's address", "Use http://host:8265."
        )
    probe("--address", target)
    for name in _LOGGERS:  # they set their own level
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ["RAY_API_SERVER_ADDRESS"] = target  # Ray lets its variables win over the argument
    try:
        try:
            return JobSubmissionClient(target)
        except AuthenticationError:
            with accepted_token("--address", target):
                return JobSubmissionClient(target)
    except AuthenticationError as error:
        raise token_refused("--address", target, "another token") from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise no_cluster("--address", target, error) from error


async def _follow(client: Any, job_id: str, show: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job_id):
        show(lines.rstrip("\n"))


def _exit_status(client: Any, job_id: str, show: Callable[[str], None]) -> int:
    """Wait for the job's end; the log may end a little earlier, or break off."""
    silent_since = time.monotonic()
    while True:
        try:
            details = client.get_job_info(job_id)
            silent_since = time.monotonic()
        except (ConnectionError, RuntimeError):
            if time.monotonic() - silent_since > _PATIENCE_SECONDS:
                raise
        else:
            if details.status.is_terminal():
                break
        time.sleep(_STATUS_SECONDS)
    show(f"{job_id}: {details.status.value.lower()}")
    if details.status.value == "SUCCEEDED":
        return 0
    return EXIT_BAD_INPUT if details.driver_exit_code == EXIT_BAD_INPUT else EXIT_SYSTEM_FAILURE
