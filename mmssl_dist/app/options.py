"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to run on, host:port or auto. Default: RAY_ADDRESS, else a Ray of this machine."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what the libraries log.")]
