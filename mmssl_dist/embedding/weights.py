"""The folder of an encoder on this machine: local, downloaded from object storage, or from the Hugging Face
hub. Only safetensors are loaded: a pickle can run any program."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmssl_dist.config.named_paths import is_path
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError, message_text
from mmssl_dist.storage import Location, downloads_folder, fingerprint, open_location

ENCODER_PACKAGES = ("transformers", "sentence_transformers", "PIL")
_READ = (".json", ".txt", ".model", ".safetensors", ".jinja")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_WEIGHTS = ".safetensors"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LEFT_OUT = ("onnx/*", "openvino/*")  # other formats of the same weights
_OWN_MODULES = "sentence_transformers."
_SAFE = "weights are safetensors; pickles are refused, since they can run any program"
_CONVERT = "Save the model with save_pretrained of its transformers class, or choose another."


@dataclass(frozen=True)
class EncoderSource:
    """Which encoder is meant.

    Attributes:
        key: YAML path of the setting.
        name: the setting's value.
        revision: of the hub: what was asked for; None is the main branch.
    """

    key: str
    name: str
    revision: str | None

    @property
    def is_path(self) -> bool:
        """Whether it is a folder, here or in object storage, and not a name of the hub."""
        return is_path(self.name)


@dataclass(frozen=True)
class EncoderFolder:
    """An encoder's files on this machine.

    Attributes:
        path: the folder.
        revision: commit of the hub; None for a folder.
        weights: SHA-256 of all files that are read.
    """

    path: Path
    revision: str | None
    weights: str


def require_packages(key: str) -> None:
    """Raise an InputError unless the packages of the extra ``encoders`` are installed."""
    missing = [name for name in ENCODER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            key,
            f"no package {', '.join(missing)}",
            "embedding raw content needs the extra `encoders`",
            "Run `pip install -c constraints.txt '.[encoders]'` on every machine.",
        )


def check_encoder(source: EncoderSource, storage: Storage) -> None:
    """Look at an encoder as far as that needs no download: packages, and of a folder its files.

    Raises:
        InputError: a package or the folder is missing, or its weights are not safetensors.
    """
    require_packages(source.key)
    if source.is_path:
        _require_files(source, _names(open_location(source.name, storage)))
    elif not _HUB_NAME.fullmatch(source.name):
        raise _missing(source, "a name of the hub is owner/model")


def stamp(source: EncoderSource, storage: Storage) -> list[object]:
    """What changes when the encoder does, as JSON values; downloads nothing."""
    if not source.is_path:
        return [source.name, source.revision]
    location = open_location(source.name, storage)
    return [(location.relative(f), f.size, f.mtime_ns) for f in location.files() if _is_read(f.path)]


def encoder_folder(source: EncoderSource, storage: Storage) -> EncoderFolder:
    """The encoder's files on this machine, downloaded if they are not here yet.

    Raises:
        InputError: there is no such encoder, or its weights are not safetensors.
    """
    check_encoder(source, storage)
    if not source.is_path:
        path = _of_hub(source)
        return EncoderFolder(path, path.name, _digest(path))
    location = open_location(source.name, storage)
    path = Path(location.path) if location.is_local else _downloaded(location)
    return EncoderFolder(path, None, _digest(path))


def _of_hub(source: EncoderSource) -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in _READ]
    try:
        folder = snapshot_download(
            source.name,
            revision=source.revision,
            allow_patterns=patterns,
            ignore_patterns=list(_LEFT_OUT),
        )
    except Exception as error:
        raise _missing(source, message_text(str(error).strip().split("\n")[0])) from error
    path = Path(folder)
    _require_files(source, [file.relative_to(path).as_posix() for file in path.rglob("*")])
    return path


def _missing(source: EncoderSource, reason: str) -> InputError:
    revision = f" at {source.revision}" if source.revision else ""
    return InputError(
        source.key,
        f"{source.name}{revision}",
        "it must be a model of the Hugging Face hub, or a folder, local or in object storage "
        f"({reason.rstrip('.')})",
        "Check the name and the network, or download the model and name its folder.",
    )


def _names(location: Location) -> list[str]:
    return [location.relative(info) for info in location.files()]


def _require_files(source: EncoderSource, names: Iterable[str]) -> None:
    """Raise an InputError unless the files are a model with safetensors, and no folder has pickles alone."""
    names = list(names)
    if "config.json" not in names and "modules.json" not in names:
        raise InputError(
            source.key,
            f"{source.name} without config.json",
            "an encoder is a folder saved by transformers or sentence-transformers",
            "Name the folder that has config.json.",
        )
    safe = {str(PurePosixPath(name).parent) for name in names if name.endswith(_WEIGHTS)}
    # A pickle beside safetensors is another copy of the weights, and is not read.
    for name in sorted(names):
        if name.endswith(_PICKLES) and str(PurePosixPath(name).parent) not in safe:
            raise InputError(source.key, f"{source.name}/{name}", _SAFE, _CONVERT)
    if not safe:
        raise InputError(source.key, f"{source.name} without *{_WEIGHTS}", _SAFE, _CONVERT)


def require_own_modules(source: EncoderSource, folder: Path) -> None:
    """Raise an InputError where a folder of sentence-transformers names classes of other packages."""
    file = folder / "modules.json"
    if not file.exists():
        return
    try:
        types = [str(module["type"]) for module in json.loads(file.read_text())]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            source.key,
            f"{source.name}/modules.json",
            "it must be a file that sentence-transformers wrote",
            _CONVERT,
        ) from error
    for name in types:
        if not name.startswith(_OWN_MODULES):
            raise InputError(
                source.key,
                f"{source.name}/modules.json with {name}",
                "modules are those of sentence-transformers; other code is not run",
                "Choose another encoder.",
            )


def _is_read(name: str) -> bool:
    return name.endswith(_READ)


def _digest(folder: Path) -> str:
    """SHA-256 of names and content of the files that are read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _is_read(path.name))
    records = []
    for path in files:
        with path.open("rb") as stream:
            records.append(
                (path.relative_to(folder).as_posix(), hashlib.file_digest(stream, "sha256").hexdigest())
            )
    return fingerprint(*records)


def _downloaded(location: Location) -> Path:
    """A copy of a folder in object storage, one for each state of it."""
    infos = [info for info in location.files() if _is_read(info.path)]
    state = fingerprint(location.url, [(location.relative(i), i.size, i.mtime_ns) for i in infos])
    target = downloads_folder() / "encoders" / state[:16]
    # Looked at file by file: the cache of downloads may have made room by deleting some.
    if all((target / location.relative(i)).is_file() for i in infos):
        return target
    shutil.rmtree(target, ignore_errors=True)
    cache = downloads_folder()
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    for info in infos:
        name = location.relative(info)
        local = (location / name).localize(cache)
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local, partial / name)
    try:
        partial.rename(target)
    except OSError:  # another process was faster
        shutil.rmtree(partial)
    return target
