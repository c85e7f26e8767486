"""One small exported run for the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl_dist.serving.run import Run, open_run
from tests.exported import Exported, publish_run


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return publish_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def output(exported: Exported) -> Path:
    return Path(exported.job.output)


@pytest.fixture
def run(output: Path) -> Run:
    return open_run(str(output))
