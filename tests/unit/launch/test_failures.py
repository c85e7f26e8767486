"""Which failures end a run at once, and which one of several is shown."""

from __future__ import annotations

import pickle

import pyarrow.fs as pafs
import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from mmssl_dist.errors import InputError, NonFiniteError, StorageError, StorageFault, WorkerError
from mmssl_dist.launch.failure_policy import FailurePolicy
from mmssl_dist.launch.failures import EndOnPermanentFailure, unwrap
from mmssl_dist.storage import Location
from tests.relays import Relay

REJECTED = InputError("a.csv, row 3", "NaN", "values are finite", "Fix it.")
BROKEN = RuntimeError("Connection closed by peer [127.0.0.1]:1234")


@pytest.fixture
def relay() -> Relay:
    return Relay()


@pytest.fixture
def policy(relay) -> EndOnPermanentFailure:
    store = pafs.S3FileSystem(anonymous=True, region="us-east-1")
    location = Location(store, "b/runs", "s3://b/runs")
    return EndOnPermanentFailure(FailurePolicy("train", location, relay))


@pytest.mark.parametrize(
    ("errors", "error_type"),
    [
        ({1: REJECTED}, InputError),
        ({0: BROKEN, 1: NonFiniteError("loss/bpr is nan")}, NonFiniteError),
        ({0: TypeError("no")}, WorkerError),
        ({1: KeyError("image")}, WorkerError),
    ],
)
def test_what_would_come_again_ends_the_run(policy, errors, error_type):
    with pytest.raises(error_type):
        policy.after_exception(None, errors)


SILENT = StorageFault("s3://b/k", "HTTP status 503", "the storage must answer", "Check it.")
UPLOAD = OSError("When uploading part: AWS Error SLOW_DOWN during UploadPart operation")


@pytest.mark.parametrize("error", [BROKEN, OSError("reset"), WorkerHealthCheckFailedError("died", BROKEN)])
def test_what_a_lost_machine_causes_is_told_and_left_to_the_retries(policy, relay, error):
    policy.after_exception(None, {0: error})
    policy.after_exception(None, {0: error})
    (first, _) = relay.lines
    assert first.startswith(f"train: worker 0 failed: {type(error).__name__}")


@pytest.mark.parametrize(
    ("error", "message"), [(SILENT, "s3://b/k: found HTTP"), (UPLOAD, "s3://b/runs: found nothing")]
)
def test_storage_that_does_not_answer_the_workers_started_again_ends_the_run(policy, relay, error, message):
    policy.after_exception(None, {0: BROKEN, 1: error})
    assert relay.lines[0].startswith(f"train: {message}")
    policy.after_report(None, [{}], None)  # it answered in between
    policy.after_exception(None, {1: error})
    with pytest.raises(StorageFault, match=message):
        policy.after_exception(None, {0: error})


def test_an_upload_that_is_not_allowed_ends_the_run_at_once(policy):
    denied = OSError(
        "When uploading part: AWS Error ACCESS_DENIED during UploadPart operation: Access Denied"
    )
    with pytest.raises(StorageError, match=r"s3://b/runs: found no permission \(s3:PutObject\)"):
        policy.after_exception(None, {0: denied})


def test_death_is_shown_rather_than_what_its_neighbour_saw():
    death = WorkerHealthCheckFailedError("A worker died.", BROKEN)
    error = unwrap(WorkerGroupError("both", {0: BROKEN, 1: death}), "train")
    assert str(error) == "worker 1 failed: WorkerHealthCheckFailedError: A worker died."


def test_known_error_comes_out_of_every_wrapping_with_its_status():
    for wrapped in (ControllerError(REJECTED), WorkerGroupError("x", {0: BROKEN, 1: REJECTED})):
        error = unwrap(pickle.loads(pickle.dumps(wrapped)), "train")
        assert (type(error), error.exit_status, str(error)) == (InputError, 2, str(REJECTED))


def test_failed_start_names_the_stage():
    error = unwrap(ControllerError(RuntimeError("no place\nmore")), "evaluate")
    assert str(error) == "evaluate: the workers could not be started or kept running: RuntimeError: no place"
