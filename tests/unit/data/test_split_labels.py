"""Labels of splits in ``.inter`` files are followed, unless the job chooses a split itself."""

from __future__ import annotations

import numpy as np
import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.data.columns import SPLIT
from mmssl_dist.data.files import find_files
from mmssl_dist.data.local_rows import local_numbers
from mmssl_dist.data.passes import numbered_rows
from mmssl_dist.data.prepare import dataset_facts
from mmssl_dist.data.readers import open_sources
from mmssl_dist.data.split_labels import with_labelled_split
from mmssl_dist.report.progress import dataset_summary
from tests.jobs import raw_job
from tests.unit.data.raw import write_matrix, write_text

LINES = ["userID\titemID\trating\tx_label", "0\t0\t5\t0", "0\t1\t5\t1", "0\t2\t5\t2", "1\t0\t5\t0"]
NPY = {"image": "image_feat.npy"}


@pytest.fixture
def folder(tmp_path):
    write_matrix(tmp_path, "image_feat.npy", np.ones((3, 2), np.float32))
    write_text(tmp_path, "shop.inter", LINES)
    return tmp_path


def _settled(job):
    return with_labelled_split(job, find_files(job).interactions)


def test_labels_are_the_split_of_a_job_that_names_none(folder):
    job = _settled(raw_job(folder, layout="inter", modalities=NPY))
    assert job.data.split.method == "given"
    sources = open_sources(job.data, find_files(job))
    rows = numbered_rows(job, sources.interactions, sources.features, local_numbers)
    facts = dataset_facts(job, sources.interactions, sources.features, rows)
    assert facts["interactions"] == {"train": 2, "validation": 1, "test": 1}
    assert "interactions: 2 train, 1 validation, 1 test (split given)" in dataset_summary(facts)
    again = parse_job(job.model_dump(mode="json"))  # as job.yaml in the output has it
    assert again.data.split.method == "given"


def test_a_seed_alone_chooses_no_split(folder):
    assert _settled(raw_job(folder, layout="inter", modalities=NPY, split={"seed": 3})).data.split.seed == 3
    assert (
        _settled(raw_job(folder, layout="inter", modalities=NPY, split={"seed": 3})).data.split.method
        == "given"
    )


@pytest.mark.parametrize("split", [{"method": "ratio"}, {"validation": 0.2}, {"test": 0.3}])
def test_a_job_that_chooses_is_followed(folder, split):
    job = raw_job(folder, layout="inter", modalities=NPY, split=split)
    assert _settled(job).data.split.method == "ratio"


def test_without_a_label_and_in_other_layouts_nothing_changes(folder):
    write_text(folder, "shop.inter", [line.rsplit("\t", 1)[0] for line in LINES])
    assert _settled(raw_job(folder, layout="inter", modalities=NPY)).data.split.method == "ratio"
    write_text(folder, "log.csv", ["user_id,item_id,x_label", "0,0,0"])
    job = raw_job(folder, interactions="log.csv", modalities=NPY)
    assert _settled(job).data.split.method == "ratio"


def test_a_column_of_another_name(folder):
    write_text(folder, "shop.inter", [LINES[0].replace("x_label", "part:token"), *LINES[1:]])
    job = _settled(raw_job(folder, layout="inter", modalities=NPY, columns={"split": "part"}))
    source = open_sources(job.data, find_files(job)).interactions
    assert next(source.read(source.pieces[0]))[SPLIT].to_pylist() == [0, 1, 2, 0]
