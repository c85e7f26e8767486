"""Which validation is the best: the same for early stopping, for what is kept and for what is published."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.train import Checkpoint, CheckpointConfig
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult

from mmssl_dist.launch.run_workers import Checkpoint as Kept
from mmssl_dist.launch.run_workers import Outcome, retention
from mmssl_dist.launch.train_stage import _best_first
from mmssl_dist.training.improvement import CHECKPOINT_SCORE, improves, order_key

METRIC = "recall@20"


def best_by_early_stopping(values: list[float]) -> int:
    """The epoch, from 1, that the loop calls the best."""
    best: float | None = None
    best_epoch = 0
    for epoch, value in enumerate(values, 1):
        if improves(value, best):
            best, best_epoch = value, epoch
    return best_epoch


def kept_by_ray(values: list[float], keep: int, folder: Path) -> list[Kept]:
    """What Ray Train's own book-keeping keeps of one report per epoch."""
    config = CheckpointConfig(
        num_to_keep=keep, checkpoint_score_attribute=CHECKPOINT_SCORE, checkpoint_score_order="max"
    )
    manager = _CheckpointManager(config)
    for epoch, value in enumerate(values, 1):
        metrics = {"epoch": float(epoch), METRIC: value}
        metrics |= retention(metrics, METRIC)
        (folder / str(epoch)).mkdir()
        manager.register_checkpoint(_TrainingResult(Checkpoint(str(folder / str(epoch))), metrics))
    return [Kept(result.checkpoint.path, result.metrics) for result in manager.best_checkpoint_results]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.5, 0.5, 0.5, 0.5], 1),
        ([0.1, 0.5, 0.5, 0.4, 0.5], 2),
        ([0.3, 0.3 + 1e-12, 0.3 - 1e-12, 0.2], 1),  # sums in another order
        ([0.3, 0.30001, 0.30001], 2),
        ([0.0, 0.0], 1),
    ],
)
@pytest.mark.parametrize("keep", [1, 2])
def test_of_equal_validations_the_earliest_is_best_everywhere(values, best, keep, tmp_path):
    kept = kept_by_ray(values, keep, tmp_path)
    assert best_by_early_stopping(values) == best
    assert _best_first(Outcome((), tuple(kept)), METRIC)[0].metrics["epoch"] == best
    assert (tmp_path / str(best)).exists()


@given(st.lists(st.sampled_from([0.0, 0.1, 0.1 + 1e-13, 0.25, 1.0]), min_size=1, max_size=12))
def test_the_order_of_epochs_is_that_of_early_stopping(values):
    by_key = max(range(1, len(values) + 1), key=lambda epoch: order_key(values[epoch - 1], epoch))
    assert by_key == best_by_early_stopping(values)


def test_late_epochs_of_long_trainings_do_not_fall_behind_smaller_metrics():
    for value, epoch in itertools.product((0.0, 0.5, 0.99999998), (1, 40_000)):
        assert order_key(value + 1.01e-8, epoch) > order_key(value, 1)
        assert order_key(value, epoch) > order_key(value, epoch + 1)


def test_a_report_without_validation_is_kept_as_the_latest_alone():
    assert retention({"epoch": 3.0}, METRIC) == {METRIC: float("-inf"), CHECKPOINT_SCORE: float("-inf")}
    assert retention({"epoch": 3.0}, None) == {}
