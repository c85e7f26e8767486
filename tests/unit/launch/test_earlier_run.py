"""The run that a training starts from, before any worker starts: its job is read as the run has kept it."""

from pathlib import Path

import numpy as np
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.launch.earlier_run import check_inputs, check_start
from mmssl_dist.launch.validate import validated
from mmssl_dist.storage import Manifest, RunFolder, publish
from tests.jobs import make_job, raw_job
from tests.unit.data.raw import vectors, write_table


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


FACTS = {"user_id_type": "string", "item_id_type": "int64", "modalities": {"image": 4}}


@pytest.mark.parametrize(
    ("types", "width", "message"),
    [
        (("string", "int64"), 4, None),
        (("string", "string"), 4, "item ids of type string, where the earlier run has int64"),
        (("int64", "int64"), 4, "user ids of type int64, where the earlier run has string"),
        (("string", "int64"), 8, "features of image with 8 values, where the earlier run has 4"),
    ],
)
@pytest.mark.parametrize("reduced", [False, True])
def test_ids_of_another_type_and_features_of_another_width(
    trained: Path, types: tuple[str, str], width: int, message: str | None, reduced: bool
) -> None:
    facts = FACTS
    if reduced:
        facts = FACTS | {"modalities": {"image": 2}, "reduced": {"image": {"from": 4, "kept": 0.9}}}
    publish(RunFolder.at(str(trained), Storage()).partitions.location, Manifest("partitions", "g", facts, {}))
    job = make_job(f"training.start_from={trained}")
    if message is None:
        check_inputs(job, types, {"image": width})
        return
    with pytest.raises(InputError, match=f"training.start_from: found {message}; rows are taken over by id"):
        check_inputs(job, types, {"image": width})


def test_validate_compares_the_data(trained: Path, tmp_path: Path) -> None:
    publish(RunFolder.at(str(trained), Storage()).partitions.location, Manifest("partitions", "g", FACTS, {}))
    rng = np.random.default_rng(0)
    users, items = [f"u{n // 8}" for n in range(80)], [f"A{n}" for n in rng.integers(0, 10, 80)]
    write_table(tmp_path, "interactions.parquet", user_id=users, item_id=items)
    rows = vectors(rng.random((10, 8)).tolist())
    write_table(tmp_path, "image.parquet", item_id=[f"A{n}" for n in range(10)], vector=rows)
    job = raw_job(tmp_path)
    (trained / "job.yaml").write_text(job.model_dump_json())
    (tmp_path / "job.yaml").write_text(job.model_dump_json())
    with pytest.raises(
        InputError, match=r"item ids of type string.*; features of image with 8 values"
    ) as caught:
        validated(tmp_path / "job.yaml", [f"training.start_from={trained}"])
    assert "user ids" not in str(caught.value)
