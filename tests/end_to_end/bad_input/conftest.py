"""A tiny job that was trained, once for the whole matrix, with something published in every folder of its
output."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.storage import Manifest, open_location, publish
from tests.end_to_end.bad_input.matrix import Bench
from tests.end_to_end.bad_input.matrix_files import ITEMS, USERS, write_interactions, write_text

JOB = """\
output: {folder}/out
data:
  path: {folder}/raw
  buckets: 2
  modalities:
    image: {{file: image.npy}}
    text: {{file: text.parquet}}
partition: {{parts: 2, item_neighbours: 2, method: random}}
model: {{dimension: 8, heads: 2, layers: 1}}
losses: {{adversarial: {{weight: 0}}}}
training: {{epochs: 1, batch_size: 16, fanout: all}}
evaluation: {{ks: [2], metric: recall@2}}
export: {{k: 2}}
"""


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> Bench:
    folder = tmp_path_factory.mktemp("matrix") / "work"
    (folder / "raw").mkdir(parents=True)
    write_interactions(
        folder, [(user, item) for user in range(USERS) for item in range(ITEMS) if (user + item) % 3]
    )
    np.save(folder / "raw/image.npy", np.random.default_rng(1).normal(size=(ITEMS, 3)).astype(np.float32))
    write_text(folder, range(ITEMS), np.random.default_rng(2).normal(size=(ITEMS, 2)).tolist())
    (folder / "job.yaml").write_text(JOB.format(folder=folder))
    for command in ("prepare", "partition", "train"):
        done = CliRunner().invoke(app, [command, f"{folder}/job.yaml", "--address", ray_address])
        assert done.exit_code == 0, done.stderr
    for artifact in (
        "evaluation",
        "export",
    ):  # of an earlier run; nothing reads them, and nothing may harm them
        location = open_location(f"{folder}/out/{artifact}", Storage())
        record = (location / "part/earlier.bin").write_bytes(artifact.encode())
        publish(location, Manifest(artifact, "of an earlier run", {}, {"part/earlier.bin": record}))
    shutil.copytree(folder, folder.with_name("pristine"))
    return Bench(folder, folder.with_name("pristine"), ray_address)
