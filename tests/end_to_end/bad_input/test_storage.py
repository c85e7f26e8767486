"""Places that are not there, cannot be used, or must not be."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.end_to_end.bad_input.matrix import Bench, Case, named, patient


def _to(key: str, value: str, command: str = "prepare") -> tuple[str, ...]:
    return (command, "JOB", "--set", f"{key}={value}")


def _raw_in_output(folder: Path) -> None:
    shutil.copytree(folder / "raw", folder / "out/dataset/raw")
    (folder / "link").symlink_to(folder / "out/dataset/raw")


def _raw_by_a_link(folder: Path) -> None:
    shutil.move(folder / "raw/image.npy", folder / "out/dataset/image.npy")
    (folder / "raw/image.npy").symlink_to(folder / "out/dataset/image.npy")


_RELATIVE = "paths must stay below data.path"
_EMPTIED = "output/dataset is emptied by its stage. Keep the file elsewhere."
CASES = [
    Case("no raw folder", "data.path: found none; the folder must exist", _to("data.path", "FOLDER/none")),
    Case(
        "a raw folder that is a file",
        "data.path: found job.yaml; the folder must exist",
        _to("data.path", "FOLDER/job.yaml"),
    ),
    Case(
        "no interactions",
        "raw/none.parquet: found no such file; data.interactions names a file, a folder or a glob",
        _to("data.interactions", "none.parquet"),
    ),
    Case(
        "interactions elsewhere",
        f"data.interactions: found ../job.yaml; {_RELATIVE}",
        _to("data.interactions", "../job.yaml"),
    ),
    Case(
        "features elsewhere",
        f"data.modalities.image.file: found a/../../job.yaml; {_RELATIVE}",
        _to("data.modalities.image.file", "a/../../job.yaml"),
    ),
    Case(
        "features at the root",
        f"data.modalities.image.file: found /etc/passwd; {_RELATIVE}",
        _to("data.modalities.image.file", "/etc/passwd"),
    ),
    Case(
        "features of another format",
        "data.modalities.text.file: found text.csv; files end in .parquet, .pq",
        _to("data.modalities.text.file", "text.csv"),
        lambda folder: (folder / "raw/text.csv").write_text("a\n"),
    ),
    Case(
        "a name with a line break",
        r"raw/a\nerror: b.npy: found no such file; data.modalities.image.file names",
        _to("data.modalities.image.file", r'"a\nerror: b.npy"'),
    ),
    Case(
        "a name with a terminal's command",
        r"raw/\x1b[2J.npy: found no such file; data.modalities.image.file names",
        _to("data.modalities.image.file", r'"\x1b[2J.npy"'),
    ),
    Case(
        "a name with NUL",
        r"data.modalities.image.file: found a\x00.npy; paths must stay below data.path",
        _to("data.modalities.image.file", r'"a\0.npy"'),
    ),
    Case(
        "another scheme",
        "ftp://host/raw: found ftp; a URL must start with s3://, gs://, abfs://, abfss://, hdfs://, hf://, https://",
        _to("data.path", "ftp://host/raw"),
    ),
    Case(
        "no bucket", "s3:///raw: found no bucket; an s3 URL must name a bucket", _to("data.path", "s3:///raw")
    ),
    Case(
        "a query",
        "s3://b/k: found a query; such a URL has the form s3://bucket/key",
        _to("data.path", "s3://b/k?region=x"),
    ),
    Case(
        "a key that climbs",
        "s3://b/../c: found b/../c; a key must not have empty, . or .. parts",
        _to("data.path", "s3://b/../c"),
    ),
    Case(
        "a host",
        "file://host/raw: found host/raw; file URLs must have no host",
        _to("data.path", "file://host/raw"),
    ),
    Case(
        "an unprintable path",
        r"'/\x00b': found an unprintable character; a URL is printable text",
        _to("data.path", r'"/\0b"'),
    ),
    Case(
        "a wrong endpoint",
        "job.yaml: 1 problem(s)\n  storage.endpoint: found '127.0.0.1:9000'; must be a URL without a path",
        _to("storage.endpoint", "127.0.0.1:9000"),
    ),
    Case(
        "an endpoint where nothing listens",
        "storage.endpoint: found http://127.0.0.1:1; a server must answer",
        (*_to("data.path", "s3://b/k"), "--set", "storage.endpoint=http://127.0.0.1:1"),
    ),
    Case(
        "an output below a file",
        "output: found job.yaml/out; it must be a folder that can be written",
        _to("output", "FOLDER/job.yaml/out"),
    ),
    Case(
        "an output of another scheme",
        "ftp://b/out: found ftp; a URL must start",
        _to("output", "ftp://b/out"),
    ),
    Case(
        "raw files where a stage empties",
        "job.yaml: 1 problem(s)\n  data.path: found out/dataset/raw; output/",
        _to("data.path", "FOLDER/out/dataset/raw"),
        _raw_in_output,
    ),
    Case(
        "the same by a link",
        f"data.path: found link/interactions.parquet; {_EMPTIED}",
        _to("data.path", "FOLDER/link"),
        _raw_in_output,
    ),
    Case(
        "the same by a detour",
        f"data.path: found raw/../out/dataset/raw/interactions.parquet; {_EMPTIED}",
        _to("data.path", "FOLDER/raw/../out/dataset/raw"),
        _raw_in_output,
    ),
    Case(
        "the same for one file",
        f"data.path: found raw/image.npy; {_EMPTIED}",
        ("prepare", "JOB"),
        _raw_by_a_link,
    ),
]


@patient
@named(CASES)
def test_a_bad_place(bench: Bench, case: Case) -> None:
    bench.check(case)
