"""A folder for raw files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a folder for the files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    return tmp_path / "files"
