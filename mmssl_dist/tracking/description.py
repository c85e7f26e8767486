"""What trackers are given about a job: its settings without passwords, and what a run was made with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmssl_dist import __version__
from mmssl_dist.config import Job
from mmssl_dist.storage import RunFolder

COMMIT = "mmssl.commit"
# Letters that MLflow's servers take of a parameter's value.
_LONGEST = 500
# Files of an output that a reader of a tracker wants.
REPORTS = ("job.yaml", "report.html")


def settings(job: Job) -> dict[str, Any]:
    """Every setting that has a value, nested as in a job file, without what could hold a password."""
    result = _cleaned(job.model_dump(mode="json", exclude={"tracking", "search"}))
    assert isinstance(result, dict), "a job is a mapping"
    return result


def parameters(job: Job) -> Iterator[tuple[str, str]]:
    """Every setting by its dotted path, as text."""
    yield from _flat(settings(job), "")


def tags(job: Job) -> dict[str, str]:
    """What a run was made with: version, the commit of a checkout, and the digest of the dataset that
    ``prepare`` published."""
    result = {"mmssl.version": __version__}
    commit = commit_of(Path(__file__).parents[2])
    if commit:
        result[COMMIT] = commit
    dataset = RunFolder.of(job).dataset.read()
    if dataset is not None:
        result["mmssl.data"] = dataset.fingerprint
    return result


def commit_of(checkout: Path) -> str | None:
    """The commit that is checked out in a Git repository; None where the package was installed without
    one."""
    git = checkout / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        if (git / reference).exists():
            return (git / reference).read_text().strip()
        packed = (git / "packed-refs").read_text()
    except OSError:
        return None
    found = re.search(rf"^([0-9a-f]{{40}}) {re.escape(reference)}$", packed, flags=re.M)
    return found[1] if found else None


def without_password(url: str) -> str:
    """A URL without user and password."""
    return re.sub(r"(//)[^/@]*@", r"\1", url)


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return {name: _cleaned(below) for name, below in value.items() if below is not None}
    if isinstance(value, list):
        return [_cleaned(element) for element in value]
    return without_password(value) if isinstance(value, str) else value


def _flat(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _flat(below, f"{path}.{name}".lstrip("."))
    else:
        yield path, str(value)[:_LONGEST]
