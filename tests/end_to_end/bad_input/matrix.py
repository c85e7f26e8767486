"""What every case of the matrix is, and what every one of them has to show."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.storage.run_lock import LOCK

patient = pytest.mark.timeout(900)  # the first case waits for the job that all of them spoil
Spoil = Callable[[Path], object]

_CHECKPOINT = r"out/training/run-[^/]*/checkpoint_[^/]*/"
_PROGRESS = re.compile(r"(prepare|partition|train|evaluate|export): ")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that is wrong.

    Attributes:
        name: what.
        message: how the error begins, with the folder's path left out; CHECKPOINT stands for that of the
            training.
        command: the command line; ``JOB`` and ``RAY`` stand for the job's file and the cluster's address.
        spoil: makes it wrong, given the folder with raw/, job.yaml and all that a run of it published in
            out/.
        status: exit status.
    """

    name: str
    message: str
    command: Sequence[str] = ("validate", "JOB")
    spoil: Spoil = lambda folder: None
    status: int = 2
    of_input: bool = True
    """Whether `validate` must refuse it too, as all that a raw file or the YAML has wrong."""


@dataclass(frozen=True)
class Bench:
    """A folder whose published output is good, restored for each case, and a cluster."""

    folder: Path
    pristine: Path
    ray: str

    def restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.pristine, self.folder)  # with times: fingerprints have them

    def check(self, case: Case) -> None:
        """Exit status, one message with place and rule, and every file of the output as it was; what prepare
        refuses validate has to refuse with the same message."""
        self.restore()
        case.spoil(self.folder)
        before = contents(self.folder / "out")
        if case.command[0] == "prepare" and case.of_input:
            self._check_validate(case)
            assert contents(self.folder / "out") == before
        words = {"JOB": f"{self.folder}/job.yaml", "RAY": self.ray}
        done = CliRunner().invoke(
            app, [words.get(word, word.replace("FOLDER", str(self.folder))) for word in case.command]
        )
        message = done.stderr.replace(f"{self.folder}/", "")
        assert done.exit_code == case.status, message
        lines = [line for line in message.splitlines() if not _PROGRESS.match(line)]
        assert re.sub(_CHECKPOINT, "CHECKPOINT/", "\n".join(lines)).startswith(f"error: {case.message}"), (
            message
        )
        assert all(line.startswith("  ") for line in lines[1:]), (
            message
        )  # a job's problems are one message, a line each
        assert "Traceback" not in done.output
        assert contents(self.folder / "out", "--set" in case.command) == without_job(
            before, "--set" in case.command
        )

    def _check_validate(self, case: Case) -> None:
        options = [word for word in case.command[2:] if word not in ("--address", "RAY", "--force")]
        options = [word.replace("FOLDER", str(self.folder)) for word in options]
        done = CliRunner().invoke(app, ["validate", f"{self.folder}/job.yaml", *options])
        message = done.stderr.replace(f"{self.folder}/", "")
        assert done.exit_code == case.status, message
        lines = [line.strip() for line in message.removeprefix("error: ").splitlines()]
        rule = case.message.splitlines()[-1].strip()  # of a job with problems, the problem
        assert any(line.startswith(rule) for line in lines), message


def contents(folder: Path, but_job: bool = False) -> dict[str, bytes | None]:
    """Every file and folder below ``folder`` with its bytes. The lock names the last command."""
    result = {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != LOCK
    }
    return without_job(result, but_job)


def without_job(result: dict[str, bytes | None], apply: bool) -> dict[str, bytes | None]:
    """``job.yaml`` in the output is what was last asked for, so settings that were tried out show there."""
    return {name: content for name, content in result.items() if not (apply and name == "job.yaml")}


def named(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Parametrizes a test by ``case``."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])
