"""The run that a training starts from, before any worker starts: its job is read as the run has kept it."""

from pathlib import Path

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.launch.earlier_run import check_start
from mmssl_dist.storage import Manifest, RunFolder, publish
from tests.jobs import make_job


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The output of a run with manifests of its graph and training, and nothing else."""
    folder = RunFolder.at(str(tmp_path / "earlier"), Storage())
    publish(folder.partitions.location, Manifest("partitions", "graph", {}, {}))
    publish(folder.training.location, Manifest("training", "rows", {"checkpoint": "run/checkpoint"}, {}))
    return tmp_path / "earlier"


def start_from(output: Path) -> None:
    check_start(make_job(f"training.start_from={output}"))


def test_a_run_without_its_job(trained: Path) -> None:
    with pytest.raises(
        InputError, match=r"training.start_from: found .*job.yaml: no such file; a run's output"
    ):
        start_from(trained)


def test_a_job_that_is_not_text(trained: Path) -> None:
    (trained / "job.yaml").write_bytes(b"output: \xff")
    with pytest.raises(
        InputError, match=r"training.start_from: found .*job.yaml: 'utf-8' codec .*; a job is UTF-8"
    ):
        start_from(trained)


def test_a_run_with_other_columns_of_features(trained: Path) -> None:
    facts = "data.modalities={facts: {table: items.csv, features: {brand: category, price: number}}}"
    # The order of the columns is no difference: the earlier run's is taken over with its encoding
    same = facts.replace("brand: category, price: number", "price: number, brand: category")
    (trained / "job.yaml").write_text(make_job(facts).model_dump_json())
    check_start(make_job(same, f"training.start_from={trained}"))
    more = "data.modalities.facts.one_hot=3"
    with pytest.raises(InputError, match=r"one_hot 3, .*, where the earlier run has features .*one_hot 64"):
        check_start(make_job(facts, more, f"training.start_from={trained}"))
    vectors = "data.modalities={facts: {file: facts.parquet}}"
    with pytest.raises(InputError, match=r"of no columns of features, where the earlier run has features"):
        check_start(make_job(vectors, f"training.start_from={trained}"))


def test_a_run_with_rows_of_another_width(trained: Path) -> None:
    other = make_job("model.dimension=64")
    (trained / "job.yaml").write_text(other.model_dump_json())
    with pytest.raises(InputError, match=r"model.dimension \d+, where the earlier run has 64"):
        start_from(trained)


@pytest.mark.parametrize(
    ("kept", "reduced", "asked", "refused"),
    [
        ({"image": 9}, {}, 0, None),
        ({"image": 9}, {}, 12, None),  # wider than the features are
        (
            {"image": 9},
            {},
            4,
            "partition.feature_dimensions 4, which keeps 4 values of image, where .* has 9",
        ),
        ({"image": 4}, {"image": {"from": 9, "kept": 0.8}}, 4, None),
        ({"image": 4}, {"image": {"from": 9, "kept": 0.8}}, 0, "keeps 9 values of image, where .* has 4"),
    ],
)
def test_a_run_that_kept_other_dimensions_of_features(trained: Path, kept, reduced, asked, refused) -> None:
    """Before anything is prepared, which is when the features' widths are known."""
    folder = RunFolder.at(str(trained), Storage())
    facts = {"modalities": kept, "reduced": reduced}
    publish(folder.partitions.location, Manifest("partitions", "graph", facts, {}))
    job = make_job(f"training.start_from={trained}", f"partition.feature_dimensions={asked}")
    (trained / "job.yaml").write_text(make_job().model_dump_json())
    if refused is None:
        check_start(job)
        return
    with pytest.raises(InputError, match=refused):
        check_start(job)
