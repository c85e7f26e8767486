"""Variables of this process, set for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def temporary_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with ``variables``, as long as the body runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            # A variable that was not there must go: an empty one means something else to many programs.
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
