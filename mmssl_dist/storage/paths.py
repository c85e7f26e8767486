"""Paths as the user gave them, in the form that every process understands."""

from __future__ import annotations

from pathlib import Path


def absolute(url: str) -> str:
    """A plain path made absolute, with ``~`` expanded; URLs are returned unchanged."""
    # Links stay as they are: a user's path may lead elsewhere tomorrow, and messages show what was given.
    return url if "://" in url else str(Path(url).expanduser().absolute())
