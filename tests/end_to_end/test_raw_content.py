"""From a table of items, pictures and clicks to lists over HTTP with one short YAML, the guide's."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmssl_dist.embedding.table_fit import TableFit
from tests.clusters import ROOT, free_port
from tests.encoders import packaged_texts, tiny_pictures
from tests.end_to_end.commands import stages, succeed

STYLES = ("plain", "floral", "striped", "dotted")
COLOURS = ((200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 200, 40))
ITEMS, USERS = 80, 120
GUIDE = (ROOT / "docs" / "raw-content.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop as it is: a table of items, their pictures, and clicks of users who like one style each."""
    made = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(7)
    (made / "shop" / "images").mkdir(parents=True)
    lines = ["item_id,title,category,price,picture"]
    for item in range(ITEMS):
        style = item % 4
        category, price = ("shirts", "tops")[item // 4 % 2], 10 + item
        lines.append(f"sku-{item:03d},{STYLES[style]} shirt number {item},{category},{price},p{item:03d}.png")
        pixels = np.clip(np.asarray(COLOURS[style]) + rng.integers(-25, 25, (24, 24, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(made / "shop" / "images" / f"p{item:03d}.png")
    (made / "shop" / "items.csv").write_text("\n".join(lines) + "\n")
    clicks = ["user_id,item_id,at"]
    for user in range(USERS):
        liked = np.flatnonzero(np.arange(ITEMS) % 4 == user % 4)
        for day, item in enumerate(rng.choice(liked, 9, replace=False)):
            clicks.append(f"user-{user},sku-{item:03d},2026-01-{day + 1:02d}")
    (made / "shop" / "clicks.csv").write_text("\n".join(clicks) + "\n")
    tiny_pictures(made / "clip")
    return made


def _job() -> str:
    """The guide's job, with encoders that are here."""
    (job,) = re.findall(r"^```yaml\n# shop.yaml\n(.*?)^```", GUIDE, flags=re.M | re.S)
    assert len(job.splitlines()) <= 15
    named = {
        "sentence-transformers/all-MiniLM-L6-v2": str(packaged_texts()),
        "openai/clip-vit-base-patch32": "./clip",
    }
    for name, local in named.items():
        assert name in job
        job = job.replace(name, local)
    return str(job)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The URL of the service, which ends in order."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), "serve", "run", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving run on http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


def _ask(url: str, body: object) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


@pytest.mark.timeout(900)
def test_from_a_table_and_pictures_to_lists_over_http(
    folder: Path, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    (folder / "shop.yaml").write_text(_job())
    ran = succeed(folder, "run", "shop.yaml")
    order = ["embed", "prepare", "partition", "train", "evaluate", "export"]
    assert list(stages(ran.stderr.splitlines())) == order
    widths = "text 384 wide for 80 items, image 24 wide for 80 items, facts 4 wide for 80 items"
    assert f"embed: {widths}" in ran.stderr
    assert "facts: category 2 values, price standardized" in ran.stderr
    metrics = json.loads((folder / "run" / "evaluation" / "metrics.json").read_text())["test"]
    assert metrics["recall@20"] > 0.5  # by chance 20 of 72; of the right style a user has 12 left
    with _served(folder) as url:
        answers = _ask(f"{url}/recommend", {"users": [f"user-{n}" for n in range(8)], "k": 8})["answers"]
        record_property("seconds", round(time.monotonic() - started, 1))
        titles = [[entry["title"] for entry in answer["items"]] for answer in answers]
        liked = [title.startswith(STYLES[n % 4]) for n, own in enumerate(titles) for title in own]
        assert np.mean(liked) > 0.8  # by chance a quarter
        # A new item by its columns alone, encoded by the run's fit
        made = json.loads((folder / "run" / "embeddings" / "manifest.json").read_text())["facts"][
            "modalities"
        ]
        (facts,) = TableFit.of_facts(made["facts"]["fit"]).vectors([{"category": "tops", "price": 30.0}])
        new = {"features": {"facts": facts.tolist()}, "k": 5}
        assert len(_ask(f"{url}/users", new)["users"]) == 5
