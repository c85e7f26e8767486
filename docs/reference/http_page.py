"""The HTTP API, from the service's own OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from table_cells import table_row, text_of

from mmssl_dist.serving.http import api

INTRODUCTION = """# The HTTP API

This page lists every request that `mmssl-dist serve` answers. `python docs/reference` writes it from
the service's OpenAPI description. A running service has that at `/openapi.json`, and a page to try it at
`/docs`. [using-a-run.md](using-a-run.md#over-http) shows requests,
[and how to protect the service](using-a-run.md#before-the-service-key-limits-monitoring).
"""
ERRORS = """## Errors

The answer is `{"detail": ...}` with the reason.

| status | means |
|---|---|
| 401 | the key of `MMSSL_API_KEY` is missing or wrong |
| 404 | an id is unknown |
| 413 | the body is larger than `--max-body` |
| 422 | the request does not fit this description |
| 429 | more requests than `--max-rate` |
| 503 | the service starts or ends |
"""
COLUMNS = ("| name | values | default | meaning |", "|---|---|---|---|")
VALIDATION = ("HTTPValidationError", "ValidationError")


def page() -> str:
    """The page as the service describes itself."""
    description = api.openapi()
    lines = [INTRODUCTION]
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            lines += request(f"{method.upper()} {path}", operation)
    lines += ["## Objects", ""]
    for name, schema in description["components"]["schemas"].items():
        if name not in VALIDATION:
            lines += component(name, schema)
    return "\n".join([*lines, ERRORS])


def request(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    """The lines of a request."""
    yield from (f"## `{name}`", "", text_of(operation["description"]), "")
    if parameters := operation.get("parameters"):
        yield from COLUMNS
        for parameter in parameters:
            yield field(
                parameter["name"], {**parameter["schema"], **parameter}, required=parameter["required"]
            )
        yield ""
    if body := operation.get("requestBody"):
        yield from (f"The body is {values(body['content']['application/json']['schema'])}.", "")
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    yield from (f"The answer is {values(answer)}.", "")


def component(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """The lines of an object of a body or an answer."""
    yield from (f"### `{name}`", "", text_of(schema.get("description")), "", *COLUMNS)
    required = schema.get("required", ())
    for key, value in schema["properties"].items():
        yield field(key, value, required=key in required)
    yield ""


def field(name: str, schema: Mapping[str, Any], *, required: bool) -> str:
    """The line of a parameter, or of a key of an object."""
    default = "required" if required else written(schema.get("default"))
    return table_row(f"`{name}`", values(schema), default, text_of(schema.get("description")))


def written(default: object) -> str:
    """A default, as JSON has it."""
    return "none" if default in (None, [], {}) else f"`{str(default).lower()}`"


def values(schema: Mapping[str, Any]) -> str:
    """The values that a schema lets through, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(values(one) for one in schema["anyOf"] if one.get("type") != "null")
    kind = schema.get("type")
    if kind == "array":
        most = schema.get("maxItems")
        return f"list of {values(schema['items'])}" + (f", at most {most:,}" if most else "")
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object with {values(inner)} as values" if isinstance(inner, Mapping) else "object"
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = f", {least:g} to {most:,g}" if least is not None and most is not None else ""
    return {"string": "text", None: "integer, number or text"}.get(kind, str(kind)) + bounds
