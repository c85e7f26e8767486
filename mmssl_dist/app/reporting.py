"""How a command ends: every failure as one message and as the exit status of its class."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import typer

from mmssl_dist.cluster.exit_watch import EXIT_TERMINATED, Terminated, terminable
from mmssl_dist.errors import EXIT_SYSTEM_FAILURE, MmsslError

EXIT_INTERRUPTED = 130
P = ParamSpec("P")


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """``command`` within ``reporting``, with tracebacks if its ``debug`` option is set."""

    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        with reporting(bool(options.get("debug"))):
            command(*args, **options)

    return run


@contextmanager
def reporting(debug: bool) -> Iterator[None]:
    """Progress on stderr, live on a terminal; every failure as one message there, and the exit status of its
    class."""
    from mmssl_dist.report.live import progress_handler

    handler = progress_handler(sys.stderr)
    logger = logging.getLogger("mmssl_dist")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with terminable():
            yield
    except MmsslError as error:
        handler.close()
        _show_failure(error, str(error), debug)
        raise typer.Exit(error.exit_status) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except Terminated as error:  # which has said so itself
        raise typer.Exit(EXIT_TERMINATED) from error
    except typer.Exit:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")
        _show_failure(error, f"{text} (run with --debug for the traceback)", debug)
        raise typer.Exit(EXIT_SYSTEM_FAILURE) from error
    finally:
        logger.removeHandler(handler)
        handler.close()


def _show_failure(error: Exception, message: str, debug: bool) -> None:
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True)
    typer.echo(f"error: {message}", err=True)
