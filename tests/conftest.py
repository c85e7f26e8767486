"""What every test runs under: few threads, no accelerator, no cloud credentials, a Ray of its own."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.teardown_limit import TeardownLimit

# Set before torch, DGL or Ray are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.pop("RAY_AUTH_MODE", None)  # whether a token is asked for is found out, as for a user
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # not the one in the home folder
os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
os.environ.pop("RAY_ADDRESS", None)  # no test joins a cluster that it did not start
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no look-up of credentials on the network
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
    os.environ.pop(name, None)

# Two busy cores make any deadline flaky; equal draws in every run make a failure mean a change.
settings.register_profile(
    "mmssl", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "fuzz", settings.get_profile("mmssl"), max_examples=2000, derandomize=False, report_multiple_bugs=True
)
settings.load_profile("mmssl")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which one process does not need
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """What goes to one of several processes as a whole."""
    from tests.schedule import Scheduling

    return Scheduling(config, log)


_FOLDERS_WITH_PROCESSES = ("end_to_end", "fuzz", "multiprocess", "ray", "reliability")
_FIXTURES_WITH_PROCESSES = frozenset({"gcs_endpoint", "s3_endpoint", "ray_address"})
_STARTS = frozenset(
    {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "socket.bind"}
)
_NEED_DGL = frozenset({"test_dgl_door.py", "test_sampler.py"})  # import it
_running: list[str] = []  # the test that runs, where it has no mark and may start nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out every test that starts a process, server or cluster"
    )
    parser.addoption(
        "--without-dgl",
        action="store_true",
        help="leave out what DGL itself does; refused where it is installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "processes: starts a process, server or cluster")
    config.addinivalue_line("markers", "dgl: DGL has to be installed")
    if config.getoption("--without-dgl") and find_spec("dgl"):
        raise pytest.UsageError("--without-dgl: DGL is installed here")
    sys.addaudithook(_refuse_processes)
    config.pluginmanager.register(TeardownLimit(seconds=300))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("--without-dgl") and collection_path.name in _NEED_DGL else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    quick, without_dgl = config.getoption("--quick"), config.getoption("--without-dgl")
    left_out = [
        item
        for item in items
        if (quick and _starts_processes(item)) or (without_dgl and item.get_closest_marker("dgl"))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if _starts_processes(item):
        return (yield)
    _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.pop()


def _starts_processes(item: pytest.Item) -> bool:
    folders = item.path.relative_to(Path(__file__).parent).parts
    return (
        folders[0] in _FOLDERS_WITH_PROCESSES
        or item.get_closest_marker("processes") is not None
        or not _FIXTURES_WITH_PROCESSES.isdisjoint(getattr(item, "fixturenames", ()))
    )


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    """Keeps `make quick` honest in every run: a test that starts something without the mark fails.

    Other threads are let be: a library's may outlive the test that it was started for.
    """
    if event not in _STARTS or not _running or threading.current_thread() is not threading.main_thread():
        return
    if event == "subprocess.Popen" and Path(str(arguments[0])).name == "git":
        return  # some milliseconds to list the tracked files
    raise RuntimeError(f"{_running[-1]} starts a process or server ({event}); mark it @pytest.mark.processes")
