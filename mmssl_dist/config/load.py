"""Reads a job's YAML: safe loader, overrides, and all problems at once, each with its path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mmssl_dist.config.tree import Job
from mmssl_dist.errors import ConfigError, InputError

_MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """YAML 1.1's safe loader, which reads 1e-4 as text, taught that it is a number (as YAML 1.2 says)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_job(path: str | Path, overrides: Iterable[str] = ()) -> Job:
    """The job in the YAML file ``path`` with ``a.b=c`` overrides applied.

    Raises:
        InputError: no such file, or not a YAML mapping.
        ConfigError: one or more values break a rule.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(str(path), "no such file", "a job is a YAML file", "Check the path.")
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(str(path), f"{file.stat().st_size} bytes", f"a job has at most {_MAX_BYTES}", "Check the path.")
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506, a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        at = f"{path}, line {where.line + 1}" if where else str(path)
        found = getattr(error, "problem", None) or error
        raise InputError(at, found, "a job is a YAML mapping", "Mend the syntax.") from error
    return parse_job(tree, overrides, source=str(path))


def parse_job(tree: object, overrides: Iterable[str] = (), source: str = "job") -> Job:
    """The job in an already parsed YAML ``tree``; raises as ``load_job`` does."""
    if not isinstance(tree, dict):
        raise InputError(source, type(tree).__name__, "a job is a YAML mapping", "Start with `output:` and `data:`.")
    merged = dict(tree)
    for override in overrides:
        merged = _override(merged, override)
    try:
        return Job.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(tuple(_lines(error)), source) from error
    except RecursionError as error:
        raise InputError(source, "a tree that holds itself", "a job is a finite tree", "Remove the YAML alias.") from error


def _override(tree: Mapping[str, Any], override: str) -> dict[str, Any]:
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise InputError("--set", override, "an override reads a.b=c", "Write it as path=value.")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506, a SafeLoader
    except yaml.YAMLError as error:
        raise InputError(f"--set {path}", text, "the value must be YAML", "Quote it.") from error
    result = dict(tree)
    node = result
    for key in keys[:-1]:
        child = node.get(key)
        if child is not None and not isinstance(child, dict):
            raise InputError(f"--set {path}", f"{key} is a value", "only sections have keys below", "Check the path.")
        node[key] = dict(child or {})
        node = node[key]
    node[keys[-1]] = value
    return result


def _lines(error: ValidationError) -> Iterable[str]:
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"] if not _is_branch(part))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            yield f"{path}: unknown key{_suggestion(problem['loc'])}"
        elif problem["type"] == "missing":
            yield f"{path}: missing; this key is required"
        elif problem["type"] == "value_error":
            for line in message.splitlines():
                yield f"{path}: {line}" if path else line
        else:
            yield f"{path}: found {_shown(problem['input'])}; {message[0].lower()}{message[1:]}"


def _is_branch(part: int | str) -> bool:
    """Pydantic names the branch of a union in the path; that is no key of the user's."""
    return isinstance(part, str) and (part in ("int", "str", "float", "bool") or part.startswith(("literal[", "tuple[",
                                      "function-", "constrained-")))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _suggestion(location: tuple[int | str, ...]) -> str:
    section: Any = Job
    for part in location[:-1]:
        fields = getattr(section, "model_fields", None)
        if fields is None or part not in fields:
            continue  # a key of a mapping, such as a modality's name
        annotation = fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    known = list(getattr(section, "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"
