"""A clock that goes as a test says, where a real one would make it slow or depend on the machine's load."""

from __future__ import annotations


class Clock:
    """Seconds; ``now`` is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
