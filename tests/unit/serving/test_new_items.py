"""An item that was held out gets, from its features, the row that the model gives it where it is in the
catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmssl_dist.config import Job
from mmssl_dist.errors import InputError
from mmssl_dist.evaluation.propagation import exact_layers
from mmssl_dist.evaluation.trained import Trained
from mmssl_dist.exchange.worker import Worker
from mmssl_dist.graph.co_occurrence import CoOccurrence
from mmssl_dist.graph.partition import partition
from mmssl_dist.graph.partition_files import load_ids
from mmssl_dist.launch.worker_data import load_local_graph
from mmssl_dist.serving.new_items import lengths, unit
from mmssl_dist.serving.run import Run, open_run
from mmssl_dist.storage import open_location, require_manifest
from mmssl_dist.training.state import make_model
from tests.artifacts import write_dataset
from tests.exported import Exported, export_run
from tests.jobs import training_job

USERS, ITEMS, HELD = 20, 24, 23  # the last item is held out
WIDTHS = {"image": 5, "text": 7}
GRAPHS = ("model.modality_graph.size=0", "losses.contrastive.weight=0", "partition.standardize=false")


def raw_features() -> dict[str, np.ndarray]:
    """Features of all items; the held-out one's lie far out, so that it is nobody's neighbour."""
    rng = np.random.default_rng(5)
    features = {m: rng.normal(size=(ITEMS, width)).astype(np.float32) + 2 for m, width in WIDTHS.items()}
    for rows in features.values():
        rows[HELD] = -rows[HELD]
    return features


def publish(output: Path, items: int, *sets: str) -> Exported:
    """A run of the first ``items`` items; nobody has chosen the last, and the first lacks its text."""
    job = training_job(output, 2, 1, *GRAPHS, *sets)
    rng = np.random.default_rng(1)
    pairs = [(u, int(i)) for u in range(USERS) for i in rng.choice(HELD, 4, replace=False)]
    having = {"image": np.arange(items), "text": np.arange(1, items)}
    features = {m: (having[m], rows[having[m]]) for m, rows in raw_features().items()}
    names = [f"u{user}" for user in range(USERS)], [f"i{item}" for item in range(items)]
    partition(job, write_dataset(output / "dataset", pairs, [], [], features, *names))
    return export_run(job)


def nodes_of_items(job: Job) -> dict[str, int]:
    """Row of each item among the nodes, by external id."""
    location = open_location(job.output, job.storage) / "partitions"
    manifest = require_manifest(location, "partitions", "partition")
    graph = load_local_graph(
        job,
        Worker(
            rank=0, world_size=1, device=torch.device("cpu"), cache=Path(job.output) / "cache", group=None
        ),
    )
    ids = [load_ids(location, manifest, part, Path(job.output) / "cache")[1] for part in graph.parts]
    return dict(zip(pa.concat_arrays(ids).to_pylist(), graph.items.tolist(), strict=True))


def row_in_the_catalogue(whole: Exported, without: Exported) -> np.ndarray:
    """The model's own final row of the held-out item, all others having the ID rows that they have without
    it."""
    job = whole.job
    here, without_nodes = nodes_of_items(job), nodes_of_items(without.job)
    id_rows = torch.zeros_like(whole.id_rows)  # the held-out item's stays zero: nobody has learned it
    for item, node in without_nodes.items():
        id_rows[here[item]] = without.id_rows[node]
    worker = Worker(
        rank=0, world_size=1, device=torch.device("cpu"), cache=Path(job.output) / "cache", group=None
    )
    model, exchange = make_model(job, whole.graph), whole.graph.exchange(worker)
    exact = exact_layers(
        Trained(model=model, id_rows=id_rows, graph=whole.graph, views={}, exchange=exchange)
    )
    return exact.final[here[f"i{HELD}"]].numpy()


@pytest.mark.processes
@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("model.item_graph.weight=0",),
        ("model.item_graph.learned=true",),
        ("model.feature_columns=6", "losses.adversarial.weight=0"),
    ],
    ids=["item graph", "no item graph", "learned shares", "feature columns"],
)
def test_a_held_out_item_gets_the_model_s_own_row(tmp_path, sets):
    whole, without = publish(tmp_path / "whole", ITEMS, *sets), publish(tmp_path / "without", HELD, *sets)
    run = open_run(str(tmp_path / "without"))
    features = {m: rows[HELD].tolist() for m, rows in raw_features().items()}
    np.testing.assert_allclose(
        run.new_item(features), row_in_the_catalogue(whole, without), rtol=1e-5, atol=1e-5
    )


@pytest.mark.processes
def test_a_modality_that_is_left_out_counts_nothing(tmp_path, monkeypatch):
    answers = iter([True, False])  # of so few items no sample could tell
    monkeypatch.setattr(CoOccurrence, "is_chance", lambda self, lift: next(answers))
    publish(tmp_path, ITEMS, "partition.least_lift=1")
    run = open_run(str(tmp_path))
    assert run.partitions.manifest.facts["left_out"] == ["image"]
    features = {m: rows[HELD].tolist() for m, rows in raw_features().items()}
    np.testing.assert_array_equal(run.new_item(features), run.new_item({"text": features["text"]}))
    with pytest.raises(InputError, match="features: found image; partition left that out"):
        run.new_item({"image": features["image"]})


@pytest.mark.processes
@pytest.mark.parametrize("dimensions", [0, 3])
def test_features_are_standardized_as_those_of_training_and_missing_ones_count_nothing(tmp_path, dimensions):
    """Without the item-item graph an item's row is its tower's: for one without interactions, its row in the
    export but for its own ID row."""
    reduced = f"partition.feature_dimensions={dimensions}"
    made = publish(
        tmp_path,
        ITEMS,
        "partition.standardize=true",
        "partition.method=random",
        "model.item_graph.weight=0",
        reduced,
    )
    run = open_run(str(tmp_path))
    position, node = run.items.position(f"i{HELD}"), nodes_of_items(made.job)[f"i{HELD}"]
    own = made.id_rows[node].numpy() / (made.job.model.layers + 1)
    features = {m: rows[HELD].tolist() for m, rows in raw_features().items()}
    np.testing.assert_allclose(
        run.new_item(features), run.item_embeddings[position] - own, rtol=1e-5, atol=1e-5
    )
    separate = [run.new_item({m: features[m]}) for m in WIDTHS]
    np.testing.assert_allclose(sum(separate), run.new_item(features), rtol=1e-5, atol=1e-6)


@pytest.mark.processes
def test_neighbours_of_reduced_features_are_those_of_the_item_graph(tmp_path):
    """An item whose features are those of one of the catalogue is nearest to it."""
    publish(tmp_path, ITEMS, "partition.method=random", "partition.feature_dimensions=3")
    run, features = open_run(str(tmp_path)), {m: rows[4].tolist() for m, rows in raw_features().items()}
    assert run.new_item(features).shape == (run.item_embeddings.shape[1],)
    with pytest.raises(InputError, match=r"the run's modalities are image \(5 values\), text \(7 values\)"):
        run.new_item({"image": [0.0] * 3})


def test_similar_items_and_users_of_a_new_item_by_hand(run: Run) -> None:
    features = {"image": [0.3] * 5, "text": [-0.2, 0.1, 0.5, 0.0, 1.0, -1.0]}
    row = run.new_item(features)
    units = run.item_embeddings / np.linalg.norm(run.item_embeddings, axis=1, keepdims=True)
    cosine = units @ (row / np.linalg.norm(row))
    similar = run.similar_to_new(features, k=4)
    assert similar.items == run.items.at(np.argsort(-cosine)[:4])
    np.testing.assert_allclose(similar.scores, np.sort(cosine)[::-1][:4], rtol=1e-4)
    scores = run.user_embeddings @ row
    best = run.users_for_new(features, k=3)
    assert best.users == run.users.at(np.argsort(-scores)[:3])
    np.testing.assert_allclose(best.scores, np.sort(scores)[::-1][:3], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "features: found none; the run's modalities are image (5 values), text (6 values)"),
        (
            {"sound": [1.0]},
            "features: found sound; the run's modalities are image (5 values), text (6 values)",
        ),
        ({"image": [1.0]}, "features.image: found shape [1]; the run's modalities are"),
        ({"image": [1.0, 2.0, float("nan"), 1.0, 1.0]}, "features.image: found a value that is not finite"),
        (
            {"image": [1.0, 1e39, 0.0, 1.0, 1.0]},
            "features.image: found a value that is not finite in float32",
        ),
        (
            {"image": [1.0, -1e300, 0.0, 1.0, 1.0]},
            "features.image: found a value that is not finite in float32",
        ),
        ({"image": ["a"] * 5}, "features.image: found something else; a list of numbers"),
    ],
)
def test_bad_features_are_told_in_one_sentence(run, features, message):
    with pytest.raises(InputError) as caught:
        run.new_item(features)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("size", [1e8, 1e20, 1e30, 1e37])
def test_large_features_have_the_neighbours_of_their_direction(run, size):
    """Squares of such values are beyond float32."""
    direction = np.asarray([0.5, 0.1, -0.3, 0.2, 1.0])
    moderate = run.similar_to_new({"image": direction * 1e6}, k=8)
    large = run.similar_to_new({"image": direction * size}, k=8)
    assert large.items == moderate.items
    np.testing.assert_allclose(large.scores, moderate.scores, rtol=1e-3, atol=1e-5)
    assert np.isfinite(run.users_for_new({"image": direction * size}, k=3).scores).all()


def test_lengths_and_directions_of_any_float32_rows():
    rows = np.asarray([[3e38, -3e38], [3e-30, 4e-30], [3.0, 4.0], [0.0, 0.0], [2e19, 0.0]], np.float32)
    np.testing.assert_allclose(lengths(rows), [3e38 * 2**0.5, 5e-30, 5.0, 0.0, 2e19], rtol=1e-6)
    np.testing.assert_allclose(
        unit(rows), [[0.5**0.5, -(0.5**0.5)], [0, 0], [0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6
    )
