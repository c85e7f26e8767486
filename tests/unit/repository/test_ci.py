"""`.ci/run`: installs what is missing, and only that, then calls make with a Python that fits."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci/run"
FITS, DOES_NOT = 0, 1

pytestmark = pytest.mark.processes  # the script runs, with stand-ins for the package manager


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, the only ones that the script sees: those of any Debian, and a `make` that
    reports."""
    for name in ("bash", "dirname", "env", "grep"):
        result = shutil.which(name)
        assert result
        (tmp_path / name).symlink_to(result)
    program(tmp_path, "id", "echo 0")
    program(tmp_path, "ldconfig", "echo '	libgomp.so.1 (libc6,x86-64) => /usr/lib/libgomp.so.1'")
    program(tmp_path, "make", 'echo "make $*"')
    program(tmp_path, "chromium", "exit 0")
    program(tmp_path, "apt-get", 'echo "apt-get $*"')
    return tmp_path


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
    (folder / name).chmod(0o755)


def run(machine: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT],
        env={"PATH": str(machine)},
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


def makes(python: str) -> list[str]:
    """Lines of the stand-in for make."""
    return [f"make {target} PYTHON={python}" for target in ("quick-without-dgl", "test")]


def test_it_can_be_called() -> None:
    assert os.access(SCRIPT, os.X_OK)


def test_a_machine_with_everything_installs_nothing(machine: Path) -> None:
    program(machine, "python3", f"exit {FITS}")
    done = run(machine)
    assert (done.returncode, done.stdout.splitlines()) == (0, makes("python3"))


def test_another_python_is_taken_when_the_first_does_not_fit(machine: Path) -> None:
    program(machine, "python3", f"exit {DOES_NOT}")
    program(machine, "python3.11", f"exit {FITS}")
    assert run(machine).stdout.splitlines() == makes("python3.11")


def test_what_is_missing_is_installed_first(machine: Path) -> None:
    program(machine, "ldconfig", "exit 0")
    program(machine, "python3", f"exit {FITS}")
    lines = run(machine).stdout.splitlines()
    assert lines == [
        "installing libgomp1",
        "apt-get update -q",
        "apt-get install -y -q --no-install-recommends libgomp1",
        *makes("python3"),
    ]


def test_a_browser_is_installed_for_the_report(machine: Path) -> None:
    (machine / "chromium").unlink()
    program(machine, "python3", f"exit {FITS}")
    assert run(machine).stdout.splitlines()[0] == "installing chromium"


def test_a_python_too_new_ends_with_a_reason(machine: Path) -> None:
    program(machine, "python3", f'[ "$1" = --version ] && echo Python 3.14.1; exit {DOES_NOT}')
    done = run(machine)
    assert done.returncode == 1
    assert "no Python 3.11 or 3.12 with venv found; python3 is Python 3.14.1" in done.stderr
    assert "make" not in done.stdout


def test_without_root_it_says_what_to_install(machine: Path) -> None:
    (machine / "make").unlink()
    program(machine, "id", "echo 1000")
    program(machine, "python3", f"exit {FITS}")
    done = run(machine)
    assert done.returncode == 1
    assert done.stderr.startswith("missing: make; install them, or run this as root")


def test_a_failing_test_run_fails(machine: Path) -> None:
    program(machine, "python3", f"exit {FITS}")
    program(machine, "make", "exit 2")
    assert run(machine).returncode == 2
