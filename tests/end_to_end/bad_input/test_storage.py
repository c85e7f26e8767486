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
    Case(
        name="no raw folder",
        message="data.path: found none; the folder must exist",
        command=_to("data.path", "FOLDER/none"),
    ),
    Case(
        name="a raw folder that is a file",
        message="data.path: found job.yaml; the folder must exist",
        command=_to("data.path", "FOLDER/job.yaml"),
    ),
    Case(
        name="no interactions",
        message="raw/none.parquet: found no such file; data.interactions names a file, a folder or a glob",
        command=_to("data.interactions", "none.parquet"),
    ),
    Case(
        name="interactions elsewhere",
        message=f"data.interactions: found ../job.yaml; {_RELATIVE}",
        command=_to("data.interactions", "../job.yaml"),
    ),
    Case(
        name="features elsewhere",
        message=f"data.modalities.image.file: found a/../../job.yaml; {_RELATIVE}",
        command=_to("data.modalities.image.file", "a/../../job.yaml"),
    ),
    Case(
        name="features at the root",
        message=f"data.modalities.image.file: found /etc/passwd; {_RELATIVE}",
        command=_to("data.modalities.image.file", "/etc/passwd"),
    ),
    Case(
        name="features of another format",
        message="data.modalities.text.file: found text.docx; files end in .parquet, .pq",
        command=_to("data.modalities.text.file", "text.docx"),
        spoil=lambda folder: (folder / "raw/text.docx").write_text("a\n"),
    ),
    Case(
        name="a name with a line break",
        message=r"raw/a\nerror: b.npy: found no such file; data.modalities.image.file names",
        command=_to("data.modalities.image.file", r'"a\nerror: b.npy"'),
    ),
    Case(
        name="a name with a terminal's command",
        message=r"raw/\x1b[2J.npy: found no such file; data.modalities.image.file names",
        command=_to("data.modalities.image.file", r'"\x1b[2J.npy"'),
    ),
    Case(
        name="a name with NUL",
        message=r"data.modalities.image.file: found a\x00.npy; paths must stay below data.path",
        command=_to("data.modalities.image.file", r'"a\0.npy"'),
    ),
    Case(
        name="another scheme",
        message="ftp://host/raw: found ftp; a URL must start with s3://, gs://, abfs://, abfss://, "
        "hdfs://, hf://, https://",
        command=_to("data.path", "ftp://host/raw"),
    ),
    Case(
        name="no bucket",
        message="s3:///raw: found no bucket; an s3 URL must name a bucket",
        command=_to("data.path", "s3:///raw"),
    ),
    Case(
        name="a query",
        message="s3://b/k: found a query; such a URL has the form s3://bucket/key",
        command=_to("data.path", "s3://b/k?region=x"),
    ),
    Case(
        name="a key that climbs",
        message="s3://b/../c: found b/../c; a key must not have empty, . or .. parts",
        command=_to("data.path", "s3://b/../c"),
    ),
    Case(
        name="a host",
        message="file://host/raw: found host/raw; file URLs must have no host",
        command=_to("data.path", "file://host/raw"),
    ),
    Case(
        name="an unprintable path",
        message=r"'/\x00b': found an unprintable character; a URL is printable text",
        command=_to("data.path", r'"/\0b"'),
    ),
    Case(
        name="a wrong endpoint",
        message="job.yaml: 1 problem(s)\n  storage.endpoint: found '127.0.0.1:9000'; must be a URL "
        "without a path",
        command=_to("storage.endpoint", "127.0.0.1:9000"),
    ),
    Case(
        name="an endpoint where nothing listens",
        message="storage.endpoint: found http://127.0.0.1:1; a server must answer",
        command=(*_to("data.path", "s3://b/k"), "--set", "storage.endpoint=http://127.0.0.1:1"),
    ),
    Case(
        name="an output below a file",
        message="output: found job.yaml/out; it must be a folder that can be written",
        command=_to("output", "FOLDER/job.yaml/out"),
    ),
    Case(
        name="an output of another scheme",
        message="ftp://b/out: found ftp; a URL must start",
        command=_to("output", "ftp://b/out"),
    ),
    Case(
        name="raw files where a stage empties",
        message="job.yaml: 1 problem(s)\n  data.path: found out/dataset/raw; output/",
        command=_to("data.path", "FOLDER/out/dataset/raw"),
        spoil=_raw_in_output,
    ),
    Case(
        name="the same by a link",
        message=f"data.path: found link/interactions.parquet; {_EMPTIED}",
        command=_to("data.path", "FOLDER/link"),
        spoil=_raw_in_output,
    ),
    Case(
        name="the same by a detour",
        message=f"data.path: found raw/../out/dataset/raw/interactions.parquet; {_EMPTIED}",
        command=_to("data.path", "FOLDER/raw/../out/dataset/raw"),
        spoil=_raw_in_output,
    ),
    Case(
        name="the same for one file",
        message=f"data.path: found raw/image.npy; {_EMPTIED}",
        command=("prepare", "JOB"),
        spoil=_raw_by_a_link,
    ),
]


@patient
@named(CASES)
def test_a_bad_place(bench: Bench, case: Case) -> None:
    bench.check(case)
