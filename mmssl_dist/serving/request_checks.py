"""What the HTTP service says of requests that it cannot take: parameters and keys it does not know, and
bodies that are no JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from fastapi import Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from mmssl_dist.errors import message_text
from mmssl_dist.serving.messages import Candidates

_UNKNOWN = "extra_forbidden"  # pydantic's word
_NO_OBJECT = (
    "model_attributes_type",
    "model_type",
    "dict_type",
)  # pydantic's words for a body of another type
_JSON = "Content-Type: application/json"


class RequestChecks:
    """Refuses unknown query parameters, which FastAPI passes over, and says in plain words what is wrong with
    keys and bodies.

    Args:
        columns: gives the columns of the items, which look like parameters to those who want to filter.
    """

    def __init__(self, columns: Callable[[], Iterable[str]]) -> None:
        self._columns = columns

    async def require_known(self, request: Request) -> None:
        """A dependency of every route.

        Raises:
            RequestValidationError: a query parameter that the route does not have.
        """
        known = _parameters(request)
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            # One each, as pydantic reports keys of a body.
            raise RequestValidationError([_unknown_key("query", name) for name in unknown])

    async def refused(self, request: Request, error: Exception) -> JSONResponse:
        """422, as FastAPI answers it, with messages that say what to send instead."""
        assert isinstance(error, RequestValidationError)
        problems = [{**problem, "msg": self._message(request, problem)} for problem in error.errors()]
        return await request_validation_exception_handler(request, RequestValidationError(problems))

    def _message(self, request: Request, problem: Mapping[str, Any]) -> str:
        where, *keys = problem["loc"]
        if problem["type"] == _UNKNOWN:
            return self._unknown(request, where, keys)
        if where != "body":
            return str(problem["msg"])
        if problem["type"] == "json_invalid":
            return f"the body is no JSON: {problem.get('ctx', {}).get('error', 'it ends too early')}"
        if not keys and problem["type"] in ("missing", *_NO_OBJECT):
            return _no_object(request, problem)
        return str(problem["msg"])

    def _unknown(self, request: Request, where: str, keys: Sequence[str | int]) -> str:
        name = str(keys[-1])
        model = None if where == "query" else _model_at(_body(request), keys[:-1])
        known = _parameters(request) if where == "query" else list(model.model_fields) if model else []
        what = "query parameter" if where == "query" else "key"
        listed = f"there are {', '.join(known)}" if known else "there are none here"
        message = f"unknown {what} {message_text(name)}; {listed}"
        if name in self._columns():
            condition = json.dumps({"candidates": {"where": {name: "VALUE"}}})[1:-1]
            message += f". {name} is a column of the items: to filter by it, put {condition} into the body of"
            message += f" POST {_filtering_path(request)}"
        return message


def _parameters(request: Request) -> list[str]:
    """The query parameters of the route that was asked."""
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    return [field.alias for field in route.dependant.query_params]


def _body(request: Request) -> type[BaseModel] | None:
    """The model of the body of the route that was asked."""
    field = request.scope["route"].body_field
    return None if field is None else _model_of(field.field_info.annotation)


def _model_at(model: type[BaseModel] | None, keys: Sequence[str | int]) -> type[BaseModel] | None:
    """The model under ``keys`` of a body."""
    for key in keys:
        if model is None or key not in model.model_fields:
            return None
        model = _model_of(model.model_fields[str(key)].annotation)
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model in ``annotation``, which may say that there may be none."""
    options = get_args(annotation) or (annotation,)
    return next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _filtering_path(request: Request) -> str:
    """The path of a route that takes filters: the one that was asked, where it takes them in a body."""
    asked = request.scope["route"].path
    fields = [
        (route.path, route.body_field)
        for route in request.app.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    ]
    paths = [
        path
        for path, field in fields
        if (model := _model_of(field.field_info.annotation)) is not None
        and any(_model_of(of_key.annotation) is Candidates for of_key in model.model_fields.values())
    ]
    return asked if asked in paths or not paths else paths[0]


def _no_object(request: Request, problem: Mapping[str, Any]) -> str:
    model = _body(request)
    keys = f" with {', '.join(model.model_fields)}" if model else ""
    wanted = f"the body is a JSON object{keys}"
    if problem["type"] == "missing":
        return f"no body; {wanted}"
    given = request.headers.get("content-type")
    if isinstance(problem["input"], bytes | str) and not _is_json(given):
        sent = f"Content-Type: {message_text(given)}" if given else "no Content-Type"
        return f"a body with {sent}; {wanted}, sent with the header `{_JSON}`"
    return f"a body that is no JSON object; {wanted}"


def _is_json(content_type: str | None) -> bool:
    media = (content_type or "").split(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def _unknown_key(where: str, name: str) -> dict[str, Any]:
    return {"type": _UNKNOWN, "loc": (where, name), "msg": "", "input": None}
