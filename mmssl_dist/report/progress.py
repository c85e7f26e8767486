"""Progress as plain lines: a few per stage and one per validated epoch, with the figures that matter. Pure
functions of what the stages publish; nothing here writes anywhere. The first line of a summary says most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from mmssl_dist.config.training_sections import LENGTH_EXPONENTS
from mmssl_dist.data.columns import HELD_OUT
from mmssl_dist.embedding.table_fit import TableFit

Facts = Mapping[str, Any]


def stage_lines(stage: str, summary: list[str], seconds: float) -> list[str]:
    """A finished stage, such as "partition: 4 parts by metis, edge cut 12.3 % (3.1 s)" and lines of
    detail."""
    return [f"{stage}: {summary[0]} ({duration(seconds)})", *(f"{stage}:   {line}" for line in summary[1:])]


def skipped_line(stage: str, url: str) -> str:
    """A stage whose published output matches its inputs."""
    return f"{stage}: up to date, {url}"


def training_lines(entry: Mapping[str, float], epochs: int, metric: str) -> list[str]:
    """What training reports: a validated epoch, or a checkpoint within one. The first line has the figures to
    watch, and fits a terminal; a second one has losses and times.

    Args:
        entry: one entry of the training history: "epoch" from 1, or 0 for the state that a training
            starts from, "best_epoch", "best" (the metric's value there), "train_seconds",
            "validation_seconds", "loss/<term>", the validation metrics and the figures of
            ``training.phases``; or "epoch", "step" from 1 and "steps" of a checkpoint.
        epochs: most epochs of the run.
        metric: the metric that stops training.
    """
    epoch = f"epoch {int(entry['epoch'])}/{epochs}"
    if "step" in entry:
        return [f"{epoch}: checkpoint after step {int(entry['step'])} of {int(entry['steps'])}"]
    if entry["epoch"] == 0:
        validated = duration(entry["validation_seconds"])
        return [f"earlier run: {metric} {entry[metric]:.4f} before the first step; validated {validated}"]
    terms = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
    losses = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    best = int(entry["best_epoch"])
    beside = "best so far" if best == int(entry["epoch"]) else f"best {entry['best']:.4f}, epoch {best}"
    figures = [f"{epoch}: {metric} {entry[metric]:.4f} ({beside})"]
    waited = ""
    if "rate/pairs" in entry:
        figures.append(f"{entry['rate/pairs']:,.0f} pairs/s")
        waited = f" ({percent(entry['share/waiting'])} waiting)"
    ahead = (epochs - entry["epoch"]) * (entry["train_seconds"] + entry["validation_seconds"])
    if ahead > 0:  # at most: training may stop early
        figures.append(f"{duration(ahead)} left")
    return [
        ", ".join(figures),
        f"loss {losses}; trained {duration(entry['train_seconds'])}{waited}, "
        f"validated {duration(entry['validation_seconds'])}",
    ]


def embeddings_summary(facts: Facts) -> list[str]:
    """What embed published: the facts of an "embeddings" manifest."""
    modalities = facts["modalities"]
    lines = [
        ", ".join(
            f"{name} {m['dimension']} wide for {count(m['items'])} items" for name, m in modalities.items()
        )
    ]
    for name, modality in modalities.items():
        lines += _columns(name, modality) if "fit" in modality else [_encoder(name, modality)]
        if modality["left_out"]:
            reasons = ", ".join(
                f"{count(number)} {reason}" for reason, number in modality["left_out"].items()
            )
            lines.append(f"{name}: left out: {reasons}; such as {', '.join(modality['examples'])}")
    return lines


def _encoder(name: str, modality: Facts) -> str:
    at = f" at {modality['revision'][:12]}" if modality["revision"] else ""
    taken = modality["items"] - modality["embedded"]
    known = f", {count(taken)} as before" if taken else ""
    return f"{name}: {modality['encoder']}{at}; {count(modality['embedded'])} embedded{known}"


def _columns(name: str, modality: Facts) -> Iterator[str]:
    """How the columns of features are encoded, and what is unusual of their values."""
    fit = TableFit.of_facts(modality["fit"])
    yield f"{name}: " + ", ".join(f"{column} {own.describe()}" for column, own in fit.columns.items())
    for column, occurrences in modality["occurrences"].items():
        for occurrence, entry in occurrences.items():
            examples = ", ".join(entry["examples"])
            yield f"{name}: {column}: {count(entry['items'])} {occurrence}, such as {examples}"


def dataset_summary(facts: Facts) -> list[str]:
    """What prepare published: the facts of a "dataset" manifest."""
    splits = facts["interactions"]
    modalities = ", ".join(
        (f"{name} {m['dimension']} wide" if m["dimension"] else f"{name} (to be embedded)")
        + (f" for {count(m['items'])} items" if m["items"] < facts["items"] else "")
        for name, m in facts["modalities"].items()
    )
    dropped = ", ".join(
        f"{count(n)} {reason.replace('_', ' ')}" for reason, n in facts["dropped"].items() if n
    )
    without = facts.get("items_without_features", 0)
    method = f" (split {facts['split']})" if "split" in facts else ""
    return [
        f"{count(facts['users'])} users, {count(facts['items'])} items, "
        f"{count(sum(splits.values()))} interactions",
        "interactions: " + ", ".join(f"{count(n)} {split}" for split, n in splits.items()) + method,
        f"features: {modalities}" + (f"; {count(without)} items have none" if without else ""),
        f"dropped: {dropped or 'nothing'}",
        *(f"{name}: {bounds}" for name, bounds in periods(facts)),
        f"ids: {facts['user_id_type']} of users, {facts['item_id_type']} of items",
    ]


def periods(dataset: Facts) -> list[tuple[str, str]]:
    """Names and bounds in time: of data.window, and of the interactions that have times."""
    names = {"window": "window", "period": "first and last interaction"}
    return [
        (label, f"{dataset[name]['from']} to {dataset[name]['to']}")
        for name, label in names.items()
        if name in dataset
    ]


def partitions_summary(facts: Facts) -> list[str]:
    """What partition published: the facts of a "partitions" manifest."""
    balance = ", ".join(f"{quantity} {value:.2f}" for quantity, value in facts["balance"].items())
    nearest = f"the {facts['item_neighbours']} nearest items of each, by modality"
    cold = count(facts["cold_items"]) if facts["cold_items"] else "no"
    return [
        f"{len(facts['book']['users'])} parts by {facts['method']}, edge cut {percent(facts['edge_cut'])}",
        f"balance, largest part over mean: {balance}",
        f"item-item graph: {nearest if facts['item_neighbours'] else 'none'}",
        *(
            _item_graph_line(modality, graph, left_out=modality in facts["left_out"])
            for modality, graph in facts.get("item_graphs", {}).items()
        ),
        *(
            f"{modality}: {facts['modalities'][modality]} of {reduced['from']} dimensions, "
            f"{percent(reduced['kept'])} of their squared length"
            for modality, reduced in facts.get("reduced", {}).items()
        ),
        f"{cold} items without training interactions (cold)",
        f"{size(facts['bytes'])} of {count(facts['edges'])} directed edges, features and lists",
    ]


def _item_graph_line(modality: str, graph: Facts, *, left_out: bool) -> str:
    """How often similar items are chosen together, and what follows from it."""
    seen = (
        f"{count(graph['listed'])} of {count(graph['pairs'])} sampled pairs of one user's items are similar"
    )
    line = f"{modality}: {seen}, {graph['by_chance']:.3g} by chance"
    if left_out:
        return (
            f"{line}; it says nothing of what users choose and is left out (partition.least_lift). Check "
            "that the ids, or the order, of its features are those of the items"
        )
    return line if graph["can_tell"] else f"{line}, which is too few or too many to judge by"


def _start_lines(start: Facts, metric: str) -> Iterator[str]:
    """About the run that a training started from, and whether little of this one was known there."""
    figures = start["figures"]
    taken, new = (
        ", ".join(f"{count(int(figures[f'{side}/{what}']))} {side}" for side in ("users", "items"))
        for what in ("taken", "new")
    )
    yield f"started from {start['run']}, {metric} {figures[metric]:.4f} before the first step"
    yield f"  rows of {taken} taken over; new: {new}"
    if any(figures[f"{side}/new"] > figures[f"{side}/taken"] for side in ("users", "items")):
        yield "more rows are new than were taken over: compare with a training from the beginning"


def training_summary(facts: Facts, metric: str) -> list[str]:
    """What train published: "epochs", "best", "best_epoch", "stopped_early" and "history"."""
    epochs = "1 epoch" if facts["epochs"] == 1 else f"{facts['epochs']} epochs"
    if facts["best"] is None:
        return [epochs]
    lines = [f"{epochs}, best validation {metric} {facts['best']:.4f} in epoch {facts['best_epoch']}"]
    if "start" in facts:
        lines += _start_lines(facts["start"], metric)
    if not facts.get("stopped_early", True):
        lines.append(
            "ended at training.epochs, before early stopping: raise it if the metric is still rising"
        )
    left_out = facts.get("left_out", {"users": 0, "interactions": 0})
    if left_out["users"]:
        lines.append(
            f"left out: {count(left_out['interactions'])} interactions of {count(left_out['users'])} user(s) "
            "who know every item"
        )
    history = facts["history"]
    ends = pairwise([0, *(entry["epoch"] for entry in history)])
    # An entry has the mean of the epochs since the one before.
    trained = sum(entry["train_seconds"] * (b - a) for entry, (a, b) in zip(history, ends, strict=True))
    validated = sum(entry["validation_seconds"] for entry in history)
    lines.append(f"time: {duration(trained)} of training, {duration(validated)} of validation")
    if timed := [entry for entry in history if "rate/pairs" in entry]:
        rate, waiting, local = (
            median(entry[name] for entry in timed)
            for name in ("rate/pairs", "share/waiting", "exchange/local")
        )
        lines.append(
            f"median epoch: {rate:,.0f} pairs/s, {percent(waiting)} of a step waiting, "
            f"{percent(local)} of rows local"
        )
        lines.append(f"peak memory of a worker: {size(max(entry['memory/resident'] for entry in timed))}")
    return lines


def evaluation_summary(metrics: Facts, metric: str) -> list[str]:
    """What evaluate published: metrics by split, popularity's under "baselines", those of cold items under
    "cold"."""
    lines = []
    # The test first: the first line of a summary says most.
    for split in reversed(HELD_OUT):
        if split in metrics:
            popular = metrics.get("baselines", {}).get("popularity", {}).get(split)
            beside = f" (popularity {popular[metric]:.4f})" if popular else ""
            lines.append(f"{split} {metric} {metrics[split][metric]:.4f}{beside}")
    for split, cold in metrics.get("cold", {}).items():
        if cold["items"] <= int(metric.rpartition("@")[2]):
            continue  # every list has them all
        counts = f"{count(cold['users'])} users, {count(cold['items'])} items"
        lines.append(f"cold {split} {metric} {cold[metric]:.4f} ({counts})")
    lines += score_lines(metrics)
    split = "test" if "test" in metrics else "validation"
    without = ", ".join(f"{m} {means[split][metric]:.4f}" for m, means in metrics.get("without", {}).items())
    return [*lines, f"{split} {metric} without {without}"] if without else lines


def score_lines(metrics: Facts) -> list[str]:
    """How scores are made, where they are no dot products."""
    exponent = metrics.get("length_exponent", 1.0)
    if exponent == 1:
        return []
    lines = [f"scores: cosine times the length of an item's row to the power of {exponent:g}"]
    if exponent >= max(LENGTH_EXPONENTS):
        lines.append(
            "popularity counts for much here: a higher losses.ranking.temperature, or losses.ranking.loss: "
            "bpr, may rank better (docs/tuning.md)"
        )
    return lines


def export_summary(facts: Facts) -> list[str]:
    """What export published: the facts of an "export" manifest."""
    users, index = count(facts["users"]), facts["index"]
    recall = index["recall"]
    searched = "".join(f" ({name} {index[name]})" for name in ("probes", "search_width") if name in index)
    return [
        lists_line(facts),
        f"embeddings of {users} users and {count(facts['items'])} items",
        f"{index['kind']} index with recall@{recall['at']} {recall['value']:.4f}{searched}",
        size(facts["bytes"]),
    ]


def lists_line(facts: Facts) -> str:
    """How the lists of an export were made, and for how many users."""
    lists = facts.get("lists", {"made": "exact", "users": facts["users"], "unknown_users": 0})
    if lists["made"] == "none":
        return "no lists (export.recommendations: none)"
    unknown = lists["unknown_users"]
    beside = f"; {count(unknown)} of export.users are not in the run" if unknown else ""
    line = f"top {facts['k']} for {count(lists['users'])} users"
    if lists["made"] == "exact":
        return line + beside
    overlap = lists["overlap"]
    return f"{line} by the index, with {percent(overlap['value'])} of the exact lists' items{beside}"


def count(number: int) -> str:
    """A whole number with thousands apart: 1,234,567."""
    return f"{number:,}"


def percent(fraction: float) -> str:
    """A fraction in percent: 12.3 %."""
    return f"{100 * fraction:.1f} %"


def size(number: float) -> str:
    """Bytes in decimal units: 999 B, 1.2 MB."""
    # The bounds here and below are where rounding would show 1000 B or 60.0 s.
    if number < 999.5:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as 4.2 s, 3 min 05 s or 2 h 07 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
