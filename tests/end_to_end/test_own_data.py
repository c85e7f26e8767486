"""The guide for a user's own data, followed line by line in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.clusters import BIN, ROOT, free_port

GUIDE = (ROOT / "docs" / "own-data.md").read_text()
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the guide's script."""
    made = tmp_path_factory.mktemp("shop")
    (script,) = re.findall(r"^```python\n# make_data.py\n(.*?)^```", GUIDE, flags=re.M | re.S)
    (made / "make_data.py").write_text(script)
    return made


@pytest.mark.timeout(900)
def test_every_line_of_the_guide(folder: Path) -> None:
    lines = re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```", "", GUIDE, flags=re.M | re.S), flags=re.M)
    assert [line.split()[1] for line in lines if line.startswith("mmssl-dist")] == [
        "init",
        "validate",
        "run",
        "recommend",
        "recommend",
        "similar",
        "report",
        "serve",
    ]
    outputs: dict[str, str] = {}
    serving: subprocess.Popen[str] | None = None
    port = str(free_port())
    try:
        for line in lines:
            words = [word.replace("8000", port) for word in shlex.split(line)]
            if words[1] == "serve":
                serving = subprocess.Popen(
                    words, cwd=folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE
                )
                assert serving.stdout is not None
                assert serving.stdout.readline().startswith("serving runs/shop on http://127.0.0.1:")
                continue
            done = subprocess.run(
                words,
                cwd=folder,
                env=ENVIRONMENT,
                input="\n" if words[1] == "init" else None,  # Enter takes the proposal
                text=True,
                capture_output=True,
                timeout=500,
            )
            assert done.returncode == 0, done.stderr
            if words[1] == "init":
                assert done.stderr.count("[leave_last_out]:") == 1  # the one question of the guide
                _the_guide_shows((folder / "shop.yaml").read_text())
            outputs[line] = done.stdout
    finally:
        if serving is not None:
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(90) == 0
    _looks_right(folder, outputs)


def _the_guide_shows(job: str) -> None:
    """Whatever the sizes of files, which depend on the version of the writer."""
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE, flags=re.M | re.S)
    sizes = re.compile(r"[\d,]+ bytes")
    assert sizes.sub("", shown) == sizes.sub("", job)


def _looks_right(folder: Path, outputs: dict[str, str]) -> None:
    """The model finds styles: a customer's and an item's lists are of the right one."""
    metrics = json.loads((folder / "runs/shop/evaluation/metrics.json").read_text())["test"]
    assert metrics["recall@20"] > 0.5  # by chance 20 of 110; of the right style a customer has 20 left
    for line, answer in outputs.items():
        if "customer-17" in line:
            assert _styles(answer, known="customer-17")[1] > 0.8
        if "sku-004" in line:
            assert _styles(answer, known="sku-004")[0] > 0.8
    assert "shirt" in (folder / "runs/shop/report.html").read_text()


def _styles(answer: str, known: str) -> list[float]:
    """Shares of the four styles among the items of an answer."""
    items = [int(sku) for sku in re.findall(r"sku-(\d+)", answer.replace(known, ""))]
    assert len(items) >= 5
    return [sum(item % 4 == style for item in items) / len(items) for style in range(4)]
