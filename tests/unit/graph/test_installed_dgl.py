"""Runs with DGL and, by `make quick-without-dgl`, without it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from mmssl_dist.errors import InputError
from mmssl_dist.graph.cut_method import chosen_method
from mmssl_dist.graph.installed_dgl import check_dgl, dgl_installed
from tests.jobs import make_job

HERE = find_spec("dgl") is not None


def test_metis_is_chosen_for_a_small_graph_only_where_it_is() -> None:
    assert dgl_installed() == HERE
    assert chosen_method(make_job().partition, nodes=100, interactions=1000) == (
        "metis" if HERE else "streaming"
    )


@pytest.mark.parametrize("named", ["training.sampler=dgl", "partition.method=metis"])
def test_what_only_dgl_does_is_refused_where_it_is_not(named: str) -> None:
    job, setting = make_job(named), named.split("=")[0]
    if HERE:
        check_dgl(job)
        return
    with pytest.raises(InputError, match=f"{setting}.*DGL is not installed.*{setting} to auto"):
        check_dgl(job)


@pytest.mark.parametrize(
    "named", ["training.sampler=auto", "training.sampler=device", "partition.method=random"]
)
def test_everything_else_is_taken_either_way(named: str) -> None:
    check_dgl(make_job(named))
