"""Progress on a terminal: one live line for the stage at work, what stays is printed above it.

Records mark where a stage begins and ends by their attribute ``stage`` (see ``begins`` and ``ends``).
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from mmssl_dist.cluster.log_relay import handled_by
from mmssl_dist.report.progress import duration

_PER_SECOND = 4
_SPINNER_COLUMNS = 2
_OF_TRIAL = re.compile(r"^trial \d+: train: ")
# ``progress.stage_lines`` indents details like this.
_DETAIL = re.compile(r"^(trial \d+: )?[a-z]+:   ")


def begins(stage: str) -> dict[str, tuple[str, bool]]:
    """The ``extra`` of a record that marks a stage's beginning."""
    return {"stage": (stage, True)}


def ends(stage: str) -> dict[str, tuple[str, bool]]:
    """The ``extra`` of a record that reports what a stage did."""
    return {"stage": (stage, False)}


def progress_handler(stream: TextIO) -> logging.Handler:
    """Live on a terminal, plain lines with the same words elsewhere."""
    return LiveHandler(stream) if stream.isatty() else logging.StreamHandler(stream)


@contextmanager
def logged_progress(wanted: bool) -> Iterator[None]:
    """The progress of what runs within, on stderr, if it is ``wanted``."""
    if not wanted:
        yield
        return
    handler = progress_handler(sys.stderr)
    try:
        with handled_by(handler):
            yield
    finally:
        handler.close()


class LiveHandler(logging.Handler):
    """Shows the stage at work in one line: the last it said, such as its epoch's figures, and how long it has
    been. Details, such as an epoch's losses, are left to logs and reports."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._console = Console(file=stream, soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._stage, self._said, self._since = "", "", 0.0
        self._spinner = Spinner("dots")

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        message = self.format(record)
        stage, begun = getattr(record, "stage", (None, False))
        if stage is not None and begun:
            self._begin(stage)
            self._said = message.removeprefix(f"{stage}: ")
        elif (
            self._live is not None
            and record.levelno < logging.WARNING
            and stage is None
            and self._passing(message)
        ):
            if not _DETAIL.match(message):
                self._said = message.removeprefix(f"{self._stage}: ")
        else:
            if stage is not None:
                self._end()
            # As ``Text``: rich would take brackets in ids and paths for its markup.
            self._console.print(Text(message))

    def close(self) -> None:
        """Leave the last state on the terminal."""
        self._end()
        super().close()

    def line(self) -> Text:
        """What the live line says now; without the time spent where the terminal is too narrow for it."""
        said = "  ".join(text for text in (self._stage, self._said) if text)
        timed = f"{said}  {duration(time.monotonic() - self._since)}"
        fits = _SPINNER_COLUMNS + len(timed) <= self._console.width
        return Text(timed if fits else said, no_wrap=True, overflow="ellipsis")

    def _passing(self, message: str) -> bool:
        """Whether the next such message takes its place."""
        return message.startswith(f"{self._stage}: ") or bool(_OF_TRIAL.match(message))

    def _begin(self, stage: str) -> None:
        self._end()
        self._stage, self._said, self._since = stage, "", time.monotonic()
        self._live = Live(
            get_renderable=self._shown,
            console=self._console,
            refresh_per_second=_PER_SECOND,
            transient=True,
            # stdout is the command's result and must not be drawn on this stream.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _shown(self) -> Spinner:
        self._spinner.update(text=self.line())
        return self._spinner

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
