"""The service over real HTTP: answers as the run gives them, many at once, mistakes by status, and a clean
drain."""

from __future__ import annotations

import json
import os
import re
import secrets
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

from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.run import Run
from mmssl_dist.serving.titled_run import open_titled_run
from tests.clusters import free_port
from tests.end_to_end.commands import ROOT, command
from tests.exported import publish_run

KEY = secrets.token_hex(32)
COLORS = ("red", "green", "blue")


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of its own process, and the run that it serves."""

    process: subprocess.Popen[str]
    port: int
    run: Run
    folder: Path
    own_ray: bool
    metrics_port: int

    def ask(self, path: str, body: object = None, key: str = KEY) -> tuple[int, Any]:
        """Status and JSON of a GET, or of a POST of ``body``."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(url, data, headers)
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
    rows = (f"{item},Title {item},{COLORS[item % 3]}\n" for item in range(100, 129))  # not of the last item
    (folder / "items.csv").write_text("item_id,title,color\n" + "".join(rows))
    port, metrics = free_port(), free_port()
    options = [f"--port={port}", "--replicas=2", "--items=items.csv", "--max-body=20000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "serve", "run", *options, *joined],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MMSSL_API_KEY": KEY,
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        },
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
        assert process.stdout.readline() == "items have the columns color, title\n"
        asking.join(60)
        if not joined:
            assert set(early) <= {200, 503}
        run = open_titled_run(str(folder / "run"), items=str(folder / "items.csv"))
        yield Service(
            process=process, port=port, run=run, folder=folder, own_ray=not joined, metrics_port=metrics
        )
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
    whole = items_of(service.ask("/recommend?user=u3&k=30")[1])
    assert set(whole) == set(run.items.array.to_pylist()) - set(run.history("u3"))
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


def test_titles_come_with_the_items(service):
    for path in ("/recommend?user=u3&k=30&exclude_seen=false", "/similar?item=110&k=29"):
        answer = service.ask(path)[1]
        titles = {entry["item"]: entry["title"] for entry in answer["items"]}
        assert titles == {item: None if item == 129 else f"Title {item}" for item in titles}
        assert 129 in titles


def test_many_users_in_one_request_are_answered_in_their_order(service):
    status, answer = service.ask("/recommend", {"users": ["u5", "nobody", "u3", "u5"], "k": 4})
    assert status == 200
    first, unknown, third, again = answer["answers"]
    assert first == again
    for entry in (first, third):
        assert items_of(entry) == service.run.recommend(entry["user"], k=4).items
    assert unknown == {"user": "nobody", "error": unknown["error"]}
    assert unknown["error"].startswith("user id: found 'nobody'; the run knows 40 users")


def test_lists_of_some_items_alone(service):
    run, whole = service.run, service.run.recommend("u3", k=30).items
    asked = {"allow": whole[:9], "block": [whole[1], "unknown"], "where": {"color": ["red", "green"]}}
    chosen = ItemFilter(**asked)
    expected = run.recommend("u3", k=30, candidates=chosen).items
    assert expected == [item for item in (whole[0], *whole[2:9]) if item % 3 != 2]
    body = {"k": 30, "candidates": asked}
    assert items_of(service.ask("/recommend", {"user": "u3", **body})[1]) == expected
    (answer,) = service.ask("/recommend", {"users": ["u3"], **body})[1]["answers"]
    assert items_of(answer) == expected
    alike = run.similar(110, k=30, candidates=chosen).items
    assert items_of(service.ask("/similar", {"item": "110", **body})[1]) == alike
    features = {"image": [0.5, 0.1, -0.3, 0.2, 1.0]}
    alike = run.similar_to_new(features, k=30, candidates=chosen).items
    assert items_of(service.ask("/similar", {"features": features, **body})[1]) == alike


def test_requests_need_the_key_and_readers_do_not(service):
    status, answer = service.ask("/recommend?user=u3", key="another key")
    assert (status, answer) == (401, {"detail": answer["detail"]})
    assert service.ask("/recommend", {"items": list(range(5000))}, key="")[0] == 401
    assert service.ask("/health", key="")[0] == 200
    assert service.ask("/openapi.json", key="")[0] == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/", timeout=60) as response:
        assert response.url.endswith("/docs")
        assert "swagger" in response.read().decode()


def test_the_metrics_that_the_dashboard_shows_are_exported(service):
    if not service.own_ray:
        return  # there they are the cluster's choice
    service.ask("/recommend?user=u3&k=5")
    with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    exported = {line.split(" ")[0] for line in lines if not line.startswith("#")}
    panels = json.loads((ROOT / "cluster/grafana-service.json").read_text())["panels"]
    plotted = [
        re.search(r"(haproxy_\w+\{[^}]*)\}", target["expr"])[1]
        for panel in panels
        for target in panel["targets"]
    ]
    assert len(plotted) == 5
    for series in plotted:
        assert any(name.startswith(series) for name in exported), series


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
        ("/recommend", {}, 422, "give one of user, users and items"),
        ("/recommend", {"user": "u1", "items": [103]}, 422, "give one of user, users and items"),
        ("/recommend", {"users": []}, 422, "at least 1"),
        ("/recommend", {"users": ["u1"] * 500, "k": 201}, 422, "users times k is at most 100000"),
        ("/recommend", {"user": "u1", "candidates": {"where": {"size": 1}}}, 422, "a column size"),
        ("/recommend", {"user": "u1", "candidates": {"only": []}}, 422, "only"),
        ("/recommend", {"items": list(range(5000))}, 413, "a request has at most 20,000 bytes"),
        ("/similar", {"k": 3}, 422, "give either item or features"),
        ("/similar", {"item": 5}, 404, "item id: found 5;"),
        ("/recommend?user=u1&k=0", None, 422, "greater than or equal to 1"),
        ("/recommend", {"user": "u1", "kk": 3}, 422, "unknown key kk; there are k, candidates, user"),
        ("/recommend?user=u1&color=red", None, 422, "color is a column of the items: to filter by it"),
        ("/recommend?k=3", {"user": "u1"}, 422, "unknown query parameter k; there are none here"),
        ("/similar?item=103&n=3", None, 422, "unknown query parameter n; there are item, k"),
        ("/users?k=3", {"features": {}}, 422, "unknown query parameter k; there are none here"),
        ("/health?n=3", None, 422, "unknown query parameter n; there are none here"),
        ("/health?color=red", None, 422, "into the body of POST /recommend"),
        ("/?self=3", None, 422, "unknown query parameter self; there are none here"),
        ("/?n=3", None, 422, "unknown query parameter n; there are none here"),
        ("/recommend", ["u1"], 422, "a body that is not a JSON object; the body is a JSON object with k,"),
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
    assert "the output of a job, which is a folder. Check the path or URL." in nothing.stderr


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
