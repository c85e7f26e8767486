"""Errors travel between processes whole, and are found in what Ray wraps them in."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import RayTaskError

from mmssl_dist import errors
from mmssl_dist.errors import (
    ArtifactError,
    ConfigError,
    InputError,
    MmsslError,
    NonFiniteError,
    StorageError,
    StorageFault,
    UnknownIdError,
    find_known,
    without_secrets,
)

EXAMPLES = [
    MmsslError("something"),
    InputError("data/a.parquet, row 17", -3, "ids are not negative", "Fix the row."),
    UnknownIdError("user id", "'u9'", "the run knows 3 users", "Give another."),
    ConfigError(("seed: found -1; must be 0 or more", "zebra: unknown key"), "job.yaml"),
    StorageError("s3://bucket/key", "no bucket", "the bucket must exist", "Make it."),
    StorageFault("s3://bucket/key", "HTTP status 503", "the storage must answer", "Try again."),
    ArtifactError("part: gone"),
    NonFiniteError("epoch 3, step 4: a loss is not finite"),
    errors.WorkerError("worker 1 failed: killed"),
]


def test_every_kind_is_here():
    kinds = {
        error_type
        for error_type in vars(errors).values()
        if isinstance(error_type, type) and issubclass(error_type, MmsslError)
    }
    assert {type(example) for example in EXAMPLES} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickling_keeps_everything(error):
    error.add_note("In worker 1")
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)
        mendable = isinstance(error, InputError) and not isinstance(error, StorageFault)
        assert copy.exit_status == error.exit_status == (2 if mendable else 1)
        error = copy


def test_messages():
    assert str(EXAMPLES[1]) == "data/a.parquet, row 17: found -3; ids are not negative. Fix the row."
    assert str(EXAMPLES[3]).splitlines() == [
        "job.yaml: 2 problem(s)",
        "  seed: found -1; must be 0 or more",
        "  zebra: unknown key",
    ]


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


class Group(Exception):
    """As Ray Train's WorkerGroupError."""

    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__("workers failed")
        self.worker_failures = failures


KNOWN = InputError("x", 1, "rule", "remedy")


def in_context() -> BaseException:
    try:
        try:
            raise KNOWN
        except InputError:
            raise KeyError("while handling it")  # noqa: B904, the context is what is looked for
    except KeyError as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        KNOWN,
        raised(RuntimeError("wrapped"), KNOWN),
        raised(RuntimeError("twice"), raised(ValueError("wrapped"), KNOWN)),
        in_context(),
        Group({0: ConnectionError("peer"), 1: raised(RuntimeError("wrapped"), KNOWN)}),
        raised(RuntimeError("driver"), Group({3: KNOWN})),
        RayTaskError("work", "traceback", KNOWN),
        RayTaskError("work", "traceback", KNOWN).as_instanceof_cause(),
        raised(RuntimeError("driver"), RayTaskError("work", "traceback", KNOWN).as_instanceof_cause()),
    ],
)
def test_found_in_any_wrapping(error):
    assert find_known(error) is KNOWN


def test_nothing_known():
    loop = ValueError("a circle")
    loop.__cause__ = RuntimeError("of causes")
    loop.__cause__.__cause__ = loop
    other = RayTaskError("work", "traceback", ZeroDivisionError()).as_instanceof_cause()
    for error in (loop, Group({}), Group({0: OSError()}), KeyboardInterrupt(), other):
        assert find_known(error) is None


def test_what_a_file_holds_cannot_break_a_message():
    text = str(InputError("a\nb", "\x1b[2J\u202e" + "x" * 1000, "rule", "Remedy."))
    assert text.startswith(r"a\nb: found \x1b[2J\u202exxx")
    assert text.endswith("xxx...; rule. Remedy.")
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET 'https://h/c/x?sv=1&sig=a%3D' failed", "GET 'https://h/c/x?...' failed"),
        ("SharedAccessSignature=sv=1&sig=ab/c; x", "SharedAccessSignature=...&sig=...; x"),
        ("AccountKey=abc+/=;EndpointSuffix=core", "AccountKey=...;EndpointSuffix=core"),
        ("https://me:word@proxy:8080/ is closed", "https://...@proxy:8080/ is closed"),
        ("{'Authorization': 'Bearer abc.def', 'Host': 'h'}", "{'Authorization': '...', 'Host': 'h'}"),
        ("sent Bearer abc.def-g", "sent Bearer ..."),
        ("AWS4 Credential=x, Signature=00ff", "AWS4 Credential=x, Signature=..."),
        ("X-Amz-Security-Token=abc&x=1", "X-Amz-Security-Token=...&x=1"),
        ("with s3cret-of-the-store inside", "with ... inside"),
        ("https://h:9000/c/x is not there", "https://h:9000/c/x is not there"),
        ("data.parquet, row 17: found 'what?'", "data.parquet, row 17: found 'what?'"),
    ],
)
def test_secrets_are_not_shown(monkeypatch, text, shown):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-the-store")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", __file__)
    assert without_secrets(text) == shown
    assert without_secrets(f"File {__file__}") == f"File {__file__}"
