"""Tasks without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def in_this_process(function: Callable[..., Any], arguments: Sequence[tuple[object, ...]]) -> list[Any]:
    """``RunTasks``: one call after the other."""
    return [function(*call) for call in arguments]
