"""Folding in the items of a user of the training graph gives that user's final row, but for the ID row."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
import torch

from mmssl_dist.storage.export_names import fold_in_file
from tests.exported import export_run
from tests.jobs import training_job
from tests.training import publish_graph

GRAPHS = ("model.modality_graph.size=0", "losses.contrastive.weight=0")


@pytest.mark.processes
@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("model.item_graph.weight=0",),
        ("model.layers=1", "training.fanout=[3]"),
        ("model.layers=0", "model.item_graph.weight=0", "training.fanout=all"),
        ("model.feature_columns=6", "losses.adversarial.weight=0"),
    ],
    ids=["all", "no item graph", "one layer", "no layers", "feature columns"],
)
def test_sums_of_the_items_rows_are_the_final_row_but_for_the_own_id_row(tmp_path, sets):
    job = training_job(tmp_path, 2, 1, *GRAPHS, *sets)
    publish_graph(job)
    made = export_run(job)
    graph = made.graph
    tensors = [safetensors.numpy.load_file(tmp_path / "export" / fold_in_file(part)) for part in graph.parts]
    rows = {
        name: torch.from_numpy(np.concatenate([of_part[name] for of_part in tensors])) for name in tensors[0]
    }
    similar = {"similar", "own"} if made.exact.similar is not None else set()
    towers = () if job.model.feature_columns else ("image", "text")
    assert set(rows) == {"layers", *(f"tower/{modality}" for modality in towers)} | similar
    row_of = {node: row for row, node in enumerate((graph.items + graph.first).tolist())}
    compared = 0
    for user in graph.users.tolist():
        first, last = graph.training.indptr[user : user + 2].tolist()
        items = [row_of[node] for node in graph.training.neighbours[first:last].tolist()]
        if not items:
            continue
        folded = rows["layers"][items].sum(0) / len(items) ** 0.5
        if made.exact.similar is not None:
            folded = folded + job.model.item_graph.weight * rows["similar"][items].mean(0)
        for modality in towers:
            folded = folded + job.model.modality_weight * torch.nn.functional.normalize(
                rows[f"tower/{modality}"][items].sum(0), dim=0
            )
        own = made.id_rows[user] / (job.model.layers + 1)
        torch.testing.assert_close(folded, made.exact.final[user] - own, rtol=1e-5, atol=1e-5)
        compared += 1
    assert compared > 30
