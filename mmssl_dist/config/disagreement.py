"""What a rule between settings says when a job breaks it."""

from __future__ import annotations

from typing import NamedTuple


class Disagreement(NamedTuple):
    """Settings that are valid alone but not together.

    Attributes:
        paths: the YAML paths compared; the first is the one to show.
        text: the values, the rule and what to do.
    """

    paths: tuple[str, ...]
    text: str

    @property
    def path(self) -> str:
        """The first of the settings that disagree."""
        return self.paths[0]
