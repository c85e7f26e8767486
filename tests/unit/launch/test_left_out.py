"""Terms that need modalities, and earlier runs with others, where partition has left some out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mmssl_dist.errors import InputError
from mmssl_dist.launch.left_out import check_modalities
from mmssl_dist.storage import Manifest
from tests.jobs import training_job

OFF = ("model.modality_graph.size=0", "losses.contrastive.weight=0", "losses.adversarial.kind=perturbation")


def partitions(kept: list[str], left_out: list[str]) -> Manifest:
    modalities = dict.fromkeys(kept or left_out, 5)
    return Manifest("partitions", "made by a test", {"modalities": modalities, "left_out": left_out}, {})


@pytest.mark.parametrize(
    ("sets", "kept", "setting"),
    [
        (("model.modality_graph.size=4",), [], "model.modality_graph.size"),
        (("model.feature_columns=6", "losses.adversarial.kind=none"), [], "model.feature_columns"),
        (("losses.adversarial.kind=critic",), [], "losses.adversarial.kind"),
        (("losses.adversarial.rows=modality",), [], "losses.adversarial.rows"),
        (
            ("losses.contrastive.weight=0.1", "losses.contrastive.rows=item_graph"),
            [],
            "losses.contrastive.rows",
        ),
        (
            ("losses.contrastive.weight=0.1", "losses.contrastive.rows=modalities"),
            ["image"],
            "losses.contrastive.rows",
        ),
    ],
)
def test_a_term_without_its_modalities_is_refused(sets, kept, setting):
    job = training_job("out", 2, 1, *OFF, *sets)
    check_modalities(job, partitions(["image", "text"], []))
    with pytest.raises(InputError) as caught:
        check_modalities(job, partitions(kept, [m for m in ("image", "text") if m not in kept]))
    assert caught.value.where == setting
    assert caught.value.value == f"{kept[0] if kept else 'no modality'} kept and " + (
        "text left out" if kept else "image, text left out"
    )
    assert "partition.least_lift: 0" in str(caught.value)


def test_the_default_terms_need_none():
    check_modalities(training_job("out", 2, 1, *OFF), partitions([], ["image", "text"]))


def test_an_earlier_run_has_to_have_the_same_modalities(monkeypatch):
    job = training_job("out", 2, 1, *OFF, "training.start_from=before")
    earlier = SimpleNamespace(partitions=partitions(["image", "text"], []))
    monkeypatch.setattr("mmssl_dist.launch.left_out.find_earlier_run", lambda job: earlier)
    check_modalities(job, partitions(["text", "image"], []))
    with pytest.raises(
        InputError, match=r"training\.start_from: found a run with image, text, where this one has image; "
    ):
        check_modalities(job, partitions(["image"], ["text"]))
