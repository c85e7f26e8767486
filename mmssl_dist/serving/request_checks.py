"""What the HTTP service says of requests that it cannot take: parameters and keys it does not know, and
bodies that are not JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from mmssl_dist.errors import message_text

_UNKNOWN = "extra_forbidden"  # pydantic's word
_NO_OBJECT = ("model_attributes_type", "model_type", "dict_type")  # pydantic's words for another type
_FILTERS = "candidates"  # the key with conditions
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
        known = _Description(request).parameters()
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            # One each, as pydantic reports keys of a body.
            raise RequestValidationError([_unknown_parameter(name) for name in unknown])

    async def refused(self, request: Request, error: Exception) -> JSONResponse:
        """422, as FastAPI answers it, with messages that say what to send instead."""
        assert isinstance(error, RequestValidationError)
        problems = [{**problem, "msg": self._message(request, problem)} for problem in error.errors()]
        return await request_validation_exception_handler(request, RequestValidationError(problems))

    def _message(self, request: Request, problem: Mapping[str, Any]) -> str:
        where, *keys = problem["loc"]
        if problem["type"] == _UNKNOWN:
            return self._unknown(_Description(request), where, keys)
        if where == "body" and problem["type"] == "json_invalid":
            return f"the body is not valid JSON: {problem.get('ctx', {}).get('error', 'it ends too early')}"
        if where == "body" and not keys and problem["type"] in ("missing", *_NO_OBJECT):
            return _no_object(request, problem)
        return str(problem["msg"])

    def _unknown(self, description: _Description, where: str, keys: Sequence[str | int]) -> str:
        name = str(keys[-1])
        known = description.parameters() if where == "query" else description.keys(keys[:-1])
        what = "query parameter" if where == "query" else "key"
        listed = f"there are {', '.join(known)}" if known else "there are none here"
        message = f"unknown {what} {message_text(name)}; {listed}"
        if name in self._columns():
            condition = json.dumps({_FILTERS: {"where": {name: "VALUE"}}})[1:-1]  # without the outer braces
            message += f". {name} is a column of the items: to filter by it, put {condition} into the body of"
            message += f" POST {description.filtering_path()}"
        return message


class _Description:
    """What OpenAPI says of the route that was asked: what FastAPI and Ray Serve themselves keep of a route
    differs by their versions. A route that is not described takes nothing."""

    def __init__(self, request: Request) -> None:
        self._path, self._all = request.scope["route"].path, request.app.openapi()
        self._route = self._all["paths"].get(self._path, {}).get(request.method.lower(), {})

    def parameters(self) -> list[str]:
        """Of the query."""
        return [one["name"] for one in self._route.get("parameters", ()) if one["in"] == "query"]

    def keys(self, above: Sequence[str | int] = ()) -> list[str]:
        """What the body may have, below the keys ``above``."""
        schema = self._body(self._route)
        for key in above:
            schema = self._schema(schema.get("properties", {}).get(key, {}))
        return list(schema.get("properties", {}))

    def filtering_path(self) -> str:
        """Of a route that takes filters: the one that was asked, where it takes them in a body."""
        paths = [
            path
            for path, methods in self._all["paths"].items()
            if _FILTERS in self._body(methods.get("post", {})).get("properties", {})
        ]
        return str(self._path if self._path in paths else paths[0])

    def _body(self, route: Mapping[str, Any]) -> Mapping[str, Any]:
        content = route.get("requestBody", {}).get("content", {})
        return self._schema(content.get("application/json", {}).get("schema", {}))

    def _schema(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """``schema`` itself, or the one it refers to, alone or beside null."""
        options = [schema, *schema.get("anyOf", ())]
        names = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
        referred: Mapping[str, Any] = self._all["components"]["schemas"][names[0]] if names else schema
        return referred


def _no_object(request: Request, problem: Mapping[str, Any]) -> str:
    wanted = f"the body is a JSON object with {', '.join(_Description(request).keys())}"
    if problem["type"] == "missing":
        return f"no body; {wanted}"
    given = request.headers.get("content-type")
    if isinstance(problem["input"], bytes | str) and not _is_json(given):
        sent = f"Content-Type: {message_text(given)}" if given else "no Content-Type"
        return f"a body with {sent}; {wanted}, sent with the header `{_JSON}`"
    return f"a body that is not a JSON object; {wanted}"


def _is_json(content_type: str | None) -> bool:
    # The types that FastAPI reads as JSON.
    media = (content_type or "").split(";")[0].strip().lower()
    return media.startswith("application/") and media.endswith(("/json", "+json"))


def _unknown_parameter(name: str) -> dict[str, Any]:
    return {"type": _UNKNOWN, "loc": ("query", name), "msg": "", "input": None}
