"""The exponent of item lengths that the export takes from the published metrics."""

from __future__ import annotations

import pytest

from mmssl_dist.launch.fingerprints import evaluation_fingerprint
from mmssl_dist.launch.model_stages import _evaluated_exponent
from mmssl_dist.storage import FileRecord, Manifest, RunFolder, publish
from tests.jobs import make_job

TRAINING = Manifest("training", "bb", {}, {"run/x": FileRecord(3, "cc")})


@pytest.mark.parametrize(
    ("override", "expected"),
    [("export.k=9", 0.5), ("evaluation.length_exponent=1", None), ("evaluation.metric=ndcg@20", None)],
)
def test_it_is_that_of_the_metrics_of_this_checkpoint_by_these_settings(tmp_path, override, expected):
    output = f"output={tmp_path}"
    evaluated = make_job(output)
    facts = {"length_exponent": 0.5}
    fingerprint = evaluation_fingerprint(evaluated, TRAINING)
    publish(RunFolder.of(evaluated).evaluation.location, Manifest("evaluation", fingerprint, facts, {}))
    assert _evaluated_exponent(make_job(output, override), TRAINING) == expected
    other = Manifest("training", "bc", {}, TRAINING.files)
    assert _evaluated_exponent(evaluated, other) is None


def test_without_metrics_the_export_chooses(tmp_path):
    assert _evaluated_exponent(make_job(f"output={tmp_path}"), TRAINING) is None
