"""The command line. Loading it imports neither torch nor ray nor dgl: each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from mmssl_dist import __version__
from mmssl_dist.app import (
    cluster_commands,
    comparison_commands,
    data_commands,
    init_command,
    plan_command,
    run_commands,
    stage_commands,
)

app = typer.Typer(
    name="mmssl-dist",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # ``reporting`` shows errors, without credentials
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train multi-modal recommenders (MMSSL) on one machine or a Ray cluster, from one YAML.",
)
for group in (
    init_command,
    stage_commands,
    cluster_commands,
    data_commands,
    run_commands,
    comparison_commands,
    plan_command,
):
    # Without a name, a group's commands become commands of the top level.
    app.add_typer(group.app)


def main() -> None:
    """Entry point of ``mmssl-dist`` and ``cli.py``."""
    app()


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"mmssl-dist {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Options before the command; their callbacks do the work."""
