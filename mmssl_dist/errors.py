"""The exceptions a user can meet, and the exit status each one stands for.

Exit 2: the input has to be fixed. Exit 1: the system failed. Every message says where, the value, the rule
and what to do, and survives pickling, since most are raised in a worker and shown by the driver.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeVar

EXIT_SYSTEM_FAILURE = 1
EXIT_BAD_INPUT = 2
_LONGEST_TEXT = 300
_SHORTEST_SECRET = 8
_SECRET_VARIABLE = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|(API|ACCOUNT|SHARED)_KEY)(_|$)")
_SECRETS = (
    (re.compile(r"\?[^\s'\"]*=[^\s'\"]*"), "?..."),  # queries of URLs: signatures stand there
    (re.compile(r"(?<=://)[^\s/:@'\"]+:[^\s/@'\"]+(?=@)"), "..."),
    (
        re.compile(r"\b(sig|signature|x-amz-[a-z-]+|accountkey|sharedaccess\w*)=[^\s&,;'\"]+", re.IGNORECASE),
        r"\1=...",
    ),
    (
        re.compile(r"(authorization['\"]?\s*[:=]\s*b?['\"]?)[^\s'\"]+(\s+[^\s'\",]+)?", re.IGNORECASE),
        r"\1...",
    ),
    (re.compile(r"\bBearer\s+[\w.~+/=-]+"), "Bearer ..."),
)
T = TypeVar("T")


class MmsslError(Exception):
    """Base of every error this package raises on purpose."""

    exit_status = EXIT_SYSTEM_FAILURE


class InputError(MmsslError):
    """Something the user gave is wrong: a file, a YAML value, a command-line argument.

    Attributes:
        where: a YAML path ("partition.parts"), a file ("data/a.parquet, row 17") or a URL.
        value: what was found there, already shortened for display.
        rule: what is allowed.
        remedy: what to do about it.
    """

    exit_status = EXIT_BAD_INPUT

    def __init__(self, where: str, value: object, rule: str, remedy: str) -> None:
        # All of them as arguments: pickle rebuilds an exception from ``args``, and most cross a process.
        super().__init__(where, value, rule, remedy)
        self.where, self.value, self.rule, self.remedy = where, value, rule, remedy

    def __str__(self) -> str:
        return f"{message_text(self.where)}: found {message_text(self.value)}; {self.rule}. {self.remedy}"


class UnknownIdError(InputError):
    """An external id that the run does not know."""


class ConfigError(InputError):
    """Problems of a job's YAML or of its raw files, shown together, one line each."""

    def __init__(self, problems: tuple[str, ...], source: str) -> None:
        super().__init__(
            source, f"{len(problems)} problem(s)", "every value must be valid", "Fix the lines below."
        )
        # What ``__init__`` takes and not what its base was given, for the same reason.
        self.args = (problems, source)
        self.problems, self.source = problems, source

    def __str__(self) -> str:
        return "\n".join(
            (f"{self.source}: {len(self.problems)} problem(s)", *(f"  {p}" for p in self.problems))
        )


class Problems:
    """Collects what several checks refuse, so that all of it is shown at once.

    Attributes:
        errors: in the order they were met.
    """

    def __init__(self) -> None:
        self.errors: list[InputError] = []

    def attempt(self, check: Callable[[], T]) -> T | None:
        """``check()``, or None where it refuses the input. Failures of the system are raised at once."""
        try:
            return check()
        except InputError as error:
            # Storage that does not answer is not a mistake of the user's, and would fail every further check.
            if error.exit_status != EXIT_BAD_INPUT:
                raise
            self.errors.append(error)
            return None

    def passes(self, check: Callable[[], object]) -> bool:
        """Whether ``check()`` refuses nothing."""
        before = len(self.errors)
        self.attempt(check)
        return len(self.errors) == before

    def lines(self) -> tuple[str, ...]:
        """One line per problem, each once."""
        lines: list[str] = []
        for error in self.errors:
            lines += error.problems if isinstance(error, ConfigError) else (str(error),)
        return tuple(dict.fromkeys(lines))

    def raise_all(self, source: str) -> None:
        """Raise what was collected, if anything: a single error as it is, several as one of ``source``."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigError(self.lines(), source)


class StorageError(InputError):
    """A URL cannot be reached, read or written with what the user configured."""


class StorageFault(StorageError):
    """An object store did not answer or broke the connection, and retries did not help, or a disk is full.
    The same command may succeed later."""

    exit_status = EXIT_SYSTEM_FAILURE


class ArtifactError(MmsslError):
    """A published artifact is incomplete, corrupt, or has a schema that this version does not read."""


class NonFiniteError(MmsslError):
    """A loss or gradient is not finite; raised on every rank before the update."""


class WorkerError(MmsslError):
    """A worker failed; carries rank and cause."""


def message_text(value: object) -> str:
    """``value`` on one line of limited length, so that the content of a file can neither break a message nor
    send control codes to a terminal."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(value))
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def without_secrets(text: str) -> str:
    """``text`` of an error of somebody else's code with what may be a credential replaced by "...": queries
    and passwords of URLs, signatures, headers with keys, values of this process's variables with secrets."""
    for name, value in os.environ.items():
        usable = len(value) >= _SHORTEST_SECRET and not os.path.exists(value)  # some name a file with it
        if usable and _SECRET_VARIABLE.search(name):
            text = text.replace(value, "...")
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def find_known(error: BaseException) -> MmsslError | None:
    """The first ``MmsslError`` in the chain of causes of ``error`` (Ray wraps what workers raise), or
    None."""
    # Exceptions may refer to each other in circles.
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's RayTaskError is an instance of both its own class and that of the error it wraps
        cause = getattr(current, "cause", None)
        if isinstance(current, MmsslError):
            return cause if isinstance(cause, MmsslError) else current
        pending += [current.__cause__, current.__context__, cause]
        # Ray Train's WorkerGroupError: rank -> exception
        failures = getattr(current, "worker_failures", None)
        if isinstance(failures, dict):
            pending += list(failures.values())
    return None
