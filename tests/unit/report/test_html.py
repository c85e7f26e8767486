"""report.html: right figures, nothing outside it, and no complaint of a real browser."""

from __future__ import annotations

import re
import shutil
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.image_header import raster_of
from mmssl_dist.errors import InputError
from mmssl_dist.report import html
from mmssl_dist.report.html import write_report
from mmssl_dist.report.list_quality import measure_lists
from mmssl_dist.serving.run import open_run
from mmssl_dist.storage import Manifest, open_location, publish
from tests.browser import console_of, widths_of
from tests.exported import dataset_items, publish_run
from tests.pictures import PICTURES

METRICS = {"recall@10": 0.25, "ndcg@10": 0.125}


@pytest.fixture(scope="module")
def reported(output, tmp_path_factory) -> Path:
    """The exported run with a history and metrics of our own making, and its report."""
    run = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(output, run)
    history = [
        {
            "epoch": float(n),
            "train_seconds": 1.0,
            "validation_seconds": 0.1,
            "loss/bpr": 1 / n,
            "loss/l2": 0.5,
            "recall@10": 0.1 * n,
            "ndcg@10": 0.05 * n,
        }
        for n in (1, 2, 3)
    ]
    speed = {
        "seconds/step/p50": 0.3,
        "seconds/step/p95": 0.5,
        "seconds/wait/p50": 0.1,
        "seconds/critic/p50": 0.2,
        "rate/pairs": 900.0,
        "share/waiting": 0.4,
        "exchange/local": 0.5,
    }
    history[1:] = [
        entry | speed for entry in history[1:]
    ]  # an epoch that was resumed at its end tells nothing
    training = {"metric": "recall@10", "best": 0.3, "best_epoch": 3, "epochs": 3, "history": history}
    training["machine"] = {"workers": 2, "cores": 16, "memory": 137_438_953_472, "gpu": "NVIDIA <H200>"}
    cold = {"test": {**METRICS, "users": 3, "items": 2}}
    without = {"image": {"validation": METRICS, "test": {"recall@10": 0.2, "ndcg@10": 0.1}}}
    evaluation = {
        "validation": METRICS,
        "test": METRICS,
        "cold": cold,
        "without": without,
        "baselines": {"popularity": {"validation": METRICS, "test": METRICS}},
    }
    for artifact, facts in (("training", training), ("evaluation", evaluation)):
        publish(
            open_location(f"{run}/{artifact}", Storage()), Manifest(artifact, "made by a test", facts, {})
        )
    (run / "raw").mkdir()
    (run / "raw" / "titles.csv").write_text(
        "item_id,year,title\n" + "".join(f"{item},1999,Film & {item}\n" for item in range(100, 130, 2))
    )
    _write_images(run, list(PICTURES.values()) * 3)
    (run / "job.yaml").write_text(_job(run))
    write_report(str(run), Storage())
    return run


def _write_images(run: Path, contents: list[bytes]) -> None:
    """Of items 100, 101 and so on."""
    items = list(range(100, 100 + len(contents)))
    pq.write_table(pa.table({"item_id": items, "image": contents}), run / "raw" / "images.parquet")


def _job(run: Path, seed: int = 3, images: str = "images.parquet") -> str:
    data = {
        "path": str(run / "raw"),
        "columns": {"user": "<script>alert(1)</script>"},
        "titles": "titles.csv",
        "images": images,
        "modalities": {"image": {"file": "image.npy"}},
    }
    return yaml.safe_dump({"seed": seed, "output": str(run), "data": data})


def test_the_groups_are_those_of_the_data(reported, tmp_path):
    findings = measure_lists(open_run(str(reported)), 10)
    train, test = dataset_items(reported, "train"), dataset_items(reported, "test")
    publish_run(tmp_path, "export.exclude=training")
    table = pq.read_table(tmp_path / "export/recommendations").to_pydict()
    lists = {user: items[:10] for user, items in zip(table["user_id"], table["items"], strict=True)}
    recall = {user: np.mean([item in lists[user] for item in items]) for user, items in test.items() if items}
    assert sum(group.members for group in findings.by_activity) == len(recall)
    total = sum(group.members * group.recall for group in findings.by_activity)
    assert total / len(recall) == pytest.approx(np.mean(list(recall.values())))
    for group in findings.by_activity:
        low, _, high = group.name.partition("-")
        inside = [recall[user] for user in recall if int(low) <= len(train[user]) <= int(high or low)]
        assert (group.members, group.recall) == (len(inside), pytest.approx(np.mean(inside)))
    popularity: dict[int, int] = {}
    for items in train.values():
        for item in items:
            popularity[item] = popularity.get(item, 0) + 1
    pairs = [(popularity.get(item, 0), item in lists[user]) for user, items in test.items() for item in items]
    counted = 0
    for group in findings.by_popularity:
        low, _, high = group.name.partition("-")
        inside = [hit for degree, hit in pairs if int(low) <= degree <= int(high or low)]
        members = [
            item for item in range(100, 130) if int(low) <= popularity.get(item, 0) <= int(high or low)
        ]
        assert (group.members, group.recall) == (len(members), pytest.approx(np.mean(inside)))
        counted += len(inside)
    assert counted == len(pairs)
    assert findings.coverage == len({item for items in lists.values() for item in items}) / 30
    shares = [max(1, popularity.get(item, 0)) / 40 for items in lists.values() for item in items]
    assert findings.novelty == pytest.approx(-np.log2(shares).mean())
    for sample in findings.examples:
        assert sample.recommended == lists[sample.user]
        assert set(sample.history) <= train[sample.user]
        assert sample.hits == [item in test[sample.user] for item in sample.recommended]


def test_lists_shorter_than_the_metric_s_cut_off_are_taken_as_they_are(reported):
    assert measure_lists(open_run(str(reported)), 1000).k == 50


def test_the_page_holds_everything_and_reaches_for_nothing(reported):
    page = (reported / "report.html").read_text()
    titles = set(re.findall(r'class="title">([^<]*)<', page))
    assert {
        "validation recall",
        "validation ndcg",
        "loss: bpr",
        "loss: l2",
        "edges",
        "seconds since the last validation",
        "test recall@10 by user activity (users)",
        "test recall@10 by item popularity (items)",
        "balance: largest over mean partition",
        "training pairs per second",
        "median seconds by phase (sample: beside)",
    } <= titles
    assert re.search(r"</i>wait</span><span><i[^>]*></i>critic</span></p>", page)
    assert "0.2500" in page
    assert page.count("The lists looked at here leave out training items alone") == 2
    assert "test recall@10, a modality left out" in titles
    assert "0.2000 (-20%)" in page
    assert "cold items ranked among themselves" in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    reached = re.findall(r'(?:src|href|url) *[=(](?!"#)"?(.{11})', page)
    assert reached[0] == 'data:,"><me'
    assert set(reached[1:]) == {"data:image/"}
    assert re.search(r"<td>torch</td><td>\d", page)


def test_the_head_names_data_time_and_machine(reported):
    (about,) = re.findall(r'<p class="about">([^<]*)</p>', (reported / "report.html").read_text())
    assert about.startswith("data set run/raw, ")
    assert (
        "trained for 3.3 s by 2 workers (machine: 16 cores, 137.4 GB of memory, NVIDIA &lt;H200&gt;)" in about
    )


def test_popularity_s_list_stands_beside_each_example(reported):
    train, test = dataset_items(reported, "train"), dataset_items(reported, "test")
    known_by: dict[int, int] = {}
    for items in train.values():
        for item in items:
            known_by[item] = known_by.get(item, 0) + 1
    for sample in measure_lists(open_run(str(reported)), 10).examples:
        counts = [known_by.get(item, 0) for item in sample.popular]
        assert counts == sorted(counts, reverse=True)
        left_out = {item for item in range(100, 130) if item not in train[sample.user]} - set(sample.popular)
        assert max((known_by.get(item, 0) for item in left_out), default=0) <= counts[-1]
        assert not set(sample.popular) & train[sample.user]
        assert sample.popular_hits == [item in test[sample.user] for item in sample.popular]


def test_the_contents_lead_to_every_section(reported):
    page = (reported / "report.html").read_text()
    assert "<h1>run</h1>" in page
    assert '<p class="about">data set run/raw, ' in page
    links = re.findall(r'<a href="#([^"]+)">', page)
    assert links == re.findall(r'<section id="([^"]+)">', page)
    assert len(links) == len(set(links)) == len(_sections(page))


def test_curves_mark_the_chosen_epoch_and_show_values_on_hover(reported):
    page = (reported / "report.html").read_text()
    curves = re.findall(r'<svg [^>]*aria-label="(?:validation|loss)[^"]*">.*?</svg>', page)
    assert len(curves) == 4
    assert all('class="chosen"><title>chosen: epoch 3</title>' in curve for curve in curves)
    assert "<title>recall@10, epoch 2: 0.2</title>" in page


@pytest.mark.parametrize("model", [[0.2, 0.4, 0.6, 0.8], [0.1, 0.2, 0.3, 0.4]])
def test_the_uplift_is_the_ratio_of_means_with_its_interval(model, monkeypatch):
    values = {"model": np.array(model), "popularity": np.array([0.1, 0.2, 0.3, 0.4])}
    monkeypatch.setattr(
        html, "read_users", lambda run, metric, split, who: SimpleNamespace(values=values[who])
    )
    uplift = html._uplift(open_location("anywhere", Storage()), "recall@10", {"test": {}})
    expected = sum(model) - 1  # popularity's values add up to 1
    assert (uplift.value, uplift.low, uplift.high) == pytest.approx((expected,) * 3)


def shown_items(output: Path) -> set[int]:
    """All items of the page's examples."""
    samples = measure_lists(open_run(str(output)), 10).examples
    return {item for s in samples for item in (*s.history, *s.recommended, *s.popular)}


def test_items_go_by_their_titles_where_they_have_one(reported):
    page, pictured = (reported / "report.html").read_text(), shown_items(reported)
    assert {item % 2 for item in pictured} == {0, 1}
    for item in pictured:
        named = (
            re.search(f' title="{item}">(?:<img[^>]*>|<i></i>)?Film &amp; {item}</span>', page) is not None
        )
        assert named == (item % 2 == 0)
        assert (f">{item}</span>" in page) != named


def test_items_are_shown_by_their_images_where_they_have_one(reported):
    page, pictured = (reported / "report.html").read_text(), shown_items(reported)
    pictures = list(PICTURES.values()) * 3
    for item in pictured:
        picture = r'<img alt="" src="data:(image/[a-z]+);base64,([^"]+)">'
        result = re.search(rf'<span class="pic(?: hit)?"[^>]*>{picture}[^<]*\b{item}<', page)
        assert (result is not None) == (item < 100 + len(pictures))
        if result is not None:
            content = pictures[item - 100]
            assert (result[1], b64decode(result[2])) == (raster_of(content).media_type, content)
    without = sum(item >= 100 + len(pictures) for item in pictured)
    assert f"Items without an image: {without} not there." in page


def test_images_by_path_are_looked_up_each_time(reported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(reported, copy)
    (copy / "job.yaml").write_text(_job(copy, images="pictures/{item}.png"))
    write_report(str(copy), Storage())
    assert "<img" not in (copy / "report.html").read_text()
    (copy / "raw" / "pictures").mkdir()
    for item in range(100, 130):
        (copy / "raw" / "pictures" / f"{item}.png").write_bytes(PICTURES["png"])
    write_report(str(copy), Storage())
    page = (copy / "report.html").read_text()
    assert "<img" in page
    assert "Items without an image" not in page


@pytest.mark.processes
def test_a_browser_has_nothing_to_complain_of(reported, tmp_path):
    console, picture = console_of(reported / "report.html", tmp_path)
    assert console == []
    assert picture > 50_000


@pytest.mark.processes
@pytest.mark.parametrize("width", [1320, 820, 375])
def test_it_fits_a_screen(reported, tmp_path, width):
    """Of a desk, a tablet and a phone: nothing makes the page wider; wide tables scroll by themselves."""
    room, taken = widths_of(reported / "report.html", width, tmp_path)
    assert width - 40 < room <= width
    assert taken == room


@pytest.mark.processes
def test_the_browser_would_tell_of_a_page_that_is_too_wide(tmp_path):
    page = tmp_path / "wide.html"
    page.write_text('<!doctype html><p style="width: 700px">wide</p>')
    room, taken = widths_of(page, 375, tmp_path)
    assert taken > 700 > room


@pytest.mark.processes
def test_the_browser_would_tell_of_errors_and_requests(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="http://elsewhere.example/a.png"><script>console.error("wrong"); missing()</script>'
    )
    console, _ = console_of(page, tmp_path)
    assert "wrong" in console
    assert any("missing is not defined" in text for text in console)
    page.write_text(
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
        '<img src="http://elsewhere.example/a.png">'
    )
    console, _ = console_of(page, tmp_path)
    assert any("violates the following Content Security Policy" in text for text in console)


def test_it_is_written_again_when_the_run_has_changed_and_only_then(reported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(reported, copy)
    report = copy / "report.html"
    before = report.stat().st_mtime_ns
    done = CliRunner().invoke(app, ["report", str(copy)])
    assert (done.exit_code, done.stdout) == (0, f"{report}\n")
    assert report.stat().st_mtime_ns == before
    (copy / "job.yaml").write_text(_job(copy, seed=4))
    write_report(str(copy), Storage())
    assert "\nseed: 4" in report.read_text()
    (copy / "raw" / "titles.csv").write_text("item_id,title\n100,Other\n")
    write_report(str(copy), Storage())
    assert "Film" not in report.read_text()
    _write_images(copy, [b"<svg/>"] * 30)
    write_report(str(copy), Storage())
    page = report.read_text()
    assert "<img" not in page
    assert "neither JPEG, PNG, GIF nor WebP" in page
    assert "svg/" not in page


def _sections(report: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", report)


@pytest.mark.parametrize(
    ("published", "sections", "missing"),
    [
        ("dataset partitions training export", "Training Graph Examples", ["evaluate"]),
        ("dataset partitions training evaluation", "Metrics Training Graph", ["export"]),
        ("dataset partitions training", "Training Graph", ["evaluate", "export"]),
        ("dataset", "", ["partition", "train", "evaluate", "export"]),
        ("training evaluation", "Metrics Training", ["prepare", "partition", "export"]),
    ],
)
def test_a_report_of_what_is_there(reported, tmp_path, published, sections, missing):
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    (run / "report.html").unlink()
    for artifact in ("dataset", "partitions", "training", "evaluation", "export"):
        if artifact not in published.split():
            shutil.rmtree(run / artifact)
    (run / "job.yaml").write_text(_job(run))
    done = CliRunner().invoke(app, ["report", str(run)])
    assert done.exit_code == 0, done.output
    report = (run / "report.html").read_text()
    assert set(_sections(report)) & {"Metrics", "Training", "Graph", "Examples"} == set(sections.split())
    assert re.findall(r"<code>mmssl-dist (\w+)</code>", report) == missing
    assert _sections(report)[-2:] == ["Versions", "Job"]


def test_a_whole_report_says_of_nothing_that_it_is_missing(reported):
    assert "has not run" not in (reported / "report.html").read_text()


def test_a_run_that_has_published_nothing(tmp_path):
    with pytest.raises(InputError, match="found no published artifact; a report shows"):
        write_report(str(tmp_path), Storage())


def test_the_job_is_shown_without_passwords(reported, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    secrets = {
        "storage": {"endpoint": "https://me:secret@store"},
        "tracking": {"mlflow": "https://me:secret@mlflow"},
    }
    (run / "job.yaml").write_text(_job(run) + yaml.safe_dump(secrets))
    write_report(str(run), Storage())
    report = (run / "report.html").read_text()
    assert "secret" not in report
    assert "endpoint: https://store" in report


def test_the_model_s_own_name_is_in_the_report(reported, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    (run / "job.yaml").write_text(_job(run) + "model: {name: mine}\n")
    write_report(str(run), Storage())
    report = (run / "report.html").read_text()
    assert "<td>mine</td>" in report
    assert "<td>mmssl</td>" not in report
