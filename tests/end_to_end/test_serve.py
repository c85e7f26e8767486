"""The service over real HTTP: answers as the run gives them, many at once, mistakes by status, and a clean
drain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from mmssl_dist.serving.run import Run, open_run
from tests.clusters import free_port
from tests.end_to_end.commands import ROOT, command
from tests.exported import publish_run


@dataclass(frozen=True)
class Service:
    """A service of its own process, and the run that it serves."""

    process: subprocess.Popen[str]
    port: int
    run: Run
    folder: Path
    own_ray: bool

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of a GET, or of a POST of ``body``."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else text


@pytest.fixture(scope="module", params=["a Ray of its own", "a cluster that is there"])
def service(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Service]:
    joined = [f"--address={request.getfixturevalue('ray_address')}"] if "cluster" in request.param else []
    folder = tmp_path_factory.mktemp("serve")
    publish_run(folder / "run")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "serve", "run", f"--port={port}", "--replicas=2", *joined],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    early: list[int] = []  # what came while it started

    def ask_early() -> None:
        while not early or early[-1] != 200:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as response:
                    early.append(response.status)
            except urllib.error.HTTPError as error:
                early.append(error.code)
            except (OSError, HTTPException):
                if process.poll() is not None:
                    return
            time.sleep(0.05)

    asking = threading.Thread(target=ask_early)
    asking.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving run on http://127.0.0.1:{port};")
        asking.join(60)
        if not joined:
            assert set(early) <= {200, 503}
        yield Service(process, port, open_run(str(folder / "run")), folder, own_ray=not joined)
    finally:
        process.terminate()
        process.wait(60)


def items_of(answer: Any) -> list[Any]:
    return [entry["item"] for entry in answer["items"]]


def test_answers_are_those_of_the_run(service):
    run = service.run
    status, answer = service.ask("/recommend?user=u3&k=5")
    ranked = run.recommend("u3", k=5)
    assert status == 200
    assert items_of(answer) == ranked.items
    assert [entry["score"] for entry in answer["items"]] == pytest.approx(ranked.scores.tolist())
    everything = run.recommend("u3", k=5, exclude_seen=False).items
    assert items_of(service.ask("/recommend?user=u3&k=5&exclude_seen=false")[1]) == everything
    assert items_of(service.ask("/recommend", {"user": "u3", "k": 5, "exclude_seen": False})[1]) == everything
    known = service.ask("/recommend", {"items": [103, "104"], "k": 4})[1]
    assert items_of(known) == run.recommend_new([103, 104], 4).items
    assert items_of(service.ask("/similar?item=110&k=6")[1]) == run.similar(110, k=6).items
    status, health = service.ask("/health")
    assert (status, health["status"], health["users"], health["items"]) == (200, "ok", 40, 30)
    assert health["run"] == "run"
    assert str(service.folder) not in json.dumps(health)
    paths = service.ask("/openapi.json")[1]["paths"]
    assert {path: set(methods) for path, methods in paths.items()} == {
        "/recommend": {"get", "post"},
        "/similar": {"get", "post"},
        "/users": {"post"},
        "/health": {"get"},
    }


def test_new_items_by_their_features(service):
    features = {"image": [0.5, 0.1, -0.3, 0.2, 1.0]}
    similar = service.run.similar_to_new(features, k=4)
    status, answer = service.ask("/similar", {"features": features, "k": 4})
    assert (status, items_of(answer)) == (200, similar.items)
    assert [entry["score"] for entry in answer["items"]] == pytest.approx(similar.scores.tolist(), rel=1e-4)
    status, answer = service.ask("/users", {"features": features, "k": 3})
    assert (status, [entry["user"] for entry in answer["users"]]) == (
        200,
        service.run.users_for_new(features, 3).users,
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/recommend?user=nobody", None, 404, "user id: found 'nobody'; the run knows 40 users"),
        ("/similar", {"features": {"image": [1e39] * 5}}, 422, "not finite in float32"),
        ("/users", {"features": {"image": [0, 0, 1e300, 0, 0]}}, 422, "not finite in float32"),
        ("/similar?item=x", None, 404, "item id: found 'x';"),
        ("/recommend", {"items": [103, 5]}, 404, "item id: found 5;"),
        ("/recommend", {}, 422, "give either user or items"),
        ("/recommend", {"user": "u1", "items": [103]}, 422, "give either user or items"),
        ("/recommend?user=u1&k=0", None, 422, "greater than or equal to 1"),
        ("/recommend", {"user": "u1", "kk": 3}, 422, "kk"),
        ("/similar", {"features": {"image": [1.0]}}, 422, "features.image: found shape [1];"),
        (
            "/users",
            {"features": {"smell": [1.0]}},
            422,
            "features: found smell; the run's modalities are image (5 values)",
        ),
        ("/users", {"features": {}}, 422, "features: found none;"),
        ("/nowhere", None, 404, "Not Found"),
    ],
)
def test_mistakes_are_told_by_status_and_message(service, path, body, status, message):
    result, answer = service.ask(path, body)
    assert result == status
    assert message in json.dumps(answer)
    assert "such as" not in json.dumps(answer)  # nobody else's id


def test_many_at_once_each_get_their_own_and_one_s_mistake_is_no_other_s(service):
    users = [f"u{n % 44}" for n in range(120)]  # u40 to u43 are unknown
    with ThreadPoolExecutor(24) as pool:
        answers = list(
            pool.map(lambda n: service.ask(f"/recommend?user={users[n]}&k={n % 7 + 1}"), range(120))
        )
        similar = list(pool.map(lambda n: service.ask(f"/similar?item={100 + n % 32}&k=3"), range(60)))
    for n, (status, answer) in enumerate(answers):
        if n % 44 >= 40:
            assert status == 404
        else:
            assert items_of(answer) == service.run.recommend(users[n], k=n % 7 + 1).items
    for n, (status, answer) in enumerate(similar):
        if n % 32 >= 30:
            assert status == 404
        else:
            assert items_of(answer) == service.run.similar(100 + n % 32, k=3).items


def test_what_cannot_be_served_is_told_before_ray_is_asked(service, tmp_path):
    taken = command(service.folder, "serve", "run", f"--port={service.port}", "--address=127.0.0.1:1")
    assert taken.returncode == 2
    assert f"--port: found 127.0.0.1:{service.port}; it must be free on this machine" in taken.stderr
    nothing = command(tmp_path, "serve", "run", f"--port={free_port()}")
    assert nothing.returncode == 2
    assert "the export must be published first" in nothing.stderr


def test_sigterm_answers_what_is_under_way_and_ends_with_status_0(service):
    """The last test: requests come without a pause while the service goes."""
    outcomes: list[tuple[float, int | str]] = []  # when it was asked, and what came
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            asked = time.monotonic()
            try:
                outcomes.append((asked, service.ask("/recommend?user=u3&k=5")[0]))
            except (OSError, HTTPException) as error:
                outcomes.append((asked, repr(error)))

    threads = [threading.Thread(target=keep_asking) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stopped = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    over.set()
    for thread in threads:
        thread.join(60)
    assert service.process.stdout is not None
    output = service.process.stdout.read().splitlines()
    assert (output[0], output[-1]) == ("draining", "stopped")  # a line of Ray's own may stand between
    before = [outcome for asked, outcome in outcomes if asked < stopped]
    assert len(before) > 5
    assert set(before) == {200}  # answered all, those under way too
    after = {outcome for asked, outcome in outcomes if asked >= stopped and isinstance(outcome, int)}
    # on a cluster Ray Serve's own proxy answers that it has no such path
    assert after <= ({200, 503} if service.own_ray else {200, 404})
