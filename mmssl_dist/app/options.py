"""Options shared by several commands, and how their values are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl_dist.errors import InputError

if TYPE_CHECKING:
    from mmssl_dist.config import Job
    from mmssl_dist.config.resource_sections import Storage

Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to run on, host:port or auto. Default: RAY_ADDRESS, else a Ray of this machine."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the logs of the libraries.")]
Force = Annotated[
    bool, typer.Option("--force", help="Repeat the work even if the published output matches the job.")
]
JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job's YAML file.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Start training from the output of an earlier run, as training.start_from does.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a YAML value; may be given several times."),
]
StorageSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="storage.A=B", help="How object storage is reached, as in a job."),
]


def load_resolved(job_file: Path, overrides: list[str] | None) -> Job:
    """The job of a file with its overrides, local paths made absolute."""
    from mmssl_dist.config import load_job
    from mmssl_dist.launch.preflight import resolved

    return resolved(load_job(job_file, overrides or ()))


def with_start(overrides: list[str] | None, start_from: str | None) -> list[str]:
    """``overrides`` and that of ``--from``."""
    # Quoted, since the value of an override is parsed as YAML.
    start = [] if start_from is None else [f"training.start_from={json.dumps(start_from)}"]
    return [*(overrides or ()), *start]


def parse_storage_settings(settings: list[str] | None) -> Storage:
    """The storage section of ``--set storage.A=B`` options alone."""
    from mmssl_dist.config.load import parse_storage

    return parse_storage({}, settings or ())


def parse_widths(modalities: list[str]) -> dict[str, int]:
    """Feature width by modality, of options that read NAME=WIDTH.

    Raises:
        InputError: one reads otherwise.
    """
    widths = {}
    for modality in modalities:
        name, _, width = modality.partition("=")
        # ``isdigit`` would also take a superscript such as ², which ``int`` refuses.
        if not name or not width.isdecimal() or int(width) == 0:
            raise InputError(
                "--modality", modality, "a modality has the form NAME=WIDTH", "Write, for example, image=64."
            )
        widths[name] = int(width)
    return widths
