"""The report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from mmssl_dist.data.columns import HELD_OUT, TEST, VALIDATION
from mmssl_dist.data.images import Image
from mmssl_dist.report.charts import bar_chart, line_chart
from mmssl_dist.report.list_quality import Group, ListQuality, UserExample
from mmssl_dist.report.progress import count, lists_line, percent, periods, score_lines, size
from mmssl_dist.report.report_content import ItemLabels, ReportContent
from mmssl_dist.report.style import STYLE
from mmssl_dist.report.tables import cells, cutoff, rows_of_split

# Least spans of an axis, as shares of the largest value: less than that is noise. Times and rates of epochs
# differ by a third on a machine that does other work as well.
_LEAST_SPAN = 0.1
_LEAST_SPAN_OF_SPEED = 0.6
_METRIC_TERMS = (
    ("recall", "share of a user's held-out items among the first K"),
    ("precision", "share of the first K that are held-out items"),
    ("ndcg", "recall that counts an item near the top for more; 1 where all held-out items come first"),
    ("hit_rate", "share of users with a held-out item among the first K"),
    ("mrr", "mean of 1 / the rank of a user's first held-out item, 0 where none is among the first K"),
)
_WITH_HELD_OUT = (
    "The lists looked at here leave out training items alone, so that held-out items can be among them. The "
    "exported lists leave those out as well."
)
_TERMS = (
    ("novelty", "mean of -log2 of the share of users who know a listed item; 1 bit more is half as popular"),
    ("edge cut", "share of interactions whose user and item lie in different partitions"),
    ("training interactions", "what the model learned from; validation chose the epoch, test is reported"),
)


def page(report: ReportContent) -> str:
    """The whole file; sections about what is not there are left out."""
    sections = [(name, content) for name, content in _sections(report) if content]
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{content}</section>'
        for name, content in sections
    )
    contents = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _ in sections)
    # Everything from a run is escaped: ids, titles and paths may hold markup that others wrote.
    title = escape(report.title)
    missing = ", ".join(f"<code>mmssl-dist {escape(command)}</code>" for command in report.missing)
    note = f"<p>Not in this report, since it has not run: {missing}.</p>" if missing else ""
    # Nothing may run or load, whatever slips through. The empty icon keeps browsers from asking for one.
    return (
        f'<!DOCTYPE html>\n<!-- {report.stamp} -->\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'; "
        'img-src data:"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="about">{escape(report.about)}</p>'
        f"{note}{_headline(report)}<nav>{contents}</nav>{body}</body></html>\n"
    )


def _sections(report: ReportContent) -> Iterator[tuple[str, str]]:
    facts, lists = report.facts, report.lists
    training, metrics, partitions = (facts.get(name) for name in ("training", "evaluation", "partitions"))
    if "export" in facts:
        yield "Examples", _examples(lists, report.labels, lists_line(facts["export"]))
    if lists or metrics:
        groups = _looked_at(lists) + _charts(_groups(lists)) if lists else ""
        cold = _cold(metrics, partitions) if metrics and partitions else ""
        yield "For whom, and which items", groups + cold
    if metrics and training:
        yield "What each modality contributes", _contributions(metrics, cutoff(training["metric"]))
    if metrics:
        yield "Metrics", _metrics(metrics, report.model)
    if "dataset" in facts:
        yield "Data", _data(facts["dataset"])
    if training:
        yield "Training", _charts(_curves(training["history"], training["best_epoch"]))
        yield "Speed", _charts(_speed(training["history"], training["best_epoch"]))
    if partitions:
        yield "Graph", _charts(_graph(partitions, lists))
    yield "Versions", _table(("package", "version"), report.versions.items())
    yield "Job", f"<pre>{escape(report.job)}</pre>"


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def stamp_of(content: str) -> str | None:
    """What a report was made from, or None for any other file."""
    lines = content.split("\n", 2)
    is_one = len(lines) > 2 and lines[1].startswith("<!-- ")
    return lines[1].removeprefix("<!-- ").removesuffix(" -->") if is_one else None


def _headline(report: ReportContent) -> str:
    figures = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in _figures(report))
    # Only terms whose figure is shown.
    terms = _explained(entry for entry in _TERMS if f"{entry[0]}</div>" in figures)
    return f'<div class="big">{figures}</div>{terms}' if figures else ""


def _explained(terms: Iterable[tuple[str, str]]) -> str:
    """Terms, each with what it means."""
    entries = "".join(f"<dt>{term}: </dt><dd>{text}</dd>" for term, text in terms)
    return f'<dl class="terms">{entries}</dl>'


def _figures(report: ReportContent) -> Iterator[tuple[str, str]]:
    """The figures at the top: name and value."""
    facts, lists = report.facts, report.lists
    if "training" in facts and "evaluation" in facts:
        metric, metrics = facts["training"]["metric"], facts["evaluation"]
        split = TEST if TEST in metrics else VALIDATION
        popular = metrics["baselines"]["popularity"].get(split, {}).get(metric)
        ours = metrics.get(split, {}).get(metric)
        yield f"{split} {metric}", "-" if ours is None else f"{ours:.4f}"
        yield f"popularity's {metric}", "-" if popular is None else f"{popular:.4f}"
        if report.uplift is not None:
            up = report.uplift
            yield f"over popularity; 95 % interval {up.low:+.0%} to {up.high:+.0%}", f"{up.value:+.0%}"
    if "training" in facts:
        yield "best epoch", f"{facts['training']['best_epoch']} of {facts['training']['epochs']}"
    for name, own in facts.get("embeddings", {}).get("modalities", {}).items():
        maker = ", ".join(own["fit"]) if "fit" in own else f"embedded by {own['encoder']}"
        yield f"items with {name}, {maker}", count(own["items"])
    if "dataset" in facts:
        dataset = facts["dataset"]
        yield "users", count(dataset["users"])
        yield "items", count(dataset["items"])
        yield "training interactions", count(dataset["interactions"]["train"])
    if lists:
        yield f"items in some top {lists.k}", percent(lists.coverage)
        yield "novelty", f"{lists.novelty:.1f} bits"
    if "partitions" in facts:
        yield "edge cut", percent(facts["partitions"]["edge_cut"])
    if "export" in facts:
        yield "export", size(facts["export"]["bytes"])


def _metrics(metrics: Mapping[str, Any], model: str) -> str:
    parts = []
    for split in HELD_OUT:
        if split in metrics:
            head, lines = cells(rows_of_split(metrics, split, model))
            parts.append(f"<div><h3>{split}</h3>{_table(head, lines)}</div>")
    notes = "".join(f"<p>{escape(line)}</p>" for line in score_lines(metrics))
    return f'<div class="side">{"".join(parts)}</div>{notes}{_explained(_METRIC_TERMS)}'


def _data(dataset: Mapping[str, Any]) -> str:
    """Rows by split, rows that were dropped and why, and how many items have each modality."""
    rows = [(f"{split} interactions", count(n)) for split, n in dataset["interactions"].items()]
    dropped = dataset.get("dropped", {})
    rows += [(f"dropped: {reason.replace('_', ' ')}", count(n)) for reason, n in dropped.items() if n]
    rows += [] if any(dropped.values()) else [("dropped", "nothing")]
    rows += periods(dataset)
    for name, modality in dataset.get("modalities", {}).items():
        share = percent(modality["items"] / max(1, dataset["items"]))
        label = f"items with {name} ({modality['dimension']} values)"
        rows.append((label, f"{count(modality['items'])} of {count(dataset['items'])} ({share})"))
    return _table(("", "number"), rows)


def _curves(history: Sequence[Mapping[str, float]], best: float) -> list[str]:
    """Each loss, each kind of metric with all cut-offs, and the times; the chosen epoch is marked."""
    if not history:
        return []
    epochs = [entry["epoch"] for entry in history]
    names = [name for name in history[0] if name != "epoch"]
    charts = []
    measures = dict.fromkeys(name.split("@")[0] for name in names if "@" in name)
    for measure in measures:
        lines = {name: [entry[name] for entry in history] for name in names if name.startswith(f"{measure}@")}
        charts.append(_curve(f"validation {measure}", epochs, lines, best))
    for name in names:
        if name.startswith("loss/"):
            values = [entry[name] for entry in history]
            charts.append(_curve(f"loss: {name.removeprefix('loss/')}", epochs, {name: values}, best))
    times = {
        name.removesuffix("_seconds"): [entry[name] for entry in history]
        for name in names
        if name.endswith("_seconds")
    }
    charts.append(
        _curve(
            title="seconds since the last validation",
            epochs=epochs,
            lines=times,
            best=best,
            least_span=_LEAST_SPAN_OF_SPEED,
        )
    )
    return charts


def _curve(
    title: str,
    epochs: list[float],
    lines: Mapping[str, Sequence[float]],
    best: float,
    least_span: float = _LEAST_SPAN,
) -> str:
    return line_chart(title, epochs, lines, "epoch", chosen=best, least_span=least_span)


def _speed(history: Sequence[Mapping[str, float]], best: float) -> list[str]:
    """What a step's phases took, and rates, of the epochs that have them."""
    measured = [entry for entry in history if "share/waiting" in entry]
    if not measured:
        return []
    epochs = [entry["epoch"] for entry in measured]

    def chart(title: str, lines: Mapping[str, str]) -> str:
        values = {label: [entry[name] for entry in measured] for label, name in lines.items()}
        return _curve(title=title, epochs=epochs, lines=values, best=best, least_span=_LEAST_SPAN_OF_SPEED)

    medians = {
        name.split("/")[1]: name
        for name in measured[0]
        if name.startswith("seconds/") and name.endswith("/p50")
    }
    # The sum of the others, which would dwarf them in one chart.
    del medians["step"]
    return [
        chart("median seconds by phase (sample: beside)", medians),
        chart("training pairs per second", {"pairs": "rate/pairs"}),
        chart("share of a step spent waiting", {"for a batch or another worker": "share/waiting"}),
        chart("share of rows that are local", {"rows": "exchange/local"}),
    ]


def _groups(lists: ListQuality) -> list[str]:
    recall = f"recall@{lists.k}"

    def chart(title: str, groups: Sequence[Group], x_label: str) -> str:
        bars = {group.name: group.recall for group in groups}
        notes = {group.name: f"{group.recall:.3f}\n({count(group.members)})" for group in groups}
        return bar_chart(title, bars, x_label, notes)

    return [
        chart(f"test {recall} by user activity (users)", lists.by_activity, "training items of the user"),
        chart(f"test {recall} by item popularity (items)", lists.by_popularity, "training users of the item"),
    ]


def _cold(metrics: Mapping[str, Any], partitions: Mapping[str, Any]) -> str:
    lines = []
    for split, means in metrics.get("cold", {}).items():
        values = (f"{means[name]:.4f}" for name in means if "@" in name)
        lines.append((split, *values, count(means["users"]), count(means["items"])))
    note = f"<p>{count(partitions['cold_items'])} items have no training interactions (cold).</p>"
    if not lines:
        return note
    names = [name for name in next(iter(metrics["cold"].values())) if "@" in name]
    return note + _table(("cold items ranked among themselves", *names, "users", "items"), lines)


def _contributions(metrics: Mapping[str, Any], k: int) -> str:
    """Recall of the trained model and with each modality left out; empty where that was not measured."""
    if "without" not in metrics:
        return ""
    split = TEST if TEST in metrics else VALIDATION
    name = next(name for name in (f"recall@{k}", *metrics[split]) if name in metrics[split])
    bars = {"all": metrics[split][name]}
    bars |= {f"without {modality}": means[split][name] for modality, means in metrics["without"].items()}
    notes = {
        label: f"{value:.4f} ({value / bars['all'] - 1:+.0%})" if bars["all"] else f"{value:.4f}"
        for label, value in bars.items()
        if label != "all"
    }
    notes["all"] = f"{bars['all']:.4f}"
    chart = bar_chart(f"{split} {name}, a modality left out", bars, "as trained beside it", notes)
    return _charts([chart])


def _graph(partitions: Mapping[str, Any], lists: ListQuality | None) -> list[str]:
    cut = partitions["edge_cut"]
    charts = [
        bar_chart(
            "edges",
            {"within a partition": 1 - cut, "cut": cut},
            f"{count(partitions['edges'])} directed edges",
        ),
        bar_chart("balance: largest over mean partition", partitions["balance"], "1 is even"),
    ]
    item_graphs = partitions.get("item_graphs", {})
    lifts = {m: own["lift"] for m, own in item_graphs.items() if own["lift"] is not None}
    if lifts:
        left_out = {m: f"{lifts[m]:.3g}, left out" for m in partitions["left_out"]}
        notes = {m: f"{lift:.3g}" for m, lift in lifts.items()} | left_out
        name = "similar items with a training user in common"
        charts.append(bar_chart(name, lifts, "times as often as by chance", notes))
    if lists is None:
        return charts
    return [
        *charts,
        bar_chart("users by number of training items", _histogram(lists.user_degrees), "training items"),
        bar_chart("items by number of training users", _histogram(lists.item_degrees), "training users"),
    ]


def _histogram(degrees: np.ndarray) -> dict[str, float]:
    """Counts by powers of two, zero apart."""
    bars = {"0": float((degrees == 0).sum())} if (degrees == 0).any() else {}
    exponents = np.floor(np.log2(np.maximum(degrees, 1))).astype(int)
    positive = exponents[degrees > 0]
    # Without a positive degree the range is empty.
    for exponent in range(int(positive.min(initial=99)), int(positive.max(initial=0)) + 1):
        low, high = 2**exponent, 2 ** (exponent + 1) - 1
        name = str(low) if low == high else f"{low}-{high}"
        bars[name] = float(((exponents == exponent) & (degrees > 0)).sum())
    return bars


def _examples(lists: ListQuality | None, labels: ItemLabels, made: str) -> str:
    if lists is None:
        return f"<p>{escape(made)}</p>"
    rows = "".join(_example(example, labels) for example in lists.examples)
    missing = ", ".join(
        f"{count(items)} {reason}" for reason, items in sorted(labels.images.left_out.items())
    )
    note = f" Items without an image: {escape(missing)}." if missing else ""
    return (
        f"<p>Of {escape(made)}. Green: in the held-out test items.{note}</p>{_looked_at(lists)}<table "
        'class="samples"><tr><th>user</th><th>history</th>'
        f"<th>recommended, best first</th><th>popularity's list</th></tr>{rows}</table>"
    )


def _looked_at(lists: ListQuality) -> str:
    """Which lists a section is of, where they are not the exported ones."""
    return f"<p>{_WITH_HELD_OUT}</p>" if lists.exclude == "known" else ""


def _example(example: UserExample, labels: ItemLabels) -> str:
    more = example.known - len(example.history)
    history = "".join(_item(item, labels) for item in example.history) + (f"and {more} more" if more else "")
    lists = {
        "recommended": zip(example.recommended, example.hits, strict=True),
        "popularity's list": zip(example.popular, example.popular_hits, strict=True),
    }
    marked = "".join(
        f'<td class="ids" data-name="{name}">{"".join(_item(item, labels, hit) for item, hit in pairs)}</td>'
        for name, pairs in lists.items()
    )
    return (
        f'<tr><td data-name="user">{escape(str(example.user))}</td>'
        f'<td class="ids" data-name="history">{history}</td>{marked}</tr>'
    )


def _item(item: object, labels: ItemLabels, hit: bool = False) -> str:
    """An item by its image and title, which then tells its id to the mouse, or by its id."""
    name = str(item)
    image, title = labels.images.by_item.get(name), labels.titles.get(name)
    marks = " ".join(mark for mark, on in (("pic", labels.images.by_item), ("hit", hit)) if on)
    attributes = (f' class="{marks}"' if marks else "") + (
        f' title="{escape(name)}"' if title is not None else ""
    )
    label = escape(name if title is None else title)
    return f"<span{attributes}>{_picture(image) if labels.images.by_item else ''}{label}</span>"


def _picture(image: Image | None) -> str:
    """Without a text of its own, since the label beside it says what it shows; empty if there is none."""
    if image is None:
        return "<i></i>"
    return f'<img alt="" src="data:{image.media_type};base64,{b64encode(image.content).decode()}">'


def _charts(charts: Iterable[str]) -> str:
    drawn = "".join(f"<div>{chart}</div>" for chart in charts if chart)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in line) + "</tr>" for line in lines
    )
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{names}</tr>{rows}</table></div>'
