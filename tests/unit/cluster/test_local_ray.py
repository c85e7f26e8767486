"""Where a Ray of this machine puts its sockets, and how patient its start is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import ray
from ray._private import services

from mmssl_dist.cluster.local_ray import _start, _waiting, socket_folder
from mmssl_dist.errors import InputError, WorkerError


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("l" * 70, "is too long for a socket's path"),
        ("t\N{LATIN SMALL LETTER U WITH DIAERESIS}", "has letters beyond ASCII"),
    ],
)
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_that_cannot_hold_sockets(monkeypatch, caplog, variable, name, problem):
    folder = Path("/tmp") / name
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(folder))
    assert socket_folder() == Path("/tmp/ray")
    assert f"{variable}={folder} {problem}" in caplog.text
    assert not folder.exists()


@pytest.mark.parametrize("value", ["/proc/nowhere", "relative", "/dev/null/file"])
def test_a_folder_that_is_none(monkeypatch, caplog, value):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", value)
    assert socket_folder() == Path("/tmp/ray")
    assert f"TMPDIR={value} " in caplog.text


def test_a_folder_that_can(monkeypatch, caplog):
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert socket_folder() == Path("/tmp/ray")
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert socket_folder() == Path("/var/tmp/ray")
    monkeypatch.setenv("TMPDIR", "")
    assert socket_folder() == Path("/tmp/ray")
    assert caplog.text == ""


def test_no_folder_at_all(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/proc/a")
    monkeypatch.setattr("mmssl_dist.cluster.local_ray._SYSTEM_FOLDERS", ("/proc/b",))
    with pytest.raises(InputError, match="Set RAY_TMPDIR to such a folder") as caught:
        socket_folder()
    assert "TMPDIR=/proc/a cannot be written" in str(caught.value)
    assert "/proc/b cannot be written" in str(caught.value)


LATE = "The current node timed out during startup. This could happen because the GCS is overloaded."


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.mark.parametrize("late_starts", [1, 3, 9])
def test_a_ray_that_is_late_is_started_again_while_there_is_patience(monkeypatch, caplog, idle, late_starts):
    """A machine too busy for Ray's half minute is nothing to bring about in a test, so Ray's answer is
    played: each start takes ten seconds."""
    now, starts = [0.0], [0]

    def init(**options: object) -> None:
        now[0] += 10
        starts[0] += 1
        if starts[0] <= late_starts:
            raise Exception(LATE)

    monkeypatch.setattr(ray, "init", init)
    _start({}, 100, lambda: now[0])
    assert starts == [late_starts + 1]
    assert [record.message for record in caplog.records] == [
        f"Ray did not start within {10 * n} s; trying again for {100 - 10 * n} s"
        for n in range(1, late_starts + 1)
    ]


def test_a_ray_that_stays_away_is_named_with_the_time_it_had(monkeypatch, idle):
    now = [0.0]

    def init(**options: object) -> None:
        now[0] += 10
        raise Exception(LATE)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WorkerError, match=r"^Ray did not start on this machine within 50 s \(tries: 5\)\."):
        _start({}, 50, lambda: now[0])


def test_another_failure_is_not_tried_again(monkeypatch):
    failures = [ValueError("another"), None]
    monkeypatch.setattr(ray, "init", lambda **options: _raise(failures.pop(0)))
    with pytest.raises(ValueError, match="another"):
        _start({}, 100)
    assert failures == [None]


def test_patience_is_the_setting_and_grows_with_the_load(monkeypatch):
    limits = []
    monkeypatch.setattr(
        ray, "init", lambda **options: limits.append(int(os.environ["RAY_gcs_server_port_wait_time_s"]))
    )
    cores = os.cpu_count() or 1
    for load in (0.0, float(cores), 3.0 * cores):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, load, load))
        _start({}, 100)
    assert [limit // 99 for limit in limits] == [1, 1, 3]
    assert "RAY_gcs_server_port_wait_time_s" not in os.environ


@pytest.mark.processes
def test_registration_is_awaited_as_long_as_there_is_a_raylet(monkeypatch, tmp_path):
    """Ray allows half a minute; the raylet is a process of that name."""
    answers = ["not yet", "not yet", "here"]

    def get_node(gcs_address: str, node_id: str) -> str:
        if (answer := answers.pop(0)) != "here":
            raise RuntimeError(answer)
        return answer

    monkeypatch.setattr(services, "get_node", get_node)
    shutil.copy("/bin/sleep", tmp_path / "raylet")
    with subprocess.Popen([tmp_path / "raylet", "60"]) as raylet:
        with _waiting(60):
            assert services.get_node("gcs", "node") == "here"
        answers += ["not yet", "here"]
        with _waiting(0), pytest.raises(RuntimeError, match="not yet"):
            services.get_node("gcs", "node")
        raylet.kill()
        raylet.wait()
        answers[:] = ["not yet", "here"]
        with _waiting(60), pytest.raises(RuntimeError, match="not yet"):
            services.get_node("gcs", "node")
    assert services.get_node is get_node


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
