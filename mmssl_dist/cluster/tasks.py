"""How a function is run many times, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

RunTasks = Callable[[Callable[..., Any], Sequence[tuple[object, ...]]], list[Any]]
"""A function, and the arguments of each call -> what the calls return."""
