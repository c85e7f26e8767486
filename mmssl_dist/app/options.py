"""Options that several commands have, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl_dist.errors import InputError

if TYPE_CHECKING:
    from mmssl_dist.config import Job

Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to run on, host:port or auto. Default: RAY_ADDRESS, else a Ray of this machine."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what the libraries log.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override a YAML value; may be given several times."),
]


def loaded(job_file: Path, overrides: list[str] | None) -> Job:
    """The job of a file with its overrides, local paths made absolute."""
    from mmssl_dist.config import load_job
    from mmssl_dist.launch.preflight import resolved

    return resolved(load_job(job_file, overrides or ()))


def widths(modalities: list[str]) -> dict[str, int]:
    """NAME=WIDTH, each, as a mapping.

    Raises:
        InputError: one reads otherwise.
    """
    found = {}
    for modality in modalities:
        name, _, width = modality.partition("=")
        if not name or not width.isdecimal() or int(width) == 0:
            raise InputError(
                "--modality", modality, "a modality reads NAME=WIDTH", "Write, for example, image=64."
            )
        found[name] = int(width)
    return found
