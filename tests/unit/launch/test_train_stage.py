"""What of a run's folder is published."""

from __future__ import annotations

import hashlib

import pytest

from mmssl_dist.config.tree import Storage
from mmssl_dist.errors import ArtifactError
from mmssl_dist.launch.train import Checkpoint, Outcome, at_path
from mmssl_dist.launch.train_stage import _best, _remove_other_runs, checkpoint_of, file_records
from mmssl_dist.storage import FileRecord, Manifest, open_location
from tests.unit.launch.jobs import make_job


def _outcome(*scored: tuple[float, float]) -> Outcome:
    checkpoints = [Checkpoint(f"c{epoch:g}", {"epoch": epoch, "recall@20": score}) for epoch, score in scored]
    return Outcome((), tuple(checkpoints))


def test_best_checkpoint_and_the_earliest_of_equals(tmp_path):
    location = open_location(str(tmp_path), Storage())
    assert _best(_outcome((1, 0.2), (2, 0.5), (3, 0.4)), "recall@20", location).path == "c2"
    assert _best(_outcome((4, 0.5), (2, 0.5), (3, 0.4)), "recall@20", location).path == "c2"
    with pytest.raises(ArtifactError, match="without a checkpoint"):
        _best(_outcome(), "recall@20", location)


def test_records_of_a_checkpoint_by_path_below_the_artifact(tmp_path):
    folder = tmp_path / "run-1" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "rows").write_bytes(b"abc")
    (tmp_path / "run-1" / "other").write_bytes(b"not of the checkpoint")
    location = open_location(str(tmp_path), Storage())
    assert at_path(location, str(folder)).url == f"{tmp_path}/run-1/checkpoint"
    expected = {"run-1/checkpoint/rows": FileRecord(3, hashlib.sha256(b"abc").hexdigest())}
    assert file_records(location, at_path(location, str(folder))) == expected


def test_published_checkpoint_with_files_by_their_names_in_it():
    record = FileRecord(1, "aa")
    manifest = Manifest("training", "f", {"checkpoint": "run-1/c"}, {"run-1/c/generator.safetensors": record})
    location, view = checkpoint_of(make_job("output=/out"), manifest)
    assert location.path == "/out/training/run-1/c"
    assert view.files == {"generator.safetensors": record}


def test_runs_of_other_settings_are_removed(tmp_path):
    for name in ("run-1/c/x", "run-2/c/x", "manifest.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    _remove_other_runs(open_location(str(tmp_path), Storage()), "run-2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "run-2"]
