"""Counts of habits that make code readable, over all files of the package."""

from __future__ import annotations

import ast
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

MANY = 5
"""Positional arguments from which on a call should name them."""
POSITIONAL = "calls with five or more positional arguments per 1,000"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def has_many_positional(call: ast.Call) -> bool:
    return sum(not isinstance(argument, ast.Starred) for argument in call.args) >= MANY


def positional_dataclasses(tree: ast.AST) -> Iterator[str]:
    """Names of the dataclasses of ``MANY`` fields or more that take them by position."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = sum(
                isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation)
                for line in node.body
            )
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            if fields >= MANY and any(
                decorator.startswith("dataclass") and "kw_only=True" not in decorator
                for decorator in decorators
            ):
                yield node.name


def length(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def is_typed(function: Function) -> list[bool]:
    """Of each argument but ``self`` and ``cls``, whether it has an annotation."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [argument.annotation is not None for argument in named if argument.arg not in ("self", "cls")]


def public(tree: ast.Module) -> Iterator[ast.ClassDef | Function]:
    """Classes and functions of a module, and methods of its classes, whose names have no underscore first."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    method
                    for method in node.body
                    if isinstance(method, Function) and not method.name.startswith("_")
                )


def comment_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return len({t.start[0] for t in tokenize.tokenize(stream.readline) if t.type == tokenize.COMMENT})


def two_way_imports(imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Pairs of modules that import each other."""
    return {
        (module, other)
        for module, others in imports.items()
        for other in others
        if module < other and module in imports.get(other, set())
    }


def repeated_names(paths: list[Path]) -> dict[str, list[str]]:
    """Files by a name that occurs more than once."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_name[path.name].append(path.parent.name)
    return {name: folders for name, folders in by_name.items() if len(folders) > 1 and name != "__init__.py"}


def shape(paths: list[Path]) -> dict[str, float]:
    """Each figure of a package by its name."""
    count: Counter[str] = Counter()
    for path in paths:
        tree = ast.parse(path.read_text())
        count["lines"] += len(path.read_text().splitlines())
        count["comments"] += comment_lines(path)
        for call in calls(tree):
            count["calls"] += 1
            count["many positional"] += has_many_positional(call)
        for function in functions(tree):
            count["long"] += length(function) > 60
            typed = is_typed(function)
            count["arguments"], count["typed"] = (
                count["arguments"] + len(typed),
                count["typed"] + sum(typed),
            )
        for node in public(tree):
            count["public"] += 1
            count["described"] += ast.get_docstring(node) is not None
    return {
        "calls with five or more positional arguments per 1,000": 1000
        * count["many positional"]
        / count["calls"],
        "functions over 60 lines": count["long"],
        "lines with a comment": count["comments"] / count["lines"],
        "public docstrings": count["described"] / count["public"],
        "typed arguments": count["typed"] / count["arguments"],
    }


if __name__ == "__main__":
    import sys

    root = Path(sys.argv[1] if len(sys.argv) > 1 else "mmssl_dist")
    modules = sorted(root.rglob("*.py"))
    for name, value in shape(modules).items():
        sys.stdout.write(f"{name}: {value:.4g}\n")
    for path in modules:
        for call in calls(ast.parse(path.read_text())):
            if has_many_positional(call):
                sys.stdout.write(f"{path}:{call.lineno}: {ast.unparse(call)[:110]}\n")
    for name, folders in repeated_names(modules).items():
        sys.stdout.write(f"{name}: {' '.join(folders)}\n")
