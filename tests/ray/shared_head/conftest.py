"""One cluster of `ray start --head` for the commands that talk to a cluster, and one demo job on it.

The machine is one of somebody new: an empty home folder and no variable of Ray's. A command that ran there
before has left a token, which `ray start` asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import Head, started_head
from tests.ray.shared_head.submitted import SECRET, SIZES, Submitted, alone, submit_demo

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="package")
def first_output(home: Path) -> str:
    """What a first command on this machine writes; it leaves a token."""
    return alone(home, home, "doctor")


@pytest.fixture(scope="package")
def head(home: Path, first_output: str) -> Iterator[Head]:
    """Its machine has credentials, as cluster machines have; its clients are given none."""
    with started_head(variables={"HOME": str(home), "RAY_AUTH_TOKEN": "", **_KEYS}) as started:
        mine = {name: value for name, value in started.environment.items() if name not in _KEYS}
        yield Head(started.address, started.gcs, mine)


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory, home: Path, first_output: str, head: Head) -> Submitted:
    """The demo, smaller, on the local disk in a folder with a name that needs quoting."""
    folder = tmp_path_factory.mktemp("a job")
    made = alone(home, folder, "synthesize", "raw data", *SIZES)
    done = submit_demo(head, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return Submitted(folder, done, (first_output, made, done.stdout + done.stderr))
