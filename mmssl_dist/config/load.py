"""Reads a job's YAML: safe loader, overrides, and all problems at once, each with its path."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mmssl_dist.config.job import Job
from mmssl_dist.config.renamed import current_setting, with_current_names
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.config.rules import disagreements
from mmssl_dist.config.tree import JobSections
from mmssl_dist.config.wording import alternatives, worded
from mmssl_dist.errors import ConfigError, InputError

# Limits of what is read at all: a wrong path may name a data file, and a message has to fit a terminal.
_MAX_BYTES = 1 << 20
_MAX_SHOWN = 80
_MAX_VALUES = 5000
_MAX_PROBLEMS = 50
_PLACEHOLDER = "missing"


class _TooManyError(yaml.MarkedYAMLError):
    """More values than a job can have; small files unfold to any number of them."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1's safe loader, except that 1e-4 is a number and that a repeated key is refused.

    It stops at ``_MAX_VALUES``, aliases unfolded, before it builds any.
    """

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Before anything is built: a few lines of nested aliases stand for billions of values.
        self.composed += 1
        if self.composed > _MAX_VALUES:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _TooManyError(None, None, None, mark)
        return super().compose_node(parent, index)

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        # Aliases compose once each, so only unfolding shows what the tree would hold.
        if node is not None and _unfolded(node, {}) > _MAX_VALUES:
            raise _TooManyError(None, None, None, node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            # A merge key may repeat, and what it brings in may be overridden: only written-out keys count.
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} a second time", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),  # as YAML 1.2 says
    list("-+.0123456789"),
)


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below ``node`` when every alias is the tree it stands for; RecursionError for one that holds
    itself."""
    if id(node) not in known:
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        children = (child for part in below for child in (part if isinstance(part, tuple) else (part,)))
        known[id(node)] = 1 + sum(_unfolded(child, known) for child in children)
    return known[id(node)]


def load_job(path: str | Path, overrides: Iterable[str] = ()) -> Job:
    """The job in the YAML file ``path`` with ``a.b=c`` overrides applied.

    Raises:
        InputError: no such file, or not a YAML mapping.
        ConfigError: one or more values break a rule.
    """
    return parse_job(_parse_file(path), overrides, source=str(path))


@dataclass(frozen=True)
class ExaminedJob:
    """A job that may have problems.

    Attributes:
        problems: of its YAML, one line each.
        job: the job, with defaults in the place of values that are wrong alone; None where nothing can be
            said of its raw files.
        data_agrees: no rule between settings of the raw files is broken.
    """

    problems: tuple[str, ...]
    job: Job | None
    data_agrees: bool


def examine_job(path: str | Path, overrides: Iterable[str] = ()) -> ExaminedJob:
    """The job in the YAML file ``path``, as far as it can be read; for checks that continue in spite of
    problems.

    Raises:
        InputError: no such file, or not a YAML mapping.
    """
    overrides = tuple(overrides)
    try:
        return ExaminedJob((), load_job(path, overrides), data_agrees=True)
    except ConfigError as error:
        # Without one a renamed setting is given twice, and nothing more can be said of such a job.
        validation = error.__cause__
        if not isinstance(validation, ValidationError):
            raise
        job, agrees = _without_problems(_merged(_parse_file(path), overrides, str(path)))
        return ExaminedJob(error.problems, job, agrees)


def _without_problems(tree: Mapping[str, Any]) -> tuple[Job | None, bool]:
    """The job without the values that are wrong alone, and whether its raw files' settings agree."""
    # Each round removes what was wrong alone, which can bring further problems to light.
    for _ in range(_MAX_PROBLEMS):
        try:
            sections = JobSections.model_validate(tree)
        except ValidationError as error:
            for problem in error.errors():
                keys = _keys(problem["loc"])
                if keys[:1] == ["output"]:
                    tree = _without(tree, keys, True)
                # An unknown key hides nothing: the settings that are known still say which files to look at.
                elif keys[:1] == ["data"] and problem["type"] != "extra_forbidden":
                    return None, False  # nothing is known of files whose settings are wrong
                else:
                    tree = _without(tree, keys, problem["type"] == "missing")
        else:
            # Not validated, since rules between settings may be broken; the files are looked at all the same.
            job = Job.model_construct(**{name: getattr(sections, name) for name in JobSections.model_fields})
            broken = [path for rule in disagreements(job) for path in rule.paths]
            return job, not any(path.startswith("data.") for path in broken)
    return None, False


def read_job(text: str, source: str, overrides: Iterable[str] = ()) -> Job:
    """The job in a YAML ``text`` from ``source``; raises as ``load_job`` does."""
    return parse_job(_parse(text, source), overrides, source=source)


def parse_job(tree: object, overrides: Iterable[str] = (), source: str = "job") -> Job:
    """The job in an already parsed YAML ``tree``; raises as ``load_job`` does."""
    merged = _merged(tree, overrides, source)
    try:
        return Job.model_validate(merged)
    except ValidationError as error:
        problems = tuple(_problems(error, merged))
        more = len(problems) - _MAX_PROBLEMS
        raise ConfigError(
            problems[:_MAX_PROBLEMS] + ((f"and {more} more",) if more > 0 else ()), source
        ) from error
    except RecursionError as error:
        raise InputError(
            source, "a recursive YAML alias", "aliases must not be recursive", "Remove the alias."
        ) from error


def _parse_file(path: str | Path) -> object:
    file = Path(path)
    if not file.is_file():
        raise InputError(str(path), "no such file", "a job is a YAML file", "Check the path.")
    size = file.stat().st_size
    if size > _MAX_BYTES:
        raise InputError(str(path), f"{size} bytes", f"a job has at most {_MAX_BYTES}", "Check the path.")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), error, "a job is a readable UTF-8 file", "Check the file.") from error
    return _parse(text, str(path))


def _merged(tree: object, overrides: Iterable[str], source: str) -> dict[str, Any]:
    """``tree`` under present names, with the overrides applied."""
    if not isinstance(tree, dict):
        raise InputError(
            source,
            "an empty file" if tree is None else type(tree).__name__,
            "a job is a YAML mapping",
            "Start with `output:` and `data:`.",
        )
    # Before the overrides, which may use a setting's new name beside a file with its old one.
    merged = with_current_names(tree, source)
    for override in overrides:
        merged = with_current_names(_override(merged, override), "--set")
    return merged


def parse_storage(section: Mapping[str, object], overrides: Iterable[str] = ()) -> Storage:
    """A ``storage`` section without a job, with ``storage.a=b`` overrides applied; raises as ``load_job``
    does."""
    others = [override for override in overrides if not override.startswith("storage.")]
    if others:
        raise InputError(
            "--set",
            others[0],
            "only storage.* can be set here",
            "Write, for example, storage.endpoint=http://127.0.0.1:9000.",
        )
    # A job cannot do without these; storage is checked by the same code as in a job.
    elsewhere = {
        "output": _PLACEHOLDER,
        "data": {"path": _PLACEHOLDER, "modalities": {_PLACEHOLDER: {"file": "x"}}},
    }
    return parse_job({**elsewhere, "storage": dict(section)}, overrides, source="storage").storage


def _parse(text: str, where: str) -> object:
    try:
        return yaml.load(text, _Loader)  # noqa: S506, a SafeLoader
    except _TooManyError as error:
        raise InputError(
            where,
            f"more than {_MAX_VALUES} values",
            "a job has fewer, with every alias expanded",
            "Remove aliases (*) and merges (<<).",
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f"{where}, line {mark.line + 1}" if mark else where
        problem = (error.problem or str(error)).removeprefix("found ")
        raise InputError(at, problem, "a job is a YAML mapping", "Fix the syntax.") from error
    except RecursionError as error:
        raise InputError(
            where, "a tree that is too deep or recursive", "a job is a YAML mapping", "Fix the syntax."
        ) from error
    # PyYAML passes these on, for a date such as 2024-13-01 and for values that do not fit their type tag.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise InputError(where, error, "a job is a YAML mapping", "Quote texts; use no type tags.") from error


def _override(tree: Mapping[str, Any], override: str) -> dict[str, Any]:
    path, separator, text = override.partition("=")
    if not separator:
        raise InputError("--set", override, "an override has the form a.b=c", "Write it as path=value.")
    path, value = current_setting(path, _parse(text, f"--set {path}"), "--set")
    return with_value(tree, path, value, "--set")


def with_value(tree: Mapping[str, Any], path: str, value: object, where: str) -> dict[str, Any]:
    """A copy of ``tree`` with ``value`` at the dotted ``path``, making sections on the way.

    Args:
        where: where the path and the value come from, for the message.

    Raises:
        InputError: the path leads through a value, or has an empty part.
    """
    keys = path.split(".")
    if not all(keys):
        raise InputError(where, path, "a path has the form a.b", "Write the keys with one dot between.")
    result = dict(tree)
    node = result
    for key in keys[:-1]:
        child = node.get(key)
        if child is not None and not isinstance(child, dict):
            raise InputError(
                f"{where} {path}", f"{key} is a value", "only sections can contain keys", "Check the path."
            )
        node[key] = dict(child or {})
        node = node[key]
    node[keys[-1]] = value
    return result


def _problems(error: ValidationError, tree: Mapping[str, Any]) -> Iterator[str]:
    """One line per problem: those of single values first, then those between values that are valid alone."""
    alone: dict[str, list[tuple[str, str]]] = {}
    for problem in error.errors():
        # The second one only follows from another problem.
        if problem["type"] not in ("disagreement", "default_factory_not_called"):
            alone.setdefault(_path(problem["loc"]), []).append(_parts(problem))
    sections = {path[:end] for path in alone for end, letter in enumerate(path) if letter == "."}
    for path, texts in alone.items():
        if path in sections:
            # a union of a word and a list says of a list's wrong element that the list is not the word
            continue
        # Each branch of a union reports its own problem.
        (start, _), rules = texts[0], [rule for _, rule in texts]
        yield f"{path}: {start}{alternatives(rules)}"
    for line in _disagreements(error, tree):
        if not any(
            compared == path or compared.startswith(f"{path}.") for compared in line.paths for path in alone
        ):
            yield f"{line.path}: {line.text}"


def _parts(problem: Any) -> tuple[str, str]:
    """What was read, and the rule that it breaks."""
    if problem["type"] == "extra_forbidden":
        return "unknown key", _suggestion(problem["loc"])
    return "" if problem["type"] == "missing" else f"found {_shown(problem['input'])}; ", worded(problem)


def _disagreements(error: ValidationError, tree: Mapping[str, Any]) -> tuple[Any, ...]:
    """The broken rules between settings, with every value that is wrong alone replaced by its default."""
    for _ in range(3):  # again for what the removals brought to light
        for problem in error.errors():
            if problem["type"] == "disagreement":
                disagreements: tuple[Any, ...] = problem["ctx"]["found"]
                return disagreements
            tree = _without(tree, _keys(problem["loc"]), problem["type"] == "missing")
        try:
            Job.model_validate(tree)
        except ValidationError as next_error:
            error = next_error
        else:
            return ()
    return ()


def _without(tree: Mapping[str, Any], keys: list[str], fill: bool) -> dict[str, Any]:
    """A copy of ``tree`` without the value at ``keys``, or with a placeholder for one that has no default."""
    result = dict(tree)
    key, *rest = keys or [""]
    child = result.get(key)
    if rest and isinstance(child, dict):
        result[key] = _without(child, rest, fill)
    elif key == "modalities":
        result["modalities"] = {_PLACEHOLDER: {"file": _PLACEHOLDER}}
    elif key == "data":
        result["data"] = {"path": _PLACEHOLDER, "modalities": {_PLACEHOLDER: {"file": _PLACEHOLDER}}}
    elif fill or key in ("output", "path", "file"):
        result[key] = _PLACEHOLDER
    else:
        result.pop(key, None)
    return result


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(key if key.isprintable() else repr(key) for key in _keys(location))


def _keys(location: tuple[int | str, ...]) -> list[str]:
    """Without the branches of unions, which pydantic names in the location: users did not write them."""
    # Names that pydantic makes up for the members of a union; its documentation does not promise them.
    branches = ("literal[", "tuple[", "function-", "constrained-")
    keys = []
    for part, following in zip(location, (*location, 0)[1:], strict=True):
        if isinstance(part, str) and isinstance(following, int):  # a branch is last, or before a list's index
            if part in ("int", "str", "float", "bool", "[key]") or part.startswith(branches):
                continue
        keys.append(str(part))
    return keys


def _shown(value: object) -> str:
    printer = reprlib.Repr()  # never the whole value: YAML aliases make small files large
    printer.maxlevel, printer.maxstring, printer.maxother = 2, _MAX_SHOWN, _MAX_SHOWN
    try:
        text = printer.repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        text = "a number too long to show"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _suggestion(location: tuple[int | str, ...]) -> str:
    section: Any = Job
    for part in location[:-1]:
        fields = getattr(section, "model_fields", None)
        if fields is None or part not in fields:
            continue  # a key of a mapping, such as a modality's name
        annotation = fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    field_names = list(getattr(section, "model_fields", {}))
    close = difflib.get_close_matches(str(location[-1]), field_names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(field_names)}"
