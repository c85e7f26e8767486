from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import mmssl_dist
from mmssl_dist.errors import MmsslError
from mmssl_dist.graph.dgl_door import dgl, draw

PACKAGE = Path(mmssl_dist.__file__).parent


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the packages that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names.add(str(node.args[0].value).split(".")[0])
    return names


def test_dgl_comes_through_its_adapter_alone() -> None:
    users = [file for file in PACKAGE.rglob("*.py") if "dgl" in imported(ast.parse(file.read_text()))]
    assert users == [PACKAGE / "graph" / "dgl_door.py"]


def test_dgl_computes_with_torch() -> None:
    graph = dgl.graph((torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])))
    assert dgl.backend.backend_name == "pytorch"
    assert graph.in_degrees().tolist() == [0, 1, 2]


def test_the_stand_in_for_graphbolt_refuses_to_be_used() -> None:
    graphbolt = sys.modules["dgl.graphbolt"]
    if (
        Path(dgl.__file__)
        .with_name("graphbolt")
        .joinpath(f"libgraphbolt_pytorch_{torch.__version__}.so")
        .exists()
    ):
        assert graphbolt.__file__ is not None  # the real one
        return
    with pytest.raises(
        MmsslError, match=r"dgl\.graphbolt\.MiniBatch: GraphBolt is switched off.* for torch \d"
    ):
        graphbolt.MiniBatch  # noqa: B018
    with pytest.raises(MmsslError, match="FusedCSCSamplingGraph: GraphBolt is switched off"):
        graphbolt.FusedCSCSamplingGraph()
    assert not isinstance(dgl.graph(([0], [1])), graphbolt.FusedCSCSamplingGraph)
    assert not hasattr(graphbolt, "__wrapped__")


def numbers(seed: int) -> list[int]:
    return list(draw(seed, lambda: dgl.random.choice(10**12, 5)).tolist())


def test_every_thread_draws_the_same() -> None:
    expected, result = numbers(3), []
    assert expected == numbers(3) != numbers(4)
    for _ in range(3):
        thread = threading.Thread(target=lambda: result.append(numbers(3)))
        thread.start()
        thread.join()
    assert result == [expected] * 3


@pytest.mark.processes
def test_every_process_draws_the_same() -> None:
    """Whatever number of threads it computes with, which importing the adapter leaves as it is."""
    code = (
        "import torch; torch.set_num_threads(3)\n"
        "from mmssl_dist.graph.dgl_door import dgl, draw\n"
        "assert torch.get_num_threads() == 3\n"
        "print(draw(3, lambda: dgl.random.choice(10**12, 5)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        env={"OMP_NUM_THREADS": "2"},
    )
    assert done.stdout.strip() == str(numbers(3))


@pytest.mark.processes
def test_a_process_that_drew_before_is_told() -> None:
    code = (
        "import os, threading, mmssl_dist.graph.dgl_door as adapter\n"
        "second = adapter._DrawingThread()\n"
        "try: second.draw(1, lambda: 0)\n"
        "except adapter.MmsslError as error: print(error)\n"
        "if os.fork(): os.wait()\n"
        "else:\n"
        "    try: adapter.draw(1, lambda: 0)\n"
        "    except adapter.MmsslError as error: print(error, flush=True)\n"
        "    os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert "something in this process drew from it first" in done.stdout
    assert "before this process was forked" in done.stdout
