"""Every setting of a job, from its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from table_cells import table_row, text_of

from mmssl_dist.config.dependent_defaults import DEPENDENT_DEFAULTS
from mmssl_dist.config.tree import JobSections

LARGEST = 2**31  # bounds beyond what anybody would write are left out
INTRODUCTION = """# Settings

This page lists every setting of a job. `python docs/reference` writes it from the schema. A setting is
written below its sections in YAML, or on the command line as `--set SECTION.SETTING=VALUE`. A dash in the
column of defaults means that the setting is required.
"""


def page() -> str:
    """The page as the schema has it."""
    return "\n".join([INTRODUCTION, *section("", JobSections)])


def section(path: str, model: type[BaseModel]) -> Iterator[str]:
    """The lines of a section: its own settings as a table, then its sections."""
    own, inner = [], []
    for name, field in model.model_fields.items():
        inside = section_of(field)
        mapping = get_origin(field.annotation) is dict
        if inside is None or mapping:
            own.append((name, field))
        if inside is not None:
            inner.append((f"{path}.{name}".lstrip(".") + (".*" if mapping else ""), inside))
    if path:
        yield from (f"## `{path}`", "", text_of(model.__doc__), "")
    if own:
        yield from ("| setting | values | default | meaning |", "|---|---|---|---|")
        yield from (row(f"{path}.{name}".lstrip("."), name, field) for name, field in own)
        yield ""
    for inner_path, inside in inner:
        yield from section(inner_path, inside)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, also as the values of a mapping."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def row(path: str, name: str, field: FieldInfo) -> str:
    """The line of a setting."""
    values = values_of(field.annotation, field.metadata)
    return table_row(f"`{name}`", values, default_of(path, field), text_of(field.description))


def default_of(path: str, field: FieldInfo) -> str:
    """The default, as YAML would have it."""
    if any(default.path == path for default in DEPENDENT_DEFAULTS):
        return f"`{json.dumps(plain(field.default))}`, or what other settings ask for"
    if field.default_factory is not None:
        return "depends on other settings"
    if field.default is PydanticUndefined:
        return "–"
    return "none" if field.default is None else f"`{json.dumps(plain(field.default))}`"


def plain(value: object) -> object:
    """A default as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def values_of(kind: Any, metadata: list[Any]) -> str:
    """The values that a setting takes, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values_of(arguments[0], list(arguments[1:]))
    if origin in (Union, UnionType):
        return " or ".join(values_of(each, []) for each in arguments if each is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return f"list of {values_of(arguments[0], [])}" if arguments[-1] is Ellipsis else "[fewest, most]"
    if origin is dict:
        return "mapping"
    name = {int: "integer", float: "number", bool: "`true`, `false`", str: "text"}.get(kind, kind.__name__)
    bounds = [bound for each in metadata for bound in bounds_of(each)]
    return ", ".join([name, *bounds])


def bounds_of(entry: Any) -> Iterator[str]:
    """What a piece of a field's metadata demands of numbers."""
    for constraint in getattr(entry, "metadata", [entry]):
        for kind, attribute, sign in ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<")):
            if isinstance(constraint, kind) and abs(getattr(constraint, attribute)) < LARGEST:
                yield f"{sign} {getattr(constraint, attribute):g}"
        if isinstance(constraint, MinLen) and constraint.min_length:
            yield "not empty"
