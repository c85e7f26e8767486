"""Progress lines, word by word."""

from __future__ import annotations

import pytest

from mmssl_dist.report import progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_960, "1.0 MB"),
        (5e9, "5.0 GB"),
        (7.25e15, "7250.0 TB"),
    ],
)
def test_size(number: float, text: str) -> None:
    assert progress.size(number) == text


def test_stage_lines() -> None:
    lines = progress.stage_lines("export", ["top 50", "5 MB"], 61)
    assert lines == ["export: top 50 (1 min 01 s)", "export:   5 MB"]
    assert progress.skipped_line("prepare", "s3://b/run/dataset") == "prepare: up to date, s3://b/run/dataset"


def test_epoch() -> None:
    entry = {
        "epoch": 3.0,
        "best_epoch": 3.0,
        "train_seconds": 4.21,
        "validation_seconds": 0.5,
        "loss/critic": -0.25,
        "loss/bpr": 0.6931472,
        "recall@20": 0.081234,
        "ndcg@20": 0.03,
    }
    left = ", 7 min 37 s left"
    losses = "loss critic -0.25, bpr 0.6931; trained 4.2 s, validated 0.5 s"
    assert progress.training_lines(entry, 100, "recall@20") == [
        "epoch 3/100: recall@20 0.0812 (best so far)" + left,
        losses,
    ]
    before = entry | {"best_epoch": 2.0, "best": 0.04}
    rates = before | {"rate/pairs": 4321.9, "share/waiting": 0.25}
    assert progress.training_lines(rates, 100, "ndcg@20") == [
        "epoch 3/100: ndcg@20 0.0300 (best 0.0400, epoch 2), 4,322 pairs/s" + left,
        "loss critic -0.25, bpr 0.6931; trained 4.2 s (25.0 % waiting), validated 0.5 s",
    ]
    assert progress.training_lines(entry, 3, "recall@20")[0] == "epoch 3/3: recall@20 0.0812 (best so far)"
    within = {"epoch": 3.0, "step": 20.0, "steps": 59.0}
    assert progress.training_lines(within, 100, "ndcg@20") == ["epoch 3/100: checkpoint after step 20 of 59"]


def test_dataset() -> None:
    facts = {
        "users": 9308,
        "items": 6710,
        "interactions": {"train": 59541, "validation": 3051, "test": 6058},
        "modalities": {"image": {"dimension": 128, "items": 6710}, "text": {"dimension": 768, "items": 6000}},
        "dropped": {"duplicates": 1200, "below_core": 0},
        "user_id_type": "int64",
        "item_id_type": "string",
    }
    assert progress.dataset_summary(facts) == [
        "9,308 users, 6,710 items, 68,650 interactions",
        "interactions: 59,541 train, 3,051 validation, 6,058 test",
        "features: image 128 wide, text 768 wide for 6,000 items",
        "dropped: 1,200 duplicates",
        "ids: int64 of users, string of items",
    ]
    assert "dropped: nothing" in progress.dataset_summary({**facts, "dropped": {}})


def test_partitions() -> None:
    facts = {
        "book": {"users": [1, 2], "items": [3, 4]},
        "edge_cut": 0.1234,
        "method": "metis",
        "item_neighbours": 10,
        "balance": {"users": 1.333, "items": 1.14, "edges": 1.0},
        "bytes": 12_300_000,
        "cold_items": 0,
        "edges": 119082,
    }
    assert progress.partitions_summary(facts) == [
        "2 parts by metis, edge cut 12.3 %",
        "balance, largest part over mean: users 1.33, items 1.14, edges 1.00",
        "item-item graph: the 10 nearest items of each, by modality",
        "no items without training interactions (cold)",
        "12.3 MB of 119,082 directed edges, features and lists",
    ]
    graphs = {
        "image": {"pairs": 27808, "listed": 225, "by_chance": 45.43, "can_tell": True},
        "text": {"pairs": 27808, "listed": 43, "by_chance": 45.4, "can_tell": True},
        "audio": {"pairs": 3000, "listed": 3, "by_chance": 1.5, "can_tell": False},
    }
    assert progress.partitions_summary({**facts, "item_graphs": graphs, "left_out": ["text"]})[3:6] == [
        "image: 225 of 27,808 sampled pairs of one user's items are similar, 45.4 by chance",
        "text: 43 of 27,808 sampled pairs of one user's items are similar, 45.4 by chance; it says nothing "
        "of what users choose and is left out (partition.least_lift). Check that the ids, or the order, of "
        "its features are those of the items",
        "audio: 3 of 3,000 sampled pairs of one user's items are similar, 1.5 by chance, which is too few or "
        "too many to judge by",
    ]
    other = progress.partitions_summary({**facts, "cold_items": 1500, "item_neighbours": 0})
    assert other[2:4] == ["item-item graph: none", "1,500 items without training interactions (cold)"]


def test_training() -> None:
    first = {"epoch": 2.0, "train_seconds": 60.0, "validation_seconds": 1.5}
    speed = {"rate/pairs": 900.0, "share/waiting": 0.1, "exchange/local": 0.75, "memory/resident": 2e9}
    history = [first, first | speed | {"epoch": 4.0}, first | speed | {"epoch": 5.0}]
    facts = {"epochs": 37, "best": 0.08526, "best_epoch": 27, "history": history}
    assert progress.training_summary(facts, "recall@20") == [
        "37 epochs, best validation recall@20 0.0853 in epoch 27",
        "time: 5 min 00 s of training, 4.5 s of validation",
        "median epoch: 900 pairs/s, 10.0 % of a step waiting, 75.0 % of rows local",
        "peak memory of a worker: 2.0 GB",
    ]
    ended = progress.training_summary(facts | {"stopped_early": False}, "recall@20")
    assert ended[1] == (
        "ended at training.epochs, before early stopping: raise it if the metric is still rising"
    )
    assert len(ended) == 5
    stopped = progress.training_summary(facts | {"stopped_early": True}, "recall@20")
    assert not any("training.epochs" in line for line in stopped)
    left_out = progress.training_summary(
        facts | {"left_out": {"users": 1, "interactions": 1300}}, "recall@20"
    )
    assert left_out[1] == "left out: 1,300 interactions of 1 user(s) who know every item"
    assert len(left_out) == 5
    assert len(progress.training_summary(facts | {"history": [first]}, "recall@20")) == 2
    assert progress.training_summary({"epochs": 1, "best": None, "best_epoch": 0}, "recall@20") == ["1 epoch"]


def test_evaluation() -> None:
    metrics = {
        "validation": {"recall@20": 0.09},
        "test": {"recall@20": 0.085},
        "baselines": {"popularity": {"test": {"recall@20": 0.012}}},
    }
    plain = ["test recall@20 0.0850 (popularity 0.0120)", "validation recall@20 0.0900"]
    assert progress.evaluation_summary(metrics, "recall@20") == plain
    more = {
        "cold": {"test": {"recall@20": 0.03, "users": 1200, "items": 57}},
        "without": {"image": {"test": {"recall@20": 0.07}}, "text": {"test": {"recall@20": 0.08}}},
    }
    assert progress.evaluation_summary({**metrics, **more}, "recall@20") == [
        *plain,
        "cold test recall@20 0.0300 (1,200 users, 57 items)",
        "test recall@20 without image 0.0700, text 0.0800",
    ]


def test_export() -> None:
    index = {"kind": "hnsw", "search_width": 57, "recall": {"value": 0.98765, "at": 20, "users": 1000}}
    facts = {"users": 9308, "items": 6710, "k": 50, "bytes": 4_200_000, "index": index}
    assert progress.export_summary(facts) == [
        "top 50 for 9,308 users",
        "embeddings of 9,308 users and 6,710 items",
        "hnsw index with recall@20 0.9877 (search_width 57)",
        "4.2 MB",
    ]
