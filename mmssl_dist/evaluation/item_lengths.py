"""How much the length of an item's row counts in the ranking: score(u, i) = |z_u| |z_i|^a cos(z_u, z_i).

With a = 1 that is the dot product. The softmax compares cosines and leaves lengths to grow with how often an
item is in a batch, so that a long row counts like popularity; data differ in how much of that they want.
"""

# n local nodes, m local items, D embedding

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from mmssl_dist.config.training_sections import LENGTH_EXPONENTS, Evaluation
from mmssl_dist.data.columns import VALIDATION
from mmssl_dist.evaluation.evaluate import held_out_users
from mmssl_dist.evaluation.metrics import metric_names
from mmssl_dist.evaluation.propagation import ExactRows, exact_layers, scale_items_, with_length
from mmssl_dist.evaluation.trained import DOT_PRODUCT, Trained
from mmssl_dist.exchange.exchange import Exchange
from mmssl_dist.sharding.partitions import LocalGraph

CHOOSING_USERS = 4096
"""Validation users that the exponent is chosen by; more would cost as much as the ranking itself."""


def fixed_exponent(settings: Evaluation) -> float:
    """The exponent that is ranked with where none has been chosen yet, as in training's validations."""
    return DOT_PRODUCT if settings.length_exponent == "auto" else settings.length_exponent


def rows_to_rank(settings: Evaluation, trained: Trained) -> tuple[Trained, ExactRows]:
    """The exact rows of a model with the exponent of the job, which is chosen here where it is "auto"
    (collective).

    Returns:
        ``trained`` with that exponent, and its rows.
    """
    trained = replace(trained, length_exponent=fixed_exponent(settings))
    exact = exact_layers(trained)
    if settings.length_exponent == "auto":
        chosen = choose_exponent(settings, trained.graph, exact.final, trained.exchange)
        # Scaled here: a second pass over the graph costs far more.
        scale_items_(exact.final, trained.graph.items, chosen)
        trained = replace(trained, length_exponent=chosen)
    return trained, exact


def choose_exponent(settings: Evaluation, graph: LocalGraph, rows: Tensor, exchange: Exchange) -> float:
    """The exponent with the best validation metric (collective).

    It is 1 unless another one is better by more than the standard error of the difference over users, and
    where nothing is held out for validation.

    Args:
        rows: [n, D] final rows of the local nodes, as trained.
    """
    if not exchange.max(len(graph.held_out[VALIDATION].neighbours)):
        return DOT_PRODUCT
    cutoff = int(settings.metric.split("@")[1])
    users = CHOOSING_USERS if settings.users == "all" else min(CHOOSING_USERS, settings.users)
    settings = settings.model_copy(update={"ks": (cutoff,), "users": users})
    column = metric_names(settings.ks).index(settings.metric)

    def values(item_rows: Tensor) -> Tensor:
        users = held_out_users(settings, graph, rows, exchange, splits=(VALIDATION,), item_rows=item_rows)
        return users[VALIDATION].values[:, column]

    item_rows = rows.index_select(0, graph.items.to(rows.device))
    as_trained = values(item_rows)
    best, gain = DOT_PRODUCT, 0.0
    for exponent in LENGTH_EXPONENTS:
        scaled = with_length(item_rows, exponent)
        if exchange.max(int(not torch.isfinite(scaled).all())):
            continue  # lengths whose power float32 cannot hold
        difference = values(scaled) - as_trained
        moments = torch.stack([torch.ones_like(difference), difference, difference.square()]).sum(1)
        mean, error = _mean_and_error(*exchange.sum(moments).tolist())
        # Rounded, since sums over another number of workers differ in their last digits.
        if round(mean, 8) > round(max(gain, error), 8):
            best, gain = exponent, mean
    return best


def _mean_and_error(count: float, total: float, squares: float) -> tuple[float, float]:
    """Mean and standard error of ``count`` values, from their sum and the sum of their squares; of fewer than
    two values the error is infinite."""
    if count < 2:
        return total, math.inf
    mean = total / count
    return mean, (max(squares - total * mean, 0.0) / (count - 1) / count) ** 0.5
