"""`python -m build` gives a wheel with the package and the job templates, which works by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mmssl_dist import __version__

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
    """Built of the source archive that is built of the tracked files, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked("mmssl_dist", "jobs", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    subprocess.run([*command, str(folder / "source")], check=True, capture_output=True)
    assert {path.suffix for path in (folder / "dist").iterdir()} == {".gz", ".whl"}
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_it_holds_the_package_and_every_template(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    assert set(tracked("mmssl_dist")) <= names
    data = f"mmssl_dist-{__version__}.data/data/share/mmssl-dist"
    assert {f"{data}/{name}" for name in tracked("jobs")} <= names
    others = {name.split("/")[0] for name in names} - {f"mmssl_dist-{__version__}.dist-info"}
    assert others == {"mmssl_dist", f"mmssl_dist-{__version__}.data"}


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone, which finds the packages it needs in the one of this process."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ("--no-deps", "--no-index", "--ignore-installed")
    subprocess.run([*PIP, "--python", str(folder), "install", *options, str(wheel)], check=True)
    return folder


def call(environment: Path, *arguments: str) -> str:
    """What a command of the environment prints, called in another folder and with none of our variables."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(environment / "bin" / arguments[0]), *arguments[1:]]
    done = subprocess.run(command, cwd=environment, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_used_outside_the_checkout(environment: Path) -> None:
    assert call(environment, "mmssl-dist", "--version") == f"mmssl-dist {__version__}\n"
    program = "import mmssl_dist, sys; sys.stdout.write(mmssl_dist.__file__)"
    (package,) = environment.glob("lib/python*/site-packages/mmssl_dist/__init__.py")
    assert call(environment, "python", "-c", program) == str(package)


def test_every_package_that_it_names_is_there(environment: Path) -> None:
    subprocess.run([*PIP, "--python", str(environment), "check"], check=True)


def test_its_templates_are_jobs(environment: Path) -> None:
    jobs = environment / "share/mmssl-dist/jobs"
    paths = {path.relative_to(jobs).as_posix() for path in jobs.rglob("*.yaml")}
    assert paths == {name.removeprefix("jobs/") for name in tracked("jobs")}
    program = "import sys; from mmssl_dist.config import load_job; [load_job(path) for path in sys.argv[1:]]"
    call(environment, "python", "-c", program, *(str(jobs / path) for path in sorted(paths)))
    call(
        environment,
        "mmssl-dist",
        "synthesize",
        "runs/demo/raw",
        "--users",
        "60",
        "--items",
        "40",
        "--interactions",
        "200",
    )
    printed = call(environment, "mmssl-dist", "validate", str(jobs / "demo.yaml"))
    assert "60 users" in printed
