"""The report as one HTML file that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from mmssl_dist.data.columns import HELD_OUT, TEST, VALIDATION
from mmssl_dist.data.images import Image, Images
from mmssl_dist.report.charts import bar_chart, line_chart
from mmssl_dist.report.list_quality import Group, ListQuality, UserExample
from mmssl_dist.report.progress import count, percent, size
from mmssl_dist.report.tables import cells, rows_of_split

_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#222;max-width:1320px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:1.6em 0 .5em;border-bottom:1px solid #ddd}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(380px,1fr));gap:8px 18px}
.charts>div{break-inside:avoid}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#444}
svg .title{font-weight:600;font-size:13px;fill:#222}.grid{stroke:#e4e4e4}
.legend{margin:0 0 0 4em;font-size:12px}.legend span{display:inline-block;margin-right:1em}
.legend i{display:inline-block;width:10px;height:10px;margin-right:4px}
h3{margin:.3em 0}.side{display:flex;flex-wrap:wrap;gap:0 3em}
table{border-collapse:collapse}td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #eee}
td:first-child,th:first-child{text-align:left}.samples td,.samples th{text-align:left;vertical-align:top}
.samples td:first-child{white-space:nowrap}
.hit{background:#d8f0d8;font-weight:600}.ids span{display:inline-block;margin:0 6px 2px 0;padding:0 3px}
.ids .pic{width:78px;vertical-align:top;padding:3px;font-size:11px;line-height:1.25;overflow-wrap:anywhere}
.pic img{display:block;width:72px;height:72px;object-fit:contain;margin-bottom:2px}
.big{display:flex;flex-wrap:wrap;gap:10px;margin:1em 0}
.big div{background:#f4f6fa;padding:8px 14px;border-radius:6px}
.big b{display:block;font-size:1.35em}pre{background:#f6f6f6;padding:1em;overflow:auto;font-size:12px}
.pic i{display:block;width:72px;height:72px;margin-bottom:2px;background:#f1f1f1}
@page{margin:12mm}
@media print{body{max-width:none;margin:0;padding:0;font-size:11px;print-color-adjust:exact}
pre{white-space:pre-wrap;font-size:9px}
.charts{grid-template-columns:repeat(3,1fr);gap:2px 8px}.legend{margin-left:2em;font-size:9px}
.big div{padding:4px 9px}
h2{break-after:avoid;margin-top:1em}tr,.big div{break-inside:avoid}
.pic,.pic img,.pic i{width:52px}.pic img,.pic i{height:52px}.ids .pic{width:58px;font-size:9px}}
"""
Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ItemLabels:
    """What items are shown as, by the text of their id: titles, and images; without either they go by their
    ids."""

    titles: Mapping[str, str]
    images: Images


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that is known of a run.

    Attributes:
        title: the run's URL.
        model: the model's name.
        facts: "dataset", "partitions", "training", "evaluation", "export" -> facts of the manifest, of the
            stages that have published.
        missing: commands of the stages that have not.
        lists: the quality of the exported lists; None without an export.
        labels: titles and images of the items in ``lists``.
        job: the resolved job, as YAML.
        versions: package -> version.
        stamp: says what the report was made from; ``stamp_of`` finds it again.
    """

    title: str
    model: str
    facts: Facts
    missing: Sequence[str]
    lists: ListQuality | None
    labels: ItemLabels
    job: str
    versions: Mapping[str, str]
    stamp: str


def page(report: ReportContent) -> str:
    """The whole file; sections about what is not there are left out."""
    body = "".join(f"<h2>{escape(name)}</h2>{content}" for name, content in _sections(report) if content)
    # Everything from a run is escaped: ids, titles and paths may hold markup that others wrote.
    title = escape(report.title)
    missing = ", ".join(f"<code>mmssl-dist {escape(command)}</code>" for command in report.missing)
    note = f"<p>Not in this report, since it has not run: {missing}.</p>" if missing else ""
    return (
        f'<!DOCTYPE html>\n<!-- {report.stamp} -->\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
        "'unsafe-inline'; "
        'img-src data:"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"{note}{_headline(report)}{body}</body></html>\n"
    )


def _sections(report: ReportContent) -> Iterator[tuple[str, str]]:
    facts, lists = report.facts, report.lists
    training, metrics, partitions = map(facts.get, ("training", "evaluation", "partitions"))
    if metrics:
        yield "Metrics", _metrics(metrics, report.model)
    if training:
        yield "Training", _charts(_curves(training["history"]))
        yield "Speed", _charts(_speed(training["history"]))
    if lists or metrics:
        groups = _charts(_groups(lists)) if lists else ""
        cold = _cold(metrics, partitions) if metrics and partitions else ""
        yield "For whom, and which items", groups + cold
    if metrics and training:
        yield "What each modality contributes", _contributions(metrics, cutoff(training["metric"]))
    if partitions:
        yield "Graph", _charts(_graph(partitions, lists))
    if lists:
        yield "Examples", _examples(lists, report.labels)
    yield "Versions", _table(("package", "version"), report.versions.items())
    yield "Job", f"<pre>{escape(report.job)}</pre>"


def cutoff(metric: str) -> int:
    """K of a metric such as recall@20."""
    return int(metric.split("@")[1])


def stamp_of(content: str) -> str | None:
    """What a report was made from, or None for any other file."""
    lines = content.split("\n", 2)
    is_one = len(lines) > 2 and lines[1].startswith("<!-- ")
    return lines[1].removeprefix("<!-- ").removesuffix(" -->") if is_one else None


def _headline(report: ReportContent) -> str:
    figures = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in _figures(report))
    return f'<div class="big">{figures}</div>' if figures else ""


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
    if "training" in facts:
        yield "best epoch", f"{facts['training']['best_epoch']} of {facts['training']['epochs']}"
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
    return f'<div class="side">{"".join(parts)}</div>'


def _curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Every loss by itself, every kind of metric with its cut-offs together, and the times."""
    if not history:
        return []
    epochs = [entry["epoch"] for entry in history]
    names = [name for name in history[0] if name != "epoch"]
    charts = []
    measures = dict.fromkeys(name.split("@")[0] for name in names if "@" in name)
    for measure in measures:
        lines = {name: [entry[name] for entry in history] for name in names if name.startswith(f"{measure}@")}
        charts.append(line_chart(f"validation {measure}", epochs, lines, "epoch"))
    for name in names:
        if name.startswith("loss/"):
            values = [entry[name] for entry in history]
            charts.append(line_chart(f"loss: {name.removeprefix('loss/')}", epochs, {name: values}, "epoch"))
    times = {
        name.removesuffix("_seconds"): [entry[name] for entry in history]
        for name in names
        if name.endswith("_seconds")
    }
    charts.append(line_chart("seconds since the last validation", epochs, times, "epoch"))
    return charts


def _speed(history: Sequence[Mapping[str, float]]) -> list[str]:
    """What a step's phases took, and rates, of the epochs that have them."""
    measured = [entry for entry in history if "share/waiting" in entry]
    if not measured:
        return []
    epochs = [entry["epoch"] for entry in measured]

    def chart(title: str, lines: Mapping[str, str]) -> str:
        return line_chart(
            title, epochs, {label: [e[name] for e in measured] for label, name in lines.items()}, "epoch"
        )

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
    """Recall of the trained model, and with one modality left out each; nothing where it was not looked
    for."""
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
    for exponent in range(int(positive.min(initial=99)), int(positive.max(initial=0)) + 1):
        low, high = 2**exponent, 2 ** (exponent + 1) - 1
        name = str(low) if low == high else f"{low}-{high}"
        bars[name] = float(((exponents == exponent) & (degrees > 0)).sum())
    return bars


def _examples(lists: ListQuality, labels: ItemLabels) -> str:
    rows = "".join(_example(example, labels) for example in lists.examples)
    missing = ", ".join(
        f"{count(items)} {reason}" for reason, items in sorted(labels.images.left_out.items())
    )
    note = f" Items without an image: {escape(missing)}." if missing else ""
    return (
        f"<p>Green: in the held-out test items.{note}</p><table "
        'class="samples"><tr><th>user</th><th>history</th>'
        f"<th>recommended, best first</th></tr>{rows}</table>"
    )


def _example(example: UserExample, labels: ItemLabels) -> str:
    more = example.known - len(example.history)
    history = "".join(_item(item, labels) for item in example.history) + (f"and {more} more" if more else "")
    marked = "".join(
        _item(item, labels, hit) for item, hit in zip(example.recommended, example.hits, strict=True)
    )
    return (
        f'<tr><td>{escape(str(example.user))}</td><td class="ids">{history}</td>'
        f'<td class="ids">{marked}</td></tr>'
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
    """The label beside it says what it shows, so it has no text of its own; an empty place where there is
    none."""
    if image is None:
        return "<i></i>"
    return f'<img alt="" src="data:{image.media_type};base64,{b64encode(image.content).decode()}">'


def _charts(charts: Iterable[str]) -> str:
    return '<div class="charts">' + "".join(f"<div>{chart}</div>" for chart in charts if chart) + "</div>"


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in line) + "</tr>" for line in lines
    )
    return "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + f"</tr>{rows}</table>"
