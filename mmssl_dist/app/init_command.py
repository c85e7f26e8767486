"""The command that writes a first job: init."""

from __future__ import annotations

import os
import shlex
import uuid
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmssl_dist.app.options import Debug, StorageSettings, parse_storage_settings
from mmssl_dist.app.reporting import reported
from mmssl_dist.errors import InputError, message_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmssl_dist.datasets.interaction_table import Ask, Question
    from mmssl_dist.datasets.job_proposal import JobProposal
    from mmssl_dist.launch.input_check import InputOverview

    TextOf = Callable[..., str]  # job_text, of a proposal and what becomes of unknown items

app = typer.Typer()
_UNKNOWN_ITEMS = "data.unknown_items"


class UnknownItems(StrEnum):
    """Values of data.unknown_items."""

    DROP = "drop"
    KEEP = "keep"


@app.command()
@reported
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or URL of your files.")],
    job_file: Annotated[Path, typer.Option("--job", metavar="FILE", help="YAML to write.")] = Path(
        "job.yaml"
    ),
    output: Annotated[
        str | None, typer.Option(metavar="RUN", help="The job's output. Default: runs/NAME-OF-FOLDER.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take every proposal, refuse where there is none.")
    ] = False,
    unknown_items: Annotated[
        UnknownItems | None,
        typer.Option(
            help="Interactions with items that lack features: leave them out, or keep the items. "
            "Default: asks where there are any."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the YAML if it exists.")] = False,
    settings: StorageSettings = None,
    debug: Debug = False,
) -> None:
    """Write a job for the files in a folder.

    Reads the headers of Parquet, CSV, TSV, JSON lines, .inter and .npy files, finds interactions, features,
    titles and times, and asks for what it cannot see. The job is checked as `validate` does before it is
    written.
    """
    from mmssl_dist.datasets.inventory import take_inventory
    from mmssl_dist.datasets.job_proposal import propose
    from mmssl_dist.datasets.job_text import job_text
    from mmssl_dist.report.job_summary import input_lines
    from mmssl_dist.storage import open_location
    from mmssl_dist.storage.paths import absolute

    if job_file.exists() and not force:
        raise InputError(
            "--job", job_file, "existing files are kept", "Name another one, or overwrite it with --force."
        )
    ask = _proposals if yes else _prompt
    storage = parse_storage_settings(settings)
    proposal = propose(take_inventory(open_location(absolute(folder), storage)), ask)

    output = output or f"runs/{Path(absolute(folder)).name or 'mine'}"
    text = partial(job_text, path=folder, output=output, storage=storage)
    given = None if unknown_items is None else unknown_items.value
    try:
        written, overview = _accepted(proposal, text, given, ask, str(job_file))
    except InputError:
        if not yes:  # the answers outlast files that have to be corrected first
            _write(job_file, text(proposal, unknown_items=given))
            typer.echo(
                f"{job_file}: written with your answers; correct what follows, then call mmssl-dist validate",
                err=True,
            )
        raise
    _write(job_file, written)
    typer.echo("\n".join((*_decisions(written), *input_lines(overview))))
    typer.echo(f"{job_file}: written; next: mmssl-dist run {shlex.quote(str(job_file))}")


def _accepted(
    proposal: JobProposal, text: TextOf, given: str | None, ask: Ask, source: str
) -> tuple[str, InputOverview]:
    """The job's text that the checks of `validate` accept, and what they saw."""
    # Whether vectors alone leave items without features shows only where nothing is dropped.
    first = None if proposal.further else given
    try:
        overview = _checked(text(proposal, unknown_items=first), source)
        return text(proposal, unknown_items=given), overview
    except InputError as error:
        if error.where != _UNKNOWN_ITEMS:
            raise
        if proposal.further:
            return _accepted(proposal.with_further(), text, given, ask, source)
        answer = _of_unknown_items(error, ask)
    written = text(proposal, unknown_items=answer)
    return written, _checked(written, source)


def _of_unknown_items(error: InputError, ask: Ask) -> str:
    """What becomes of items without features, which the check has found."""
    from mmssl_dist.datasets.interaction_table import Question

    question = (
        f"What becomes of {error.value}? drop: their interactions are left out; keep: these items are "
        "recommended by interactions alone"
    )
    try:
        return ask(Question(key=_UNKNOWN_ITEMS, text=question, choices=("drop", "keep"), proposal=None))
    except _NoProposalError:
        remedy = "Call init with --unknown-items drop, or with keep."
        raise InputError(error.where, error.value, error.rule, remedy) from None


def _checked(text: str, source: str) -> InputOverview:
    from mmssl_dist.config import read_job
    from mmssl_dist.data.split_labels import with_labelled_split
    from mmssl_dist.launch.input_check import check_values
    from mmssl_dist.launch.preflight import check_data, check_headers, check_output_folder, resolved

    job = resolved(read_job(text, source))
    files = check_data(job)
    job = with_labelled_split(job, files.interactions)
    check_headers(job, files)
    check_output_folder(job)
    return check_values(job, files)


class _NoProposalError(InputError):
    """With --yes, a question without a proposal."""


def _proposals(question: Question) -> str:
    """The proposal, without asking."""
    if question.proposal is None:
        raise _NoProposalError(
            question.key,
            "no proposal",
            f"{question.text} ({', '.join(question.choices)})",
            question.remedy,
        )
    return question.proposal


def _prompt(question: Question) -> str:
    """The answer of whoever sits at the terminal."""
    # Names of files and columns are foreign text, which a terminal must not take for commands.
    choices = ", ".join(map(message_text, question.choices))
    text = message_text(question.text)
    try:
        while True:
            answer = typer.prompt(
                f"{text} ({choices})",
                # Without a default Click would repeat the question by itself, and not say why.
                default=question.proposal or "",
                show_default=question.proposal is not None,
                err=True,
            )
            if answer in question.choices:
                return str(answer)
            typer.echo(f"{message_text(answer) or 'no answer'}: not one of {choices}", err=True)
            text = "Answer with one of them"
    except typer.Abort as error:
        raise InputError(
            question.key,
            "no answer",
            f"{question.text} ({choices})",
            "Answer at a terminal, or take the proposals with --yes.",
        ) from error


def _decisions(text: str) -> list[str]:
    """The data section of the job, and the files it leaves out."""
    lines = text.splitlines()
    start, end = (
        lines.index("data:"),
        next(i for i, line in enumerate(lines) if line.startswith("partition:")),
    )
    unused = [line.removeprefix("# ") for line in lines if line.startswith("# Not used: ")]
    return [*(line.rstrip() for line in lines[start : end - 1]), *unused]  # an empty line ends the section


def _write(job_file: Path, text: str) -> None:
    """Write the file at once, or not at all."""
    # In the same folder, since ``os.replace`` is atomic only within one file system.
    partial = job_file.with_name(f".{job_file.name}.{uuid.uuid4().hex[:8]}")
    try:
        job_file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, job_file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            "--job",
            job_file,
            f"it must be a file that can be written ({error.strerror})",
            "Name another one.",
        ) from error
