"""Which folders and names are encoders, and that pickles never are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.embedding import weights
from mmssl_dist.embedding.weights import (
    EncoderSource,
    check_encoder,
    encoder_folder,
    require_own_modules,
    stamp,
)
from mmssl_dist.errors import InputError

KEY = "data.modalities.text.encoder"


def _source(folder: Path | str) -> EncoderSource:
    return EncoderSource(KEY, str(folder), None)


def _refusal(folder: Path | str) -> InputError:
    with pytest.raises(InputError) as caught:
        check_encoder(_source(folder), Storage())
    assert caught.value.where == KEY
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An encoder's folder, as far as it is looked at without loading it."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_a_folder_with_safetensors_is_an_encoder(folder):
    check_encoder(_source(folder), Storage())
    opened = encoder_folder(_source(folder), Storage())
    assert (opened.path, opened.revision, len(opened.weights)) == (folder, None, 64)


def test_pickles_beside_safetensors_are_not_read(folder):
    before = encoder_folder(_source(folder), Storage()).weights
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    assert encoder_folder(_source(folder), Storage()).weights == before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl"])
def test_weights_that_are_pickles_are_refused(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    error = _refusal(folder)
    assert name in str(error)
    assert "pickles are refused" in str(error)


def test_a_pickled_part_is_refused(folder):
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    assert "2_Dense/pytorch_model.bin" in str(_refusal(folder))


def test_a_folder_without_weights_or_configuration_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "without *.safetensors" in str(_refusal(folder))
    (folder / "config.json").unlink()
    assert "without config.json" in str(_refusal(folder))


def test_a_missing_folder_and_an_impossible_name_are_refused(tmp_path):
    assert "without config.json" in str(_refusal(tmp_path / "nowhere"))
    assert "owner/model" in str(_refusal("a name/with blanks"))


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else object()
    )
    error = _refusal(folder)
    assert error.value == "no package transformers"
    assert ".[encoders]" in error.remedy


def test_a_name_of_the_hub_that_cannot_be_had_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="owner/no-such-model") as caught:
        encoder_folder(_source("owner/no-such-model"), Storage())
    assert caught.value.exit_status == 2
    assert weights.is_path(str(tmp_path))
    assert not weights.is_path("owner/no-such-model")


def test_modules_of_other_packages_are_refused(folder):
    own = [{"type": "sentence_transformers.models.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(own))
    require_own_modules(_source(folder), folder)
    (folder / "modules.json").write_text(json.dumps([*own, {"type": "os.system"}]))
    with pytest.raises(InputError, match=r"os\.system"):
        require_own_modules(_source(folder), folder)
    (folder / "modules.json").write_text("no JSON")
    with pytest.raises(InputError, match=r"modules\.json"):
        require_own_modules(_source(folder), folder)


def test_a_changed_file_changes_the_stamp_and_the_hash(folder):
    before = stamp(_source(folder), Storage()), encoder_folder(_source(folder), Storage()).weights
    assert before == (stamp(_source(folder), Storage()), encoder_folder(_source(folder), Storage()).weights)
    (folder / "model.safetensors").write_bytes(b"others")
    after = stamp(_source(folder), Storage()), encoder_folder(_source(folder), Storage()).weights
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert stamp(_source("owner/model"), Storage()) == ["owner/model", None]
