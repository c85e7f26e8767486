"""A time limit of teardown; that of pytest-timeout ends where a test fails."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest


class TeardownLimit:
    """A pytest plugin: a test's teardown that takes longer than ``seconds`` ends the process, with the stacks
    of its threads on stderr."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._errors = os.dup(2)  # before pytest keeps what tests write there

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._errors)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_unconfigure(self) -> None:
        os.close(self._errors)
