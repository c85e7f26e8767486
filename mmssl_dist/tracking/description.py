"""What trackers are given about a job: its settings without passwords, and what a run was made with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmssl_dist import __version__
from mmssl_dist.config import Job
from mmssl_dist.storage import RunFolder

COMMIT = "mmssl.commit"
# Letters that MLflow's servers take of a parameter's value.
_LONGEST = 500
# Every tracker takes these letters in names; columns of tables, which may be keys of settings, have others.
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
# User and password of a URL. A password may hold / and @, so with one everything up to the last @ counts;
# digits between a colon and a slash are a port.
_ACCOUNT = re.compile(r"((?:^|:)//)(?:[^/@]*:(?!\d*(?:[/?#]|$)).*@|[^/?#]*@)", flags=re.DOTALL)


def settings(job: Job) -> dict[str, Any]:
    """Every setting that has a value, nested as in a job file, without what could hold a password."""
    result = _present(_cleaned(job.model_dump(mode="json", exclude={"tracking", "search"})))
    assert isinstance(result, dict), "a job is a mapping"
    return result


def shareable(text: str) -> str:
    """A job file as others may read it: without trackers, and without users and passwords in URLs."""
    job = yaml.safe_load(text)
    assert isinstance(job, dict), "a job is a mapping"
    return yaml.safe_dump(
        _cleaned({name: v for name, v in job.items() if name != "tracking"}), sort_keys=False
    )


def shared_files(job: Job) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of an output that a reader of a tracker wants, without passwords."""
    output = RunFolder.of(job).root
    yield "job.yaml", shareable((output / "job.yaml").read_bytes().decode()).encode()
    yield "report.html", (output / "report.html").read_bytes()  # written of a shareable job


def parameters(job: Job) -> Iterator[tuple[str, str]]:
    """Every setting by its dotted path, as text; those by names that a tracker may refuse as one JSON."""
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
    return _ACCOUNT.sub(r"\1", url)


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return {name: _cleaned(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_cleaned(element) for element in value]
    return without_password(value) if isinstance(value, str) else value


def _present(value: object) -> object:
    """``value`` without entries of mappings that are None."""
    if isinstance(value, dict):
        return {name: _present(below) for name, below in value.items() if below is not None}
    return [_present(element) for element in value] if isinstance(value, list) else value


def _flat(value: object, path: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield path, str(value)[:_LONGEST]
    elif all(_PLAIN.fullmatch(name) for name in value):
        for name, below in value.items():
            yield from _flat(below, f"{path}.{name}".lstrip("."))
    else:
        yield path, json.dumps(value, ensure_ascii=False)[:_LONGEST]
