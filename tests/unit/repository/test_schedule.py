"""A test that ends its process, and teardown that hangs: each is named, and every other test runs once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFTEST = """
from pathlib import Path
from tests.schedule import Scheduling
from tests.teardown_limit import TeardownLimit

def pytest_configure(config):
    config.pluginmanager.register(TeardownLimit(seconds=1))

def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)

def pytest_runtest_call(item):
    with (Path(__file__).parent / "ran").open("a") as file:
        print(item.name, file=file)
"""
ENDS = "import os\ndef test_first(): pass\ndef test_ends(): os._exit(1)\n"
HANGS = """
import time
import pytest

@pytest.fixture
def slow_to_leave():
    yield
    time.sleep(1000)

def test_fails(slow_to_leave): raise ValueError
"""


@pytest.mark.processes
@pytest.mark.parametrize("left", [0, 1, 4])
@pytest.mark.parametrize(
    ("source", "fault"), [(ENDS, "test_ends"), (HANGS, "test_fails")], ids=["ends", "hangs in teardown"]
)
def test_the_others_run_once_where_a_process_ends(tmp_path: Path, source: str, fault: str, left: int) -> None:
    """``left`` tests are left in the file when its process ends; other files have one test each."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    rest = [f"test_left_{number}" for number in range(left)]
    (tmp_path / "test_a.py").write_text(source + "".join(f"def {name}(): pass\n" for name in rest))
    others = [f"test_other_{number}" for number in range(9)]
    for name in others:
        (tmp_path / f"{name}.py").write_text(f"import time\ndef {name}(): time.sleep(0.05)\n")
    (tmp_path / "test_slow.py").write_text("import time\ndef test_slow(): time.sleep(3)\n")
    command = (
        "-m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 2 -p no:cacheprovider"
    )
    done = subprocess.run(
        [sys.executable, *command.split(), "--rootdir", str(tmp_path), str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"crashed while running 'test_a.py::{fault}'" in done.stdout
    ran = (tmp_path / "ran").read_text().split()
    before = ["test_first"] if source is ENDS else []
    assert sorted(ran) == sorted([*before, fault, *rest, *others, "test_slow"])
