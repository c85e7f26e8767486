"""Jobs as trees of values, and the problems that loading one shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.errors import ConfigError

SMALL: dict[str, Any] = {
    "output": "runs/x",
    "data": {"path": "raw", "modalities": {"image": {"file": "image.npy"}}},
}


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def changed(**sections: Any) -> dict[str, Any]:
    return {**SMALL, **sections}


def problems(tree: dict[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_job(tree, overrides)
    return list(caught.value.problems)
