"""The shape of the code: which package may import which, and habits that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mypy import api as mypy_api
from pydantic import BaseModel

from mmssl_dist.config import Job
from tests.unit.repository.shape import (
    POSITIONAL,
    positional_dataclasses,
    repeated_names,
    shape,
    two_way_imports,
)

PACKAGE = Path(__file__).parents[3] / "mmssl_dist"
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = (
    "config",
    "storage",
    "kernels",
    "exchange",
    "data",
    "graph",
    "cluster",
    "serving",
    "embedding",
    "datasets",
    "sharding",
    "sampling",
    "model",
    "losses",
    "training",
    "evaluation",
    "export",
    "planning",
    "tracking",
    "launch",
    "tuning",
    "report",
    "pipeline",
    "app",
)
LARGEST = 400


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports name the whole path"
            assert node.module is not None
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_file_is_in_a_known_package() -> None:
    assert {package_of(path) for path in MODULES} - {"__init__", "__main__", "errors"} <= set(PACKAGES)


def test_imports_run_one_way() -> None:
    wrong = []
    for path in MODULES:
        if package_of(path) in ("__init__", "__main__", "errors"):
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "mmssl_dist" or parts[1:2] in ([], ["errors"], ["__version__"]):
                continue
            if PACKAGES.index(parts[1]) > PACKAGES.index(package_of(path)):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {package_of(path)} imports {parts[1]}")
    assert wrong == []


def test_the_architecture_lists_the_packages_in_the_order_of_their_imports() -> None:
    text = (PACKAGE.parent / "docs/architecture.md").read_text()
    lines = re.findall(r"^ {6}((?:\w+/ +)+)", text, flags=re.M)
    assert re.findall(r"\w+", " ".join(lines)) == [*reversed(PACKAGES)]


def test_the_errors_import_nothing_of_the_package() -> None:
    assert [name for _, name in imports(PACKAGE / "errors.py") if name.startswith("mmssl_dist")] == []


def test_dgl_is_imported_through_its_adapter_only() -> None:
    named = re.compile(r"""^\s*(import|from) dgl\b|import_module\(["']dgl""", flags=re.M)
    assert [path.relative_to(PACKAGE).as_posix() for path in MODULES if named.search(path.read_text())] == [
        "graph/dgl_door.py"
    ]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("config", {"pydantic", "pydantic_core", "yaml"}),
        ("storage", {"numpy", "pyarrow", "botocore", "s3fs", "fsspec", "huggingface_hub"}),
        ("model", {"torch", "numpy"}),  # no rank, no Ray, no DGL, no DeepSpeed
        ("losses", {"torch", "numpy"}),
    ],
)
def test_a_package_needs_no_more_than_these(name: str, allowed: set[str]) -> None:
    result = {
        top
        for path in MODULES
        if package_of(path) == name
        for _, imported in imports(path)
        if (top := imported.split(".")[0]) not in sys.stdlib_module_names and top != "mmssl_dist"
    }
    assert result <= allowed


def imported_modules() -> dict[str, set[str]]:
    """The modules, of the package or not, that each module of the package imports, wherever in its file."""
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES}
    known = {name.removesuffix(".__init__") for name in names.values()}

    def module_of(imported: str) -> str:
        of_package = imported if imported in known else imported.rpartition(".")[0]
        return of_package if of_package in known else imported

    return {
        name.removesuffix(".__init__"): {module_of(other) for _, other in imports(path)}
        for path, name in names.items()
    }


def test_no_two_files_import_each_other() -> None:
    assert two_way_imports(imported_modules()) == set()


def test_serving_reaches_neither_torch_nor_training() -> None:
    """Also through what it imports, and through imports within functions: a service starts without them."""
    modules = imported_modules()
    reached: set[str] = set()
    pending = [name for name in modules if name.startswith("mmssl_dist.serving")]
    assert len(pending) > 5
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending += modules.get(name, ())
    heavy = {"torch", "dgl", "deepspeed"}
    below = {f"mmssl_dist.{package}" for package in PACKAGES[PACKAGES.index("serving") + 1 :]}
    wrong = {name for name in reached if name.split(".")[0] in heavy}
    wrong |= {name for name in reached if ".".join(name.split(".")[:2]) in below}
    assert wrong == set()


def test_no_two_files_have_the_same_name() -> None:
    assert repeated_names(MODULES) == {}


@pytest.mark.processes
def test_the_formatter_has_nothing_to_change() -> None:
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [ruff, "format", "--check", "--quiet", PACKAGE.parent], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_shape_of_the_code() -> None:
    """Bars that good projects of this field meet; ``shape.py`` alone lists where they are missed."""
    figures = shape(MODULES)
    assert figures[POSITIONAL] <= 2.5  # variable numbers of arguments, and kernels, which take no keywords
    assert figures["functions over 60 lines"] == 0
    assert figures["public docstrings"] >= 0.95
    assert figures["typed arguments"] == 1


def test_dataclasses_with_many_fields_are_built_by_keyword() -> None:
    positional = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in MODULES
        for name in positional_dataclasses(ast.parse(path.read_text()))
    ]
    assert positional == []


def test_files_are_short() -> None:
    files = [*MODULES, *sorted((PACKAGE.parent / "tests").rglob("*.py"))]
    assert [path.name for path in files if len(path.read_text().splitlines()) >= LARGEST] == []


def test_every_module_says_what_it_guarantees() -> None:
    trees = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in MODULES}
    silent = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []


def test_nothing_prints_but_the_command_line_and_the_report() -> None:
    printing = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        if package_of(path) not in ("app", "report")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_tests_share_by_modules_of_their_own() -> None:
    """What two files of tests need is in neither: one may go without the other."""
    shared = re.compile(r"^(from|import) tests\.(\w+\.)*test_", flags=re.M)
    tests = PACKAGE.parent / "tests"
    assert [path.name for path in sorted(tests.rglob("*.py")) if shared.search(path.read_text())] == []


def test_no_test_is_left_out() -> None:
    words = "|".join(("s" + "kip", "s" + "kipif", "x" + "fail", "import" + "ors" + "kip"))
    left_out = re.compile(rf"\b(pytest|mark|unittest)\.({words})\b|raise\s+SkipTest")
    tests = PACKAGE.parent / "tests"
    assert [path.name for path in sorted(tests.rglob("*.py")) if left_out.search(path.read_text())] == []


def test_nothing_is_left_to_do() -> None:
    words = re.compile(
        r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b|raise Not" + "Implemented"
    )
    assert [path.name for path in MODULES if words.search(path.read_text())] == []


def sections(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, section
    for name, field in section.model_fields.items():
        for annotation in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from sections(annotation, f"{path}.{name}".lstrip("."))


def test_every_setting_says_what_it_is() -> None:
    silent = [
        f"{path}.{name}".lstrip(".")
        for path, section in sections(Job)
        for name, field in section.model_fields.items()
        if not (field.description or "").endswith(".")
    ]
    assert silent == []
    assert {path for path, _ in sections(Job)} >= {
        "",
        "data",
        "data.modalities",
        "losses.adversarial",
        "storage",
    }


def test_the_repository_stands_alone() -> None:
    """A clone has nothing beside it, so no file may look there."""
    word = "sha" + "red"  # apart, so that this file does not hold what it looks for
    beside = re.compile(rf"""\.\./{word}|["']{word}["']""")
    root = PACKAGE.parent
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    paths = [root / name for name in names.split("\0") if name]
    texts = [path for path in paths if path.suffix not in (".png", ".npz") and path.is_file()]
    assert len(texts) > 300
    assert [str(path) for path in texts if beside.search(path.read_text(encoding="utf-8"))] == []


def test_a_call_of_what_is_not_there_is_an_error_of_the_tests_types(tmp_path: Path) -> None:
    (tmp_path / "test_wrong.py").write_text("import os\nfrom os import no_name\n\nos.nothing()\nno_name()\n")
    settings = (
        "--config-file",
        str(PACKAGE.parent / "tests/mypy.ini"),
        "--cache-dir",
        str(tmp_path / "cache"),
    )
    report, failure, status = mypy_api.run([*settings, str(tmp_path / "test_wrong.py")])
    assert status == 1, failure
    assert '"no_name"' in report
    assert '"nothing"' in report
