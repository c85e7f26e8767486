"""Requests that the service does not take, at an app with its messages; tests/end_to_end/test_serve.py asks
the service."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError

from mmssl_dist.serving.messages import NewItem, RecommendRequest, SimilarRequest
from mmssl_dist.serving.request_checks import RequestChecks

JSON = "application/json"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    checks = RequestChecks(lambda: ["title", "category"])
    app = FastAPI(
        dependencies=[Depends(checks.require_known)],
        exception_handlers={RequestValidationError: checks.refused},
    )

    @app.get("/recommend")
    async def recommend_user(user: str, k: int = 20) -> dict[str, Any]:
        return {"user": user, "k": k}

    @app.post("/recommend")
    async def recommend(request: RecommendRequest) -> dict[str, Any]:
        return {"user": request.user}

    @app.get("/similar")
    async def similar(item: str) -> dict[str, Any]:
        return {"item": item}

    @app.post("/similar")
    async def similar_among(request: SimilarRequest) -> dict[str, Any]:
        return {"item": request.item}

    @app.post("/users")
    async def users(new: NewItem) -> dict[str, Any]:
        return {"k": new.k}

    @app.get("/", include_in_schema=False)
    async def start() -> dict[str, Any]:
        return {}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok"}

    return app


def ask(app: FastAPI, path: str, body: object = None, content_type: str | None = JSON) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST of ``body``, bytes or what JSON is made of."""
    path, _, query = path.partition("?")
    sent: list[Any] = []
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    pending = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Any:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "path": path,
        "root_path": "",
        "query_string": query.encode(),
        "headers": [] if content_type is None else [(b"content-type", content_type.encode())],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def messages(app: FastAPI, *arguments: Any) -> list[str]:
    """Those of an answer that has to be 422, of problems as FastAPI reports them."""
    status, answer = ask(app, *arguments)
    assert status == 422
    assert all({"type", "loc", "msg"} <= problem.keys() for problem in answer["detail"])
    return [problem["msg"] for problem in answer["detail"]]


FILTER = (
    "unknown {}; there are {}. category is a column of the items: to filter by it, put "
    '"candidates": {{"where": {{"category": "VALUE"}}}} into the body of POST {}'
)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/recommend?user=u1&n=3", None, ["unknown query parameter n; there are user, k"]),
        (
            "/recommend?user=u1&category=Lampen",
            None,
            [FILTER.format("query parameter category", "user, k", "/recommend")],
        ),
        (
            "/similar?category=Lampen&item=i1&k=3",
            None,
            [
                FILTER.format("query parameter category", "item", "/similar"),
                "unknown query parameter k; there are item",
            ],
        ),
        ("/health?x=1", None, ["unknown query parameter x; there are none here"]),
        ("/?x=1", None, ["unknown query parameter x; there are none here"]),
        (
            "/health?category=x",
            None,
            [
                FILTER.replace("there are {}", "there are none here").format(
                    "query parameter category", "/recommend"
                )
            ],
        ),
        ("/recommend?k=3", {"user": "u1"}, ["unknown query parameter k; there are none here"]),
        ("/users?k=3", {"features": {}}, ["unknown query parameter k; there are none here"]),
        (
            "/recommend",
            {"user": "u1", "category": "Lampen", "n": 3},
            [
                FILTER.format(
                    "key category", "k, candidates, user, users, items, exclude_seen", "/recommend"
                ),
                "unknown key n; there are k, candidates, user, users, items, exclude_seen",
            ],
        ),
        (
            "/similar",
            {"item": "i1", "candidates": {"category": "Lampen"}},
            [FILTER.format("key category", "allow, block, where", "/similar")],
        ),
        (
            "/users",
            {"features": {}, "category": "Lampen"},
            [FILTER.format("key category", "features, k", "/recommend")],
        ),
    ],
)
def test_what_a_route_does_not_know_is_refused_by_name(app, path, body, expected):
    assert messages(app, path, body) == expected


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ({"user": "u1"}, None, "a body with no Content-Type; {}, sent with the header {}"),
        (
            {"user": "u1"},
            "application/x-www-form-urlencoded",
            "a body with Content-Type: application/x-www-form-urlencoded; {}, sent with the header {}",
        ),
        (["u1"], JSON, "a body that is not a JSON object; {}"),
        (b'"u1"', JSON, "a body that is not a JSON object; {}"),
        (b"", JSON, "no body; {}"),
        (b"{user: 1}", JSON, "the body is not valid JSON: Expecting property name enclosed in double quotes"),
    ],
)
def test_a_body_that_is_no_json_is_refused_in_plain_words(app, body, content_type, expected):
    wanted = "the body is a JSON object with k, candidates, user, users, items, exclude_seen"
    (message,) = messages(app, "/recommend", body, content_type)
    assert message == expected.format(wanted, "`Content-Type: application/json`")


def test_what_is_known_is_answered(app):
    assert ask(app, "/recommend?user=u1&k=3") == (200, {"user": "u1", "k": 3})
    assert ask(app, "/recommend", {"user": "u1"}, "application/json; charset=utf-8") == (200, {"user": "u1"})
    assert ask(app, "/health") == (200, {"status": "ok"})


def test_other_mistakes_keep_their_words(app):
    assert messages(app, "/recommend?user=u1&k=x") == [
        "Input should be a valid integer, unable to parse string as an integer"
    ]
    assert messages(app, "/recommend", {"user": "u1", "k": 0}) == [
        "Input should be greater than or equal to 1"
    ]
    assert messages(app, "/recommend?k=3") == ["Field required"]
