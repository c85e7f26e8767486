"""The key, the size and the rate, at the middleware itself; tests/end_to_end/test_serve.py asks over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest

from mmssl_dist.errors import InputError
from mmssl_dist.serving.guard import API_KEY, Guard, Protection, take_key
from mmssl_dist.serving.serve import ServiceEndpoint
from tests.clock import Clock

KEY = "a key of at least sixteen letters"
DIGEST = hashlib.sha256(KEY.encode()).digest()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Answers 200 with the body that it received."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(
    guard: Guard, path: str = "/recommend", chunks: tuple[bytes, ...] = (b"",), **headers: str
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []
    pending = [
        {"type": "http.request", "body": chunk, "more_body": number + 1 < len(chunks)}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> Any:
        return pending.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "path": path, "root_path": "", "headers": encoded}
    asyncio.run(guard(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"]


def guarded(clock: Any = None, **settings: Any) -> Guard:
    protection = Protection(**settings)
    return Guard(_app, lambda: protection, *([] if clock is None else [clock]))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY}", 200),
        (KEY, 401),
        (f"Basic {KEY}", 401),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
def test_a_request_needs_the_key(header, status):
    result, headers, body = ask(guarded(key_digest=DIGEST), authorization=header)
    assert result == status
    if status == 401:
        assert headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer KEY" in json.loads(body)["detail"]
        assert KEY not in body.decode()


def test_health_and_the_description_need_none():
    guard = guarded(key_digest=DIGEST)
    for path in ("/", "/health", "/docs", "/openapi.json"):
        assert ask(guard, path)[0] == 200
    for path in ("/docs/x", "/healthx", "//health", "/users"):
        assert ask(guard, path)[0] == 401


def test_a_body_beyond_the_limit_is_refused_by_its_header_or_as_it_comes():
    guard = guarded(max_body=10)
    assert ask(guard, chunks=(b"0123456789",), content_length="10")[::2] == (200, b"0123456789")
    status, _, body = ask(guard, content_length="11")
    assert (status, json.loads(body)) == (413, {"detail": "a request has at most 10 bytes"})
    chunks = (b"01234", b"567", b"89")
    assert ask(guard, chunks=chunks, transfer_encoding="chunked")[::2] == (200, b"0123456789")
    assert ask(guard, chunks=(*chunks, b"x"), transfer_encoding="chunked")[0] == 413


def test_the_rate_is_kept_over_time_and_a_pause_gives_no_more_than_a_second_of_it():
    clock = Clock()
    guard = guarded(clock, max_rate=5.0)
    assert [ask(guard)[0] for _ in range(7)] == [200] * 5 + [429] * 2
    status, headers, _ = ask(guard)
    assert (status, headers["retry-after"]) == (429, "1")
    assert ask(guard, "/health")[0] == 200
    clock.now += 0.41
    assert [ask(guard)[0] for _ in range(3)] == [200, 200, 429]
    clock.now += 1000
    assert [ask(guard)[0] for _ in range(6)] == [200] * 5 + [429]


def test_a_rate_below_one_lets_one_through_and_says_when_the_next_may_come():
    clock = Clock()
    guard = guarded(clock, max_rate=0.1)
    assert ask(guard)[0] == 200
    assert ask(guard)[1]["retry-after"] == "10"
    clock.now += 10.01
    assert ask(guard)[0] == 200


def test_who_has_no_key_does_not_use_up_the_rate():
    guard = guarded(Clock(), key_digest=DIGEST, max_rate=1.0)
    assert [ask(guard)[0] for _ in range(5)] == [401] * 5
    assert ask(guard, authorization=f"Bearer {KEY}")[0] == 200


def test_the_key_is_taken_out_of_the_environment():
    environment = {API_KEY: KEY, "OTHER": "x"}
    assert take_key(environment) == DIGEST
    assert environment == {"OTHER": "x"}
    assert take_key({API_KEY: f"{KEY}\n"}) == DIGEST
    assert take_key({}) is None
    assert take_key({API_KEY: ""}) is None


def test_a_short_key_is_refused_without_showing_it():
    with pytest.raises(
        InputError, match="MMSSL_API_KEY: found 9 characters; a key has at least 16"
    ) as caught:
        take_key({API_KEY: "guessable"})
    assert "guessable" not in repr(caught.value)


def test_replicas_share_the_rate():
    assert ServiceEndpoint(host="127.0.0.1", port=80, replicas=4, max_rate=10.0).protection(
        None
    ) == Protection(max_rate=2.5)
    assert ServiceEndpoint(host="127.0.0.1", port=80, replicas=4).protection(DIGEST) == Protection(
        key_digest=DIGEST
    )
