"""Globs under a folder of raw files: what fits them, and the folder that has to be listed."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from mmssl_dist.storage import Location


def is_visible(parts: tuple[str, ...]) -> bool:
    """Whether no part of a path below the named folder is hidden: such files are a writer's own."""
    return not any(part.startswith((".", "_")) for part in parts)


def _is_glob(pattern: str) -> bool:
    return any(letter in pattern for letter in "*?[")


def fixed_part(root: Location, pattern: str) -> Location:
    """The deepest folder above the first wildcard: nothing outside of it has to be listed."""
    location = root
    for part in PurePosixPath(pattern).parts[:-1]:
        if _is_glob(part):
            break
        location = location / part
    return location


def matches_glob(parts: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    """Whether a path fits a glob; as in a shell, a hidden name only where its pattern begins as it does."""
    if not parts or not segments:
        return not parts and not segments
    part, pattern, rest = parts[0], segments[0], segments[1:]
    if pattern == "**":  # no folder at all, or one before the same again; in the end, every file
        return matches_glob(parts, rest or ("*",)) or (
            is_visible((part,)) and matches_glob(parts[1:], segments)
        )
    fits = fnmatchcase(part, pattern) and (is_visible((part,)) or pattern[0] == part[0])
    return fits and matches_glob(parts[1:], rest)
