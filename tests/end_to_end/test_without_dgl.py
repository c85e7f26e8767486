"""A pipeline on a machine that has no DGL: its import is refused in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.commands import ROOT
from tests.release import write_release

# Python runs it at the start of every process that has its folder on the path, Ray's workers included.
_HIDDEN = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class WithoutDgl(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] == "dgl" else PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutDgl()
"""
SETS = (
    "output=out",
    "model.dimension=32",
    "training.epochs=4",
    "evaluation.ks=[10, 20]",
)


def mmssl_dist(folder: Path, *arguments: str, sets: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in ``folder``, in a Python that finds no DGL."""
    path = os.pathsep.join([str(folder / "hidden"), str(ROOT)])
    words = [word for override in sets for word in ("--set", override)]
    return subprocess.run(
        [sys.executable, "-m", "mmssl_dist", *arguments, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=580,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text(_HIDDEN)
    (tmp_path / "raw").mkdir()
    write_release(tmp_path / "raw", users=900, items=480, seed=5)
    return tmp_path


@pytest.mark.timeout(900)
def test_it_cuts_and_samples_without_it(folder: Path) -> None:
    sets = (f"data.path={folder / 'raw'}", *SETS)
    done = mmssl_dist(folder, "run", str(ROOT / "jobs/tiktok.yaml"), sets=sets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((folder / "out/partitions/manifest.json").read_text())["facts"]["method"] == "streaming"
    metrics = json.loads((folder / "out/evaluation/metrics.json").read_text())
    assert metrics["test"]["recall@20"] > 0.3  # a community has 40 items and holds 0.85 of a user's

    refused = mmssl_dist(
        folder, "run", str(ROOT / "jobs/tiktok.yaml"), sets=(*sets, "training.sampler=dgl", "output=other")
    )
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "training.sampler" in refused.stderr
    assert "DGL is not installed" in refused.stderr
    assert not (folder / "other").exists()
