"""What a search keeps of its trials, and what Optuna and ASHA make of it at the next start."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from mmssl_dist.config import Job
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import ArtifactError, WorkerError
from mmssl_dist.pipeline.engine import Pipeline
from mmssl_dist.pipeline.setting_search import _search
from mmssl_dist.report.trial_table import search_summary, show_trials, write_trials
from mmssl_dist.storage import Manifest, open_location
from mmssl_dist.tuning.proposals import Halving, Proposals, distributions
from mmssl_dist.tuning.run_trials import remaining, search_folder
from mmssl_dist.tuning.trials import Trial, best_first, read_trials, write_trial
from tests.jobs import make_job

SPACE = {
    "training.rows.learning_rate": {"loguniform": [1e-4, 1e-2]},
    "training.fanout": {"choice": [[5, 5], "all"]},
    "model.heads": {"int": [1, 2]},
    "model.dropout": {"uniform": [0.1, 0.2]},
}
SETTINGS = {
    "training.rows.learning_rate": 1e-3,
    "training.fanout": [5, 5],
    "model.heads": 2,
    "model.dropout": 0.15,
}
DONE = Trial(
    number=1, settings=SETTINGS, state="finished", values={1: 0.2, 2: 0.4, 3: 0.4, 4: 0.3}, seconds=9.0
)
STOPPED = Trial(number=2, settings=SETTINGS, state="stopped", values={1: 0.1}, seconds=3.0)
LEFT = Trial(
    number=3, settings={**SETTINGS, "training.fanout": "all"}, state="running", values={1: 0.35, 2: 0.3}
)
DIVERGED = Trial(
    number=4,
    settings=SETTINGS,
    state="diverged",
    values={},
    seconds=1.0,
    message="epoch 1, step 2: a loss is not finite",
)


def search_job(**search: object) -> Job:
    return make_job(
        training={"epochs": 8}, search={"space": SPACE, "grace_epochs": 1, "reduction": 2, **search}
    )


def test_a_trial_in_figures():
    assert (DONE.best, DONE.best_epoch, DONE.epochs, DONE.ended) == (0.4, 2, 4, True)
    assert (DIVERGED.best, DIVERGED.best_epoch, DIVERGED.epochs, DIVERGED.ended) == (None, None, 0, True)
    assert not LEFT.ended
    assert not Trial(number=5, settings={}, state="failed").ended  # the next command tries it again
    assert best_first([DIVERGED, STOPPED, LEFT, DONE]) == [DONE, LEFT, STOPPED, DIVERGED]
    ahead_once = replace(DIVERGED, values={1: 0.9})  # and would diverge again
    assert best_first([ahead_once, STOPPED, DONE]) == [DONE, STOPPED, ahead_once]


def test_trials_are_kept_and_read(tmp_path):
    folder = open_location(str(tmp_path), Storage())
    assert read_trials(folder) == []
    for trial in (LEFT, DONE, DIVERGED):
        write_trial(folder, trial)
    (folder / "run-00003/trial-00009.json").write_bytes(b"not one of ours")
    assert read_trials(folder) == [DONE, LEFT, DIVERGED]
    (folder / "trial-00001.json").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=r"trial-00001\.json: not a readable trial"):
        read_trials(folder)


def test_the_search_is_the_same_for_more_trials_and_another_for_other_spaces():
    partitions = Manifest("partitions", "aa", {}, {})
    folder = search_folder(search_job(), partitions).path
    assert search_folder(search_job(trials=50, concurrent=4), partitions).path == folder
    assert search_folder(search_job(reduction=3), partitions).path != folder
    assert search_folder(search_job(), Manifest("partitions", "bb", {}, {})).path != folder
    assert remaining(search_job(trials=5), [DONE, STOPPED, LEFT, DIVERGED]) == 2
    assert remaining(search_job(trials=2), [DONE, STOPPED, DIVERGED]) == 0


def test_optuna_s_words():
    result = distributions(search_job().search)
    rate, dropout = result["training.rows.learning_rate"], result["model.dropout"]
    assert (rate.low, rate.high, rate.log, dropout.log) == (1e-4, 1e-2, True, False)
    assert (result["model.heads"].low, result["model.heads"].high) == (1, 2)
    assert result["training.fanout"].choices == ("[5, 5]", '"all"')


def test_what_was_left_is_proposed_first_under_its_number_then_new_settings():
    proposals = Proposals(search_job(), [DONE, STOPPED, LEFT, DIVERGED])
    assert proposals.suggest("a") == {"number": 3, "settings": LEFT.settings, "best": 0.35}
    new = [proposals.suggest(name) for name in "bcd"]
    assert [entry["number"] for entry in new] == [5, 6, 7]
    for entry in new:
        settings = entry["settings"]
        assert entry["best"] is None
        assert settings["training.fanout"] in ([5, 5], "all")
        assert 1e-4 <= settings["training.rows.learning_rate"] <= 1e-2
    values = sorted(trial.value for trial in proposals._ot_study.trials if trial.value is not None)
    assert values == [0.1, 0.4]  # Optuna knows what came of the others


def test_a_search_of_the_same_seed_proposes_the_same_and_goes_on_with_others():
    first, again = ([Proposals(search_job(), []).suggest(str(n)) for n in range(2)] for _ in range(2))
    assert first[0] == again[0]
    after = Proposals(
        search_job(), [Trial(number=1, settings=first[0]["settings"], state="finished", values={1: 0.1})]
    ).suggest("0")
    assert after["settings"] != first[0]["settings"]


def test_asha_stops_what_is_worse_than_trials_of_an_earlier_start():
    scheduler = Halving(
        search_job(),
        [DONE, Trial(number=5, settings=SETTINGS, state="finished", values={1: 0.3, 2: 0.3}), LEFT],
    )
    bad, good = SimpleNamespace(trial_id="bad"), SimpleNamespace(trial_id="good")
    for trial in (bad, good):
        scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, bad, {"epoch": 1, "best": 0.1}) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, good, {"epoch": 1, "best": 0.5}) == TrialScheduler.CONTINUE
    assert scheduler.stopped == {"bad"}
    assert scheduler.on_trial_result(None, good, {"epoch": 8, "best": 0.5}) == TrialScheduler.CONTINUE
    assert scheduler.stopped == {"bad"}  # the other one ends by itself


def test_the_table(tmp_path):
    write_trials(open_location(str(tmp_path), Storage()), [DONE, DIVERGED])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text())))
    assert rows[0] == {
        "trial": "1",
        "state": "finished",
        "best": "0.4",
        "best_epoch": "2",
        "epochs": "4",
        "seconds": "9.0",
        "training.rows.learning_rate": "0.001",
        "training.fanout": "[5, 5]",
        "model.heads": "2",
        "model.dropout": "0.15",
        "message": "",
    }
    assert rows[1]["message"] == "epoch 1, step 2: a loss is not finite"
    assert json.loads((tmp_path / "trials.json").read_text())[0]["values"] == {
        "1": 0.2,
        "2": 0.4,
        "3": 0.4,
        "4": 0.3,
    }
    assert search_summary([DIVERGED, DONE, STOPPED], "recall@20") == (
        "3 trials, 1 diverged, 1 finished, 1 stopped; best validation recall@20 0.4000 in trial 1"
    )
    stream = io.StringIO()
    show_trials([DONE, DIVERGED], "recall@20", stream)
    assert [line.split("\t")[:6] for line in stream.getvalue().splitlines()] == [
        ["trial", "state", "recall@20", "epoch", "epochs", "time"],
        ["1", "finished", "0.4000", "2", "4", "9.0 s"],
        ["4", "diverged", "", "", "0", "1.0 s"],
    ]


def test_a_search_in_which_all_diverged_fails_at_every_start(tmp_path):
    job = search_job(trials=2).model_copy(update={"output": str(tmp_path)})
    partitions = Manifest("partitions", "aa", {}, {})
    folder = search_folder(job, partitions)
    for number in (1, 2):
        write_trial(folder, replace(DIVERGED, number=number, values={1: 0.5}))
    (tmp_path / "tuning/best.yaml").write_text("of an earlier search")
    with pytest.raises(
        WorkerError, match=r"every trial failed; the last one: .* is not finite\. Change the ranges"
    ):
        _search(Pipeline(job, None), partitions, force=False)  # type: ignore[arg-type]
    assert not (tmp_path / "tuning/best.yaml").exists()
    assert "diverged" in (tmp_path / "tuning/trials.csv").read_text()
