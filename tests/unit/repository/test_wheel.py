"""A wheel holds the package and the job templates, and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mmssl_dist import __version__
from mmssl_dist.config import load_job

ROOT = Path(__file__).parents[3]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
pytestmark = pytest.mark.processes


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files alone, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked("mmssl_dist", "jobs", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder))
    subprocess.run([*PIP, "wheel", *options, str(folder / "source")], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_and_every_template(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    assert set(tracked("mmssl_dist")) <= names
    data = f"mmssl_dist-{__version__}.data/data/share/mmssl-dist"
    assert {f"{data}/{name}" for name in tracked("jobs")} <= names
    others = {name.split("/")[0] for name in names} - {f"mmssl_dist-{__version__}.dist-info"}
    assert others == {"mmssl_dist", f"mmssl_dist-{__version__}.data"}


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Of this environment it takes the dependencies alone."""
    options = ("--no-deps", "--no-index", "--ignore-installed", "--prefix", str(tmp_path / "env"))
    subprocess.run([*PIP, "install", *options, str(wheel)], check=True)
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (script,) = (tmp_path / "env/bin").glob("mmssl-dist")

    def call(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert call("--version") == f"mmssl-dist {__version__}\n"
    jobs = tmp_path / "env/share/mmssl-dist/jobs"
    assert {path.relative_to(jobs).as_posix() for path in jobs.rglob("*.yaml")} == {
        name.removeprefix("jobs/") for name in tracked("jobs")
    }
    for path in jobs.rglob("*.yaml"):
        load_job(path)
    program = "import mmssl_dist, sys; sys.stdout.write(mmssl_dist.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout) == packages / "mmssl_dist/__init__.py"
