"""Jobs that are no jobs."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.bad_input.matrix import Bench, Case, named, patient
from tests.end_to_end.bad_input.matrix_files import content


def _job(change: str, to: str) -> object:
    """Writes the job with a text in it replaced."""

    def write(folder: Path) -> None:
        text = (folder / "job.yaml").read_text()
        assert change in text
        (folder / "job.yaml").write_text(text.replace(change, to))

    return write


def _bytes(data: bytes) -> object:
    return content("job.yaml", data)


def _set(override: str) -> tuple[str, ...]:
    return ("validate", "JOB", "--set", override)


def _one(line: str) -> str:
    """The message of a job with one problem."""
    return f"job.yaml: 1 problem(s)\n  {line}"


_DOUBLED = "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))
_MERGED = "\n".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40))
_SIZE = "found more than 5000 values; a job has fewer, with every alias expanded"
CASES = [
    Case(
        name="no file",
        message="none.yaml: found no such file; a job is a YAML file",
        command=("validate", "FOLDER/none.yaml"),
    ),
    Case(
        name="a folder",
        message="raw: found no such file; a job is a YAML file",
        command=("validate", "FOLDER/raw"),
    ),
    Case(name="empty", message="job.yaml: found an empty file; a job is a YAML mapping", spoil=_bytes(b"")),
    Case(name="a list", message="job.yaml: found list; a job is a YAML mapping", spoil=_bytes(b"- a\n")),
    Case(
        name="bad syntax",
        message="job.yaml, line 3: found expected the node content",
        spoil=_bytes(b"output: x\ndata: [\n"),
    ),
    Case(
        name="binary",
        message="job.yaml: found 'utf-8' codec can't decode byte 0xff",
        spoil=_bytes(b"\xff\xfe\x00"),
    ),
    Case(
        name="too large",
        message="job.yaml: found 1048577 bytes; a job has at most 1048576",
        spoil=_bytes(b"#" * ((1 << 20) + 1)),
    ),
    Case(name="too deep", message="job.yaml: found a tree that is too deep", spoil=_bytes(b"[" * 1500)),
    Case(
        name="a recursive alias",
        message="job.yaml: found a tree that is too deep or recursive",
        spoil=_bytes(b"output: x\ndata: &d {path: *d}\n"),
    ),
    Case(
        name="billion laughs",
        message=f"job.yaml: {_SIZE}",
        spoil=_bytes(f"a0: &a0 [1, 1]\n{_DOUBLED}".encode()),
    ),
    Case(
        name="billion merges",
        message=f"job.yaml: {_SIZE}",
        spoil=_bytes(f"a0: &a0 {{x: 1}}\n{_MERGED}".encode()),
    ),
    Case(
        name="a million values", message=f"job.yaml: {_SIZE}", spoil=_bytes(b"a: [" + b"1," * 400_000 + b"]")
    ),
    Case(
        name="a python object",
        message="job.yaml, line 1: found could not determine a constructor for the tag",
        spoil=_bytes(b"output: !!python/object/apply:os.system ['false']\n"),
    ),
    Case(
        name="a key twice",
        message="job.yaml, line 2: found the key output a second time",
        spoil=_bytes(b"output: x\noutput: y\n"),
    ),
    Case(
        name="an unknown key",
        message=_one("scaling.wrokers: unknown key; did you mean workers?"),
        command=_set("scaling.wrokers=2"),
    ),
    Case(
        name="a value for a section",
        message=_one("data.modalities: found 3; this is a section"),
        command=_set("data.modalities=3"),
    ),
    Case(
        name="text for a number",
        message=_one("training.epochs: found '1'; must be a whole number"),
        command=_set("training.epochs='1'"),
    ),
    Case(
        name="a number without end",
        message=_one("training.epochs: found a number too long to show; must be less than"),
        command=_set("training.epochs=0x" + "f" * 5000),
    ),
    Case(
        name="infinity",
        message=_one("training.rows.learning_rate: found inf; must be a finite number"),
        command=_set("training.rows.learning_rate=.inf"),
    ),
    Case(
        name="half of a surrogate pair",
        message=_one(r"data.columns.user: found '\ud800'; must be a text"),
        command=_set(r'data.columns.user="\ud800"'),
    ),
    Case(
        name="a rule between settings",
        message=_one("scaling.workers: found 3; must be at most partition.parts (2)"),
        command=_set("scaling.workers=3"),
    ),
    Case(
        name="one column for both",
        message=_one("data.columns.item: found 'user_id'; data.columns.user is the same column"),
        command=_set("data.columns.item=user_id"),
    ),
    Case(
        name="no override", message="--set: found seed; an override has the form a.b=c", command=_set("seed")
    ),
    Case(
        name="an expression",
        message=_one("seed: found '${HOME}'; must be a whole number"),
        command=_set("seed=${HOME}"),
    ),
    Case(
        name="a modality's name that is a path",
        message=_one("data.modalities.../x: found '../x'; must start with a letter or digit"),
        spoil=_job("text:", "../x:"),
    ),
]


@patient
@named(CASES)
def test_a_bad_job(bench: Bench, case: Case) -> None:
    bench.check(case)
