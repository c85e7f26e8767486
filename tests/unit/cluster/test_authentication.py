"""The token that a Ray of this machine asks for, where the home folder has one, has none, or cannot have
one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mmssl_dist.cluster.authentication import accepted_token, own_token
from mmssl_dist.errors import InputError
from tests.clusters import ROOT, client_environment

_TOKEN = """
from mmssl_dist.cluster.authentication import own_token
from ray._raylet import AuthenticationTokenLoader
with own_token():
    print(AuthenticationTokenLoader.instance().get_raw_token())
"""


def _tokens(count: int, **variables: str) -> list[str]:
    """What so many processes at the same time use."""
    environment = {**client_environment(), **variables, "PYTHONPATH": str(ROOT)}
    if "RAY_AUTH_TOKEN" not in variables:
        del environment["RAY_AUTH_TOKEN"]
    processes = [
        subprocess.Popen([sys.executable, "-c", _TOKEN], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return [process.communicate(timeout=60)[0].strip() for process in processes]


@pytest.mark.parametrize("before", [None, "", "\n"])
@pytest.mark.processes
def test_a_missing_token_is_created_once_and_is_nobody_elses(tmp_path, before):
    path = tmp_path / ".ray" / "auth_token"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    tokens = _tokens(3, HOME=str(tmp_path))
    assert tokens == [path.read_text()] * 3
    assert len(tokens[0]) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["auth_token"]


@pytest.mark.processes
def test_a_token_that_is_there_is_used(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("there\n")
    assert _tokens(1, HOME=str(tmp_path)) == ["there"]
    assert _tokens(1, HOME=str(tmp_path), RAY_AUTH_TOKEN="mine") == ["mine"]


@pytest.mark.processes
def test_without_a_home_that_can_be_written_each_command_has_its_own():
    assert all(len(token) == 64 for token in _tokens(1, HOME="/proc/nowhere") + _tokens(1, HOME=""))


def test_the_environment_is_as_before(monkeypatch):
    before = dict(os.environ)
    with own_token():
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert dict(os.environ) == before
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with own_token():
        assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_path_that_names_no_token(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="names a readable file that holds the token"), own_token():
        pass
    with (
        pytest.raises(InputError, match="names a readable file that holds the token"),
        accepted_token("--address", "http://h"),
    ):
        pass
