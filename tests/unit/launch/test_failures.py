"""Which failures end a run at once, and which one of several is shown."""

from __future__ import annotations

import pickle

import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from mmssl_dist.errors import InputError, NonFiniteError, StorageFault, WorkerError
from mmssl_dist.launch.failures import StopOnLasting, unwrap

REJECTED = InputError("a.csv, row 3", "NaN", "values are finite", "Mend it.")
BROKEN = RuntimeError("Connection closed by peer [127.0.0.1]:1234")


@pytest.mark.parametrize(("errors", "kind"), [
    ({1: REJECTED}, InputError), ({0: BROKEN, 1: NonFiniteError("loss/bpr is nan")}, NonFiniteError),
    ({0: TypeError("no")}, WorkerError), ({1: KeyError("image")}, WorkerError),
])  # fmt: skip
def test_what_would_come_again_ends_the_run(errors, kind):
    with pytest.raises(kind):
        StopOnLasting().after_exception(None, errors)


SILENT = StorageFault("s3://b/k", "HTTP status 503", "the storage must answer", "Check it.")


@pytest.mark.parametrize("error", [BROKEN, OSError("reset"), WorkerHealthCheckFailedError("died", BROKEN), SILENT])
def test_what_a_lost_machine_causes_is_left_to_the_retries(error):
    StopOnLasting().after_exception(None, {0: error})


def test_death_is_shown_rather_than_what_its_neighbour_saw():
    death = WorkerHealthCheckFailedError("A worker died.", BROKEN)
    shown = unwrap(WorkerGroupError("both", {0: BROKEN, 1: death}), "train")
    assert str(shown) == "worker 1 failed: WorkerHealthCheckFailedError: A worker died."


def test_known_error_comes_out_of_every_wrapping_with_its_status():
    for wrapped in (ControllerError(REJECTED), WorkerGroupError("x", {0: BROKEN, 1: REJECTED})):
        shown = unwrap(pickle.loads(pickle.dumps(wrapped)), "train")
        assert (type(shown), shown.exit_status, str(shown)) == (InputError, 2, str(REJECTED))


def test_failed_start_names_the_stage():
    shown = unwrap(ControllerError(RuntimeError("no place\nmore")), "evaluate")
    assert str(shown) == "evaluate: the workers could not be started or kept running: RuntimeError: no place"
