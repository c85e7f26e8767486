"""From titles, pictures and clicks to a trained and exported run with one short YAML, the guide's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clusters import ROOT
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
        lines.append(f"sku-{item:03d},{STYLES[style]} shirt number {item},shirts,{10 + item},p{item:03d}.png")
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


@pytest.mark.timeout(900)
def test_from_titles_and_pictures_to_an_exported_run(folder: Path) -> None:
    (folder / "shop.yaml").write_text(_job())
    ran = succeed(folder, "run", "shop.yaml")
    order = ["embed", "prepare", "partition", "train", "evaluate", "export"]
    assert list(stages(ran.stderr.splitlines())) == order
    assert "embed: text 384 wide for 80 items, image 24 wide for 80 items" in ran.stderr
    metrics = json.loads((folder / "run" / "evaluation" / "metrics.json").read_text())["test"]
    assert metrics["recall@20"] > 0.5  # by chance 20 of 72; of the right style a user has 12 left
