"""How a command ends: every failure as one message and as the exit status of its class."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TextIO

import typer

from mmssl_dist.cluster.exit_watch import DETACHED, EXIT_TERMINATED, RESUME, Terminated, terminable
from mmssl_dist.errors import EXIT_SYSTEM_FAILURE, MmsslError, without_secrets

# 128 + SIGINT, as shells report it.
EXIT_INTERRUPTED = 130
P = ParamSpec("P")


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """``command`` within ``reporting``, with tracebacks if its ``debug`` option is set."""
    return _reported(command, "")


def reported_resumable(command: Callable[P, None]) -> Callable[P, None]:
    """As ``reported``, for a command that publishes: Ctrl-C and SIGTERM end it with a line on how to
    resume."""
    return _reported(command, RESUME)


def reported_detachable(command: Callable[P, None]) -> Callable[P, None]:
    """As ``reported``, for a command that follows a job of a cluster, which runs on without it."""
    return _reported(command, DETACHED)


def _reported(command: Callable[P, None], note: str) -> Callable[P, None]:
    @wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        with reporting(bool(options.get("debug")), note):
            command(*args, **options)

    return run


@contextmanager
def reporting(debug: bool, note: str = "") -> Iterator[None]:
    """Progress on stderr, live on a terminal; every failure as one message there, and the exit status of its
    class. ``note`` says what remains where Ctrl-C or SIGTERM ends the command."""
    from mmssl_dist.report.live import progress_handler

    handler = progress_handler(sys.stderr)
    logger = logging.getLogger("mmssl_dist")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        # Inside the handler's lifetime, so that what is logged while the command ends is still shown.
        with terminable(note):
            yield
    except MmsslError as error:
        handler.close()  # ends the live line, below which the message stands
        _show_failure(error, str(error), debug)
        raise typer.Exit(error.exit_status) from error
    except KeyboardInterrupt as error:
        typer.echo(f"interrupted. {note}" if note else "interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except Terminated as error:  # which has said so itself
        raise typer.Exit(EXIT_TERMINATED) from error
    except typer.Exit:  # an Exception too, which the last resort below would report as a failure
        raise
    # Last resort: users get one line, and a traceback only where they ask for it.
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
            # `| head` has read enough: not a failure.
            raise typer.Exit(EXIT_SYSTEM_FAILURE) from error
        text = without_secrets(
            f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")
        )
        _show_failure(error, f"{text} (run with --debug for the traceback)", debug)
        raise typer.Exit(EXIT_SYSTEM_FAILURE) from error
    finally:
        logger.removeHandler(handler)
        handler.close()


def _is_closed(stream: TextIO) -> bool:
    """Whether nobody reads ``stream`` any more; what is left in it goes nowhere then."""
    try:
        stream.flush()
    except BrokenPipeError:
        # Or Python would try once more as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def _show_failure(error: Exception, message: str, debug: bool) -> None:
    if debug:
        # What its causes say is another library's text, and may be a signed URL
        typer.echo(without_secrets("".join(traceback.format_exception(error))), err=True)
    typer.echo(f"error: {message}", err=True)
