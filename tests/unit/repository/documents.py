"""The documents of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]


DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "cluster/*", "jobs/**/*.yaml", "Makefile", "Dockerfile")
    for path in ROOT.glob(pattern)
)
