"""Examples in the documents do what they say: Python runs, YAML and JSON are accepted, the API is as
described, command lines are understood."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml
from ray.scripts.scripts import cli as ray_commands
from typer.testing import CliRunner

import mmssl_dist
from mmssl_dist.app import app
from mmssl_dist.config import Job, parse_job
from mmssl_dist.errors import ConfigError
from mmssl_dist.serving import run as serving
from mmssl_dist.serving.messages import RecommendRequest
from mmssl_dist.serving.run_facts import RunFacts
from tests.exported import export_run
from tests.jobs import training_job
from tests.training import ITEMS, USERS, publish_graph
from tests.unit.repository.documents import DOCUMENTS, ROOT

API = (ROOT / "docs" / "api.md").read_text()
Wrong = typer.BadParameter.__base__  # any wrong use of the command line; Typer has no name of its own for it
MARKDOWN = [path for path in DOCUMENTS if path.suffix == ".md"]
TYPED = [path for path in MARKDOWN if path.name != "command-options.md"]  # which shows what is asked for
NO_CODE = "text"
BLOCKS = [
    pytest.param(
        block[1], block[2], id=f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, block.start()) + 1}"
    )
    for path in MARKDOWN
    for text in [path.read_text()]
    for block in re.finditer(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S)
    if block[1] != NO_CODE
]
PYTHON = ("docs/api.md", "docs/using-a-run.md", "README.md", "README.zh-CN.md")


def _check(language: str, block: str) -> None:
    """Raise an error if ``block`` is not valid: Python that compiles and imports what this package has, YAML
    that is a job or a part of one, JSON that is a request for recommendations."""
    if language == "python":
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mmssl_dist"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)
    elif language == "yaml":
        whole = {"output": "x", "data": {"path": "y", "modalities": {"image": {"file": "z"}}}}
        assert isinstance(parse_job(whole | yaml.safe_load(block), []), Job)
    else:
        assert language == "json"
        RecommendRequest.model_validate_json(block)


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_code_is_valid(language: str, block: str) -> None:
    _check(language, block)


@pytest.mark.parametrize(
    ("language", "block"),
    [
        ("python", "run = ("),
        ("python", "from mmssl_dist import open_runs"),
        ("yaml", "search: {tries: 3}"),
        ("yaml", "search: [3"),
        ("json", '{"user": "u17", "candidate": {}}'),
        ("", "run"),
    ],
)
def test_wrong_code_would_be_noticed(language: str, block: str) -> None:
    with pytest.raises((AssertionError, SyntaxError, ValueError, ConfigError, yaml.YAMLError)):
        _check(language, block)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run that the examples ask: runs/mine, users u0, u1, ..., items i0, i1, ..."""
    made = tmp_path_factory.mktemp("examples")
    job = training_job(
        made / "runs/mine",
        2,
        1,
        "model.modality_graph.size=0",
        "losses.contrastive.weight=0",
        "partition.method=auto",
    )
    publish_graph(
        job, users=[f"u{user}" for user in range(USERS)], items=[f"i{item}" for item in range(ITEMS)]
    )
    export_run(job)
    return made


@pytest.mark.processes
@pytest.mark.parametrize("name", PYTHON)
def test_python_runs_as_it_stands(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), flags=re.M | re.S)
    assert blocks
    known: dict[str, object] = {"vector": [0.5, 0.1, -0.3, 0.2, 1.0]}  # of an item: the reader's own
    for block in blocks:
        exec(compile(block, name, "exec"), known)
    assert isinstance(known["run"], serving.Run)


def _signature(function: object) -> str:
    stated = inspect.signature(function)  # type: ignore[arg-type]
    kept = [each for each in stated.parameters.values() if each.name != "self"]
    return str(stated.replace(parameters=kept))


def test_every_signature_is_the_code_s():
    described = dict(re.findall(r"^### `([\w.]+)(\(.*)`$", API, flags=re.M))
    for function in (mmssl_dist.open_run, mmssl_dist.run):
        name = f"mmssl_dist.{function.__name__}"
        assert described.pop(name) == _signature(function).replace("'", "")
    for name, signature in described.items():
        owner, method = name.split(".")
        assert owner == "Run"
        assert signature == _signature(getattr(serving.Run, method)).replace("'", ""), name
    assert {"recommend", "similar", "history", "new_item"} <= {name.split(".")[1] for name in described}


def test_attributes_in_its_tables_are_there(folder):
    run = mmssl_dist.open_run(str(folder / "runs/mine"))
    for name in re.findall(r"`Run\.(\w+)`", API):
        assert hasattr(serving.Run, name), name
    for name in re.findall(r"`\.(\w+)", API):
        assert hasattr(run.items, name), name
    ranked, users = run.recommend("u1"), run.users_for_new({"image": [0.5] * 5})
    for title, one in (("Ranked", ranked), ("RankedUsers", users)):
        listed = re.search(rf"^\| `{title}` \| (.*) \|$", API, flags=re.M)
        assert set(re.findall(r"`(\w+)`:", listed[1])) == set(vars(one))


def test_the_api_is_all_there():
    """Whatever a run offers is described, or is for the other packages of this project alone."""
    for_packages = {
        "export",
        "partitions",
        "seen",
        "known",
        "fold_in",
        "basket",
        "rank",
        "user_rows",
        "check_users",
        "recommend_at",
    }
    offered = {*vars(serving.Run), *vars(RunFacts)}
    public = {name for name in offered if not name.startswith("_")} - for_packages
    assert public == {name for name in public if f"Run.{name}" in API}


def _lines(path: Path) -> list[str]:
    """Command lines, on a line of their own or in a table's first column, without comments."""
    text = path.read_text()
    own = re.findall(r"^ {4}((?:mmssl-dist|python cli\.py) [^#\n]+)", text, flags=re.M)
    return own + re.findall(r"`((?:mmssl-dist|python cli\.py) [^`\n]+)`", text)


@pytest.mark.parametrize("path", TYPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_understood(path):
    """Every option exists and takes such a value; what stands in capitals stands for something of the
    reader's."""
    for line in _lines(path):
        stated = line.replace("...", "").replace("LAYOUT", "mmrec")
        words = shlex.split(stated.removeprefix("mmssl-dist ").removeprefix("python cli.py "))
        if len(words) == 1 or "|" in line:
            continue  # the bare name of a command, or of several
        try:
            _parse(typer.main.get_command(app), words)
        except Wrong as error:
            raise AssertionError(f"{path.name}: {line}: {error}") from error


def _parse(command: Any, words: list[str]) -> None:
    """Parse ``words`` as the command line does, and call nothing."""
    if hasattr(command, "commands"):
        name, rest = words[0], words[1:]
        below = command.commands.get(name)
        assert below is not None, f"no command {name}"
        _parse(below, rest)
    else:
        command.make_context(command.name, list(words))


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_ray_s_commands_and_the_files_they_and_others_take_are_there(path):
    text = path.read_text()
    lines = re.findall(r"^ {4,8}((?:ray|kubectl|docker) [^#\n]+)", text, flags=re.M)
    for line in [*lines, *re.findall(r"`((?:ray|kubectl|docker) [^`\n]+)`", text)]:
        words = shlex.split(line)
        if words[0] == "ray":
            command = ray_commands.commands.get(words[1])
            assert command is not None, f"{path.name}: {line}"
            command.make_context(words[1], words[2:] or ["FILE"] * len(_needed(command)))
        for word in words:
            assert not word.startswith(("cluster/", "jobs/")) or (ROOT / word).exists(), (
                f"{path.name}: {line}"
            )


def _needed(command: click.Command) -> list[click.Parameter]:
    return [each for each in command.params if isinstance(each, click.Argument) and each.required]


def test_the_command_lines_for_a_run_answer(folder, monkeypatch):
    """Those of using-a-run.md; the file of users goes through Ray in tests/end_to_end/test_bulk.py."""
    monkeypatch.chdir(folder)
    block = re.search(
        r"## On the command line\n\n((?: {4}.*\n)+)", (ROOT / "docs" / "using-a-run.md").read_text()
    )
    for line in block[1].splitlines():
        words = [{"RUN": "runs/mine", "mmssl-dist": ""}.get(word, word) for word in shlex.split(line)][1:]
        if "--users" in words:
            continue
        for at, word in enumerate(words):
            if word == "ID":
                words[at] = "u17" if words[at - 1] == "--user" else "i4"
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}: {done.output}"
        assert "i" in done.stdout


@pytest.mark.parametrize(
    "line", ["recommend RUN --usr ID", "recommend RUN --k many", "jobs nothing", "plan JOB more"]
)
def test_a_wrong_line_would_be_noticed(line):
    with pytest.raises((Wrong, AssertionError)):
        _parse(typer.main.get_command(app), line.split())


def test_the_plan_of_the_cluster_guide_is_what_plan_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    guide = (ROOT / "docs" / "gpu-cluster.md").read_text()
    line = re.search(r"^ {4}mmssl-dist (plan .*)$", guide, flags=re.M)
    done = CliRunner().invoke(app, shlex.split(line[1]))
    plan_lines = re.search(r"^```text\n(.*?)^```", guide, flags=re.M | re.S)[1].splitlines()
    assert len(plan_lines) == 5
    assert [each for each in plan_lines if each not in done.stdout.splitlines()] == []
    for title, amount in (("worker", "11.3 GB each"), ("its GPU", "7.3 GB of their GPUs")):
        assert amount in guide
        size = " ".join(amount.split()[:2])
        assert re.search(rf"^memory (per|of) {title}$(\n  .*)*\n  in all +{size}$", done.stdout, flags=re.M)
    for size in ("355 GB", "0.82 GB"):
        assert size in guide
    assert re.search(r"sent to others +824\.\d MB", done.stdout)
    assert re.search(r"in all +354\.\d GB", done.stdout)
