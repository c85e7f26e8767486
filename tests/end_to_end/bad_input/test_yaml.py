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
    Case("no file", "none.yaml: found no such file; a job is a YAML file", ("validate", "FOLDER/none.yaml")),
    Case("a folder", "raw: found no such file; a job is a YAML file", ("validate", "FOLDER/raw")),
    Case("empty", "job.yaml: found NoneType; a job is a YAML mapping", spoil=_bytes(b"")),
    Case("a list", "job.yaml: found list; a job is a YAML mapping", spoil=_bytes(b"- a\n")),
    Case(
        "bad syntax",
        "job.yaml, line 3: found expected the node content",
        spoil=_bytes(b"output: x\ndata: [\n"),
    ),
    Case("binary", "job.yaml: found 'utf-8' codec can't decode byte 0xff", spoil=_bytes(b"\xff\xfe\x00")),
    Case(
        "too large",
        "job.yaml: found 1048577 bytes; a job has at most 1048576",
        spoil=_bytes(b"#" * ((1 << 20) + 1)),
    ),
    Case("too deep", "job.yaml: found a tree that is too deep", spoil=_bytes(b"[" * 1500)),
    Case(
        "a recursive alias",
        "job.yaml: found a tree that is too deep or recursive",
        spoil=_bytes(b"output: x\ndata: &d {path: *d}\n"),
    ),
    Case("billion laughs", f"job.yaml: {_SIZE}", spoil=_bytes(f"a0: &a0 [1, 1]\n{_DOUBLED}".encode())),
    Case("billion merges", f"job.yaml: {_SIZE}", spoil=_bytes(f"a0: &a0 {{x: 1}}\n{_MERGED}".encode())),
    Case("a million values", f"job.yaml: {_SIZE}", spoil=_bytes(b"a: [" + b"1," * 400_000 + b"]")),
    Case(
        "a python object",
        "job.yaml, line 1: found could not determine a constructor for the tag",
        spoil=_bytes(b"output: !!python/object/apply:os.system ['false']\n"),
    ),
    Case(
        "a key twice",
        "job.yaml, line 2: found the key output a second time",
        spoil=_bytes(b"output: x\noutput: y\n"),
    ),
    Case(
        "an unknown key",
        _one("scaling.wrokers: unknown key; did you mean workers?"),
        _set("scaling.wrokers=2"),
    ),
    Case(
        "a value for a section",
        _one("data.modalities: found 3; this is a section"),
        _set("data.modalities=3"),
    ),
    Case(
        "text for a number",
        _one("training.epochs: found '1'; must be a whole number"),
        _set("training.epochs='1'"),
    ),
    Case(
        "a number without end",
        _one("training.epochs: found a number too long to show; must be less than"),
        _set("training.epochs=0x" + "f" * 5000),
    ),
    Case(
        "infinity",
        _one("training.rows.learning_rate: found inf; must be a finite number"),
        _set("training.rows.learning_rate=.inf"),
    ),
    Case(
        "half of a surrogate pair",
        _one(r"data.columns.user: found '\ud800'; must be a text"),
        _set(r'data.columns.user="\ud800"'),
    ),
    Case(
        "a rule between settings",
        _one("scaling.workers: found 3; must be at most partition.parts (2)"),
        _set("scaling.workers=3"),
    ),
    Case(
        "one column for both",
        _one("data.columns.item: found 'user_id'; data.columns.user is the same column"),
        _set("data.columns.item=user_id"),
    ),
    Case("no override", "--set: found seed; an override has the form a.b=c", _set("seed")),
    Case("an expression", _one("seed: found '${HOME}'; must be a whole number"), _set("seed=${HOME}")),
    Case(
        "a modality's name that is a path",
        _one("data.modalities.../x: found '../x'; must start with a letter or digit"),
        spoil=_job("text:", "../x:"),
    ),
]


@patient
@named(CASES)
def test_a_bad_job(bench: Bench, case: Case) -> None:
    bench.check(case)
