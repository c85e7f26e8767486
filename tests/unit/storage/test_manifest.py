"""An artifact is there exactly when its manifest is, and is what the manifest says."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, InputError
from mmssl_dist.storage import (
    FileRecord,
    Location,
    Manifest,
    begin,
    fingerprint,
    in_shares,
    open_location,
    publish,
    read_manifest,
    require_intact,
    require_manifest,
    require_whole,
)
from mmssl_dist.storage.manifest import SCHEMA
from tests.artifacts import signed


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.processes)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "local":
        return open_location(str(tmp_path / "dataset"), Storage())
    return open_location("s3://runs/dataset", request.getfixturevalue("s3"))


def made(folder: Location) -> Manifest:
    files = {name: (folder / name).write_bytes(name.encode()) for name in ("users/part-0", "items/part-0")}
    return Manifest(
        "dataset", fingerprint("inputs"), {"users": 3, "modalities": {"image": {"dimension": 4}}}, files
    )


@pytest.mark.processes
def test_what_is_published_reads_back(folder: Location) -> None:
    begin(folder)
    manifest = made(folder)
    publish(folder, manifest)
    assert read_manifest(folder, "dataset") == manifest
    assert require_manifest(folder, "dataset", "prepare") == manifest


def test_what_is_half_written_is_not_there(folder: Location) -> None:
    assert read_manifest(folder, "dataset") is None
    begin(folder)
    made(folder)
    assert read_manifest(folder, "dataset") is None
    with pytest.raises(
        InputError, match=r"dataset must be published first. Run `mmssl-dist prepare`"
    ) as caught:
        require_manifest(folder, "dataset", "prepare")
    assert caught.value.exit_status == 2


def test_beginning_again_takes_the_old_artifact_away(folder: Location) -> None:
    publish(folder, made(folder))
    begin(folder)
    assert read_manifest(folder, "dataset") is None
    assert folder.files() == []


def test_the_manifest_goes_before_the_data(folder: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, made(folder))
    remove = Location.remove

    def killed(self: Location) -> None:
        if self.path == folder.path:
            raise KeyboardInterrupt
        remove(self)

    monkeypatch.setattr(Location, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(folder)
    assert len(folder.files()) == 2  # all data, and yet
    assert read_manifest(folder, "dataset") is None


def test_a_tampered_file_is_found(folder: Location, tmp_path: Path) -> None:
    publish(folder, made(folder))
    (folder / "users/part-0").write_bytes(b"users/part-1")
    manifest = require_manifest(folder, "dataset", "prepare")
    assert (folder / "items/part-0").localize(tmp_path / "c", manifest.files["items/part-0"]).is_file()
    with pytest.raises(ArtifactError, match="users/part-0: content differs"):
        (folder / "users/part-0").localize(tmp_path / "c", manifest.files["users/part-0"])


HASH = "0" * 64


def content_with(**changes: object) -> dict[str, object]:
    return {"schema": SCHEMA, "kind": "dataset", "fingerprint": "", "facts": {}, "files": {}, **changes}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        *[
            signed(content_with(**wrong))
            for wrong in (
                {"kind": "partitions"},
                {"schema": 99},
                {"files": []},
                {"files": {"a": {"bytes": 1}}},
                {"more": 1},
            )
        ],
        signed({name: value for name, value in content_with().items() if name != "files"}),
        json.dumps(content_with()),
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_manifest_of_another_kind_or_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArtifactError, match=r"manifest.json: not a readable manifest") as caught:
        read_manifest(open_location(str(tmp_path), Storage()), "dataset")
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"files": {"../secret": {"bytes": 1, "sha256": HASH}}},
            "'../secret' is not below the artifact's folder",
        ),
        ({"files": {"a/../../x": {"bytes": 1, "sha256": HASH}}}, "is not below the artifact's folder"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": HASH}}}, "is not below the artifact's folder"),
        ({"files": {"": {"bytes": 1, "sha256": HASH}}}, "is not below the artifact's folder"),
        ({"files": {"a\0b": {"bytes": 1, "sha256": HASH}}}, "is not below the artifact's folder"),
        ({"files": {"a": {"bytes": -1, "sha256": HASH}}}, "the record of 'a' has no size and SHA-256"),
        ({"files": {"a": {"bytes": True, "sha256": HASH}}}, "the record of 'a' has no size and SHA-256"),
        ({"files": {"a": {"bytes": "1", "sha256": HASH}}}, "the record of 'a' has no size and SHA-256"),
        ({"files": {"a": {"bytes": 1, "sha256": "x"}}}, "the record of 'a' has no size and SHA-256"),
        ({"files": {"a": {"bytes": 1, "sha256": None}}}, "the record of 'a' has no size and SHA-256"),
        ({"facts": []}, "facts are a mapping"),
        ({"fingerprint": 3}, "the fingerprint is text"),
        ({"digest": HASH}, "its content is not what was written"),
        ({"digest": 3}, "its content is not what was written"),
    ],
)
def test_a_manifest_with_a_value_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict, message: str
) -> None:
    (tmp_path / "manifest.json").write_text(
        json.dumps({**json.loads(signed(content_with(**changes))), **changes})
    )
    with pytest.raises(ArtifactError, match=f"not a readable manifest .*{message}"):
        read_manifest(open_location(str(tmp_path), Storage()), "dataset")


@given(st.data())
def test_no_flipped_byte_of_a_manifest_goes_unseen(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = open_location(name, Storage())
        manifest = made(folder)
        publish(folder, manifest)
        path = Path(name) / "manifest.json"
        text = bytearray(path.read_bytes())
        offset = data.draw(st.integers(0, len(text) - 1))
        text[offset] ^= data.draw(st.integers(1, 255))
        path.write_bytes(text)
        try:
            result = read_manifest(folder, "dataset")
        except ArtifactError:
            return
        assert result == manifest  # one kind of space for another


def test_a_manifest_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as stream:
        stream.truncate((1 << 28) + 1)  # no such space is taken on the disk
    with pytest.raises(ArtifactError, match=r"268435457 bytes, where a manifest has at most 268435456"):
        read_manifest(open_location(str(tmp_path), Storage()), "dataset")


def test_shares_have_every_file_once_and_about_the_same_bytes(folder: Location) -> None:
    files = {f"part-{n}": FileRecord(n * n, "0" * 64) for n in range(40)}
    manifest = Manifest("dataset", "x", {}, files)
    shares = in_shares(manifest, 3)
    assert sorted(name for share in shares for name in share.files) == sorted(files)
    sizes = [sum(record.bytes for record in share.files.values()) for share in shares]
    assert max(sizes) < 1.02 * min(sizes)
    assert len(in_shares(manifest, 60)) == 40
    assert in_shares(replace(manifest, files={}), 3) == []


def test_an_intact_artifact_passes_and_each_damage_is_named(folder: Location) -> None:
    manifest = made(folder)
    require_whole(folder, manifest)
    require_intact(folder, manifest)
    (folder / "items/part-0").write_bytes(b"items/part-1")
    require_whole(folder, manifest)
    with pytest.raises(ArtifactError, match="items/part-0: content differs from its manifest"):
        require_intact(folder, manifest)
    (folder / "items/part-0").write_bytes(b"items/part")
    with pytest.raises(
        ArtifactError, match="items/part-0: 10 bytes, where its manifest says 12; the file was trunc"
    ):
        require_whole(folder, manifest)
    (folder / "items/part-0").remove()
    with pytest.raises(ArtifactError, match="items/part-0: gone, though its manifest names it"):
        require_whole(folder, manifest)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=3), child, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_fingerprints_are_equal_exactly_for_equal_inputs(left: object, right: object) -> None:
    assert fingerprint(left) == fingerprint(json.loads(json.dumps(left)))
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (fingerprint(left) == fingerprint(right)) == same


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
