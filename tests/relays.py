"""What takes the lines that workers would send to the driver."""

from __future__ import annotations

from types import SimpleNamespace


class Relay:
    """As the actor beside the driver; ``lines`` has the messages, oldest first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.write = SimpleNamespace(remote=lambda name, level, message: self.lines.append(message))
