"""Downloads stay until the limit, then go in the order of their last use; what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import open_location
from mmssl_dist.storage.cache import make_room, mark_used


def aged(path: Path, size: int, minutes: float) -> Path:
    """A file last used ``minutes`` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - 60 * minutes, time.time() - 60 * minutes))
    return path


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    old, older, oldest = (
        aged(tmp_path / name / "f", 100, age) for name, age in (("a", 20), ("b", 40), ("c", 60))
    )
    assert make_room(tmp_path, 100, 400) == 0
    assert make_room(tmp_path, 150, 400) == 100
    assert [path.exists() for path in (old, older, oldest)] == [True, True, False]
    mark_used(older)
    assert make_room(tmp_path, 300, 400) == 100
    assert [path.exists() for path in (old, older)] == [False, True]


def test_what_is_in_use_stays_even_beyond_the_limit(tmp_path: Path) -> None:
    now, old = aged(tmp_path / "now", 100, 1), aged(tmp_path / "old", 100, 30)
    assert make_room(tmp_path, 1000, 50) == 100
    assert (now.exists(), old.exists()) == (True, False)


def test_no_folder_yet(tmp_path: Path) -> None:
    assert make_room(tmp_path / "none", 10, 5) == 0


def test_localize_keeps_to_the_limit(s3: Storage, tmp_path: Path) -> None:
    limited = s3.model_copy(update={"cache_gb": 250e-9})
    records = {
        name: (open_location("s3://runs/run", limited) / name).write_bytes(b"x" * 100) for name in "abc"
    }
    copies = {}
    for name in "abc":
        copies[name] = (open_location("s3://runs/run", limited) / name).localize(tmp_path, records[name])
        before = copies[name].stat().st_mtime_ns
        os.utime(copies[name], ns=(time.time_ns() - 3_600_000_000_000, before))
        if name == "b":  # a is used again
            (open_location("s3://runs/run", limited) / "a").localize(tmp_path, records["a"])
    assert {name: path.exists() for name, path in copies.items()} == {"a": True, "b": False, "c": True}
    assert (open_location("s3://runs/run", limited) / "b").localize(
        tmp_path, records["b"]
    ).read_bytes() == b"x" * 100
