"""Damage to published files, each as a function of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmssl_dist.storage import fingerprint
from tests.end_to_end.bad_input.matrix import Spoil


def forged(name: str, change: Callable[[dict[str, Any]], object]) -> Spoil:
    """The manifest ``name`` changed by who knows how its digest is made."""

    def write(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        del content["digest"]
        change(content)
        (folder / name).write_text(json.dumps({**content, "digest": fingerprint(content)}))

    return write


def flipped(name: str, offset: int = -20) -> Spoil:
    """One bit of the file is another."""

    def write(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[offset] ^= 1
        (folder / name).write_bytes(content)

    return write


def truncated(name: str) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def gone(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()
