"""The stage embed on a real Ray, with tiny encoders: vectors by hand, what is left out, and what is not done
again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmssl_dist.config import Job
from mmssl_dist.config.data_sections import Embedding
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import find_files
from mmssl_dist.data.prepare import prepare
from mmssl_dist.embedding.embed import actor_options, embed, identity
from mmssl_dist.embedding.encoders import encode, open_encoder
from mmssl_dist.embedding.inputs import embedded_files, embeddings_fingerprint, encoded, encoder_of
from mmssl_dist.embedding.weights import EncoderSource, encoder_folder
from mmssl_dist.errors import InputError
from mmssl_dist.report.progress import embeddings_summary
from mmssl_dist.storage import Manifest, begin, open_location, read_manifest
from tests.clusters import own_ray
from tests.encoders import WIDTH, tiny_pictures, tiny_texts
from tests.jobs import job_on
from tests.pictures import PICTURES

ITEMS = 12


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with own_ray():
        yield


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return {"text": tiny_texts(folder / "text"), "image": tiny_pictures(folder / "image")}


def _titles(folder: Path, titles: dict[int, str]) -> None:
    lines = ["item_id,title,picture", *(f"{item},{title},p{item}.png" for item, title in titles.items())]
    (folder / "items.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    (raw / "images").mkdir(parents=True)
    rows = [f"{user},{item}" for user in range(8) for item in range(ITEMS) if (user + item) % 2]
    (raw / "clicks.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    _titles(raw, {item: f"red shirt number {item}" for item in range(ITEMS)})
    for item in range(ITEMS):
        (raw / "images" / f"p{item}.png").write_bytes(PICTURES["png"])
    return tmp_path


def _job(folder: Path, encoders: dict[str, Path], *overrides: str, only: str | None = None) -> Job:
    modalities = {
        "text": {"table": "items.csv", "columns": ["title"], "encoder": str(encoders["text"])},
        "image": {"table": "items.csv", "files": "images/{picture}", "encoder": str(encoders["image"])},
    }
    chosen = modalities if only is None else {only: modalities[only]}
    return _on_clicks(folder, chosen, "data.buckets=2", *overrides)


def _on_clicks(folder: Path, modalities: object, *overrides: str, output: str = "out") -> Job:
    data = {"path": str(folder / "raw"), "interactions": "clicks.csv", "modalities": modalities}
    return job_on(folder, data, *overrides, output=output)


def _embed(job: Job) -> Manifest:
    raw = find_files(job)
    return embed(job, raw, {name: identity(encoder_of(job, name), job) for name in encoded(job)})


def _rows(job: Job, manifest: Manifest, modality: str) -> dict[int, dict[str, Any]]:
    location = open_location(job.output, job.storage) / "embeddings"
    tables = [pq.read_table((location / name).path) for name in manifest.files if name.startswith(modality)]
    return {row["item_id"]: row for table in tables for row in table.to_pylist()}


def _by_hand(encoder: Path, texts: list[str]) -> np.ndarray:
    source = EncoderSource("encoder", str(encoder), None)
    folder = encoder_folder(source, Storage())
    return encode(open_encoder(source, folder, False, torch.device("cpu")), texts, 32)


def test_vectors_are_the_encoders_and_equal_each_time(folder, encoders):
    job = _job(folder, encoders)
    manifest = _embed(job)
    assert read_manifest(open_location(job.output, job.storage) / "embeddings", "embeddings") == manifest
    facts = manifest.facts["modalities"]
    assert {name: (own["dimension"], own["items"]) for name, own in facts.items()} == {
        "text": (WIDTH, ITEMS),
        "image": (WIDTH, ITEMS),
    }
    rows = _rows(job, manifest, "text")
    expected = _by_hand(encoders["text"], [f"red shirt number {item}" for item in range(ITEMS)])
    got = np.asarray([rows[item]["vector"] for item in range(ITEMS)])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    begin(open_location(job.output, job.storage) / "embeddings")
    assert {n: r.sha256 for n, r in _embed(job).files.items()} == {
        n: r.sha256 for n, r in manifest.files.items()
    }


def test_prepare_reads_the_embeddings_as_vectors(folder, encoders):
    job = _job(folder, encoders)
    embedded = embedded_files(job, find_files(job), _embed(job))
    facts = prepare(job, embedded).facts
    assert facts["modalities"]["text"] == {"dimension": WIDTH, "items": ITEMS}
    assert facts["items"] == ITEMS


def test_vectors_made_by_hand_give_the_same_dataset(folder, encoders):
    """Byte by byte, so that all that is trained and ranked from it is the same too."""
    job = _job(folder, encoders, "data.buckets=1", only="text")
    published = prepare(job, embedded_files(job, find_files(job), _embed(job)))
    vectors = _by_hand(encoders["text"], [f"red shirt number {item}" for item in range(ITEMS)])
    table = pa.table({"item_id": range(ITEMS), "vector": pa.array(list(vectors), pa.list_(pa.float32()))})
    pq.write_table(table, folder / "raw" / "text.parquet")
    by_hand = _on_clicks(folder, {"text": {"file": "text.parquet"}}, "data.buckets=1")
    assert prepare(by_hand, find_files(by_hand)).files == published.files


def test_what_cannot_be_embedded_is_counted_and_named(folder, encoders):
    _titles(folder / "raw", {0: "", **{item: f"blue dress {item}" for item in range(1, ITEMS)}})
    images = folder / "raw" / "images"
    (images / "p1.png").write_bytes(b"not a picture")
    (images / "p2.png").unlink()
    (images / "p3.png").write_bytes(PICTURES["jpeg"])
    (folder / "outside.png").write_bytes(PICTURES["png"])
    (images / "p4.png").unlink()
    (images / "p4.png").symlink_to(folder / "outside.png")
    manifest = _embed(_job(folder, encoders, f"embedding.max_pixels={24 * 17}"))
    text, image = manifest.facts["modalities"]["text"], manifest.facts["modalities"]["image"]
    assert (text["left_out"], text["examples"]) == ({"empty text": 1}, ["0"])
    assert image["left_out"] == {
        "no picture": 1,
        "picture outside data.path": 1,
        "unreadable picture": 1,
    }
    assert set(image["examples"]) == {"1", "2", "4"}
    few = _embed(_job(folder, encoders, "embedding.max_pixels=1", only="text"))
    assert few.facts["modalities"]["text"]["items"] == ITEMS - 1
    with pytest.raises(InputError, match=r"data\.modalities\.image: found .*9 over 1 pixels"):
        _embed(_job(folder, encoders, "embedding.max_pixels=1", only="image"))


def test_only_new_and_changed_items_are_embedded_again(folder, encoders):
    titles = {item: f"red shirt number {item}" for item in range(ITEMS)}
    first = _embed(_job(folder, encoders, only="text"))
    assert first.facts["modalities"]["text"]["embedded"] == ITEMS
    _titles(folder / "raw", titles | {3: "green dress", ITEMS: "floral shirt"})
    job = _job(folder, encoders, only="text")
    again = _embed(job)
    assert again.facts["modalities"]["text"]["embedded"] == 2
    assert again.facts["modalities"]["text"]["items"] == ITEMS + 1
    rows = _rows(job, again, "text")
    expected = _by_hand(encoders["text"], [titles[5], "green dress", "floral shirt"])
    np.testing.assert_allclose([rows[i]["vector"] for i in (5, 3, ITEMS)], expected, atol=1e-5)
    # Files of the artifact before are gone, and another number of buckets takes its vectors over.
    names = {path.name for path in (folder / "out/embeddings/text").iterdir()}
    assert len(names) == 1
    more = _embed(_job(folder, encoders, "data.buckets=3", only="text"))
    assert more.facts["modalities"]["text"]["embedded"] == 0
    # Another encoder embeds all.
    other = tiny_texts(folder / "other")
    (other / "config.json").write_text(json.dumps(json.loads((other / "config.json").read_text()) | {"x": 1}))
    assert _embed(_job(folder, encoders | {"text": other}, only="text")).facts["modalities"]["text"][
        "embedded"
    ] == (ITEMS + 1)


def test_an_interrupted_start_is_resumed_by_its_files(folder, encoders):
    job = _job(folder, encoders, only="text")
    whole = _embed(job)
    location = open_location(job.output, job.storage) / "embeddings"
    (location / "manifest.json").remove()
    first, second = sorted(whole.files)
    (location / second).remove()
    kept = Path((location / first).path).stat().st_mtime_ns
    assert _embed(job).files == whole.files
    assert Path((location / first).path).stat().st_mtime_ns == kept


def test_what_an_encoder_gets_wrong_is_an_input_error(folder, encoders):
    with pytest.raises(InputError, match=rf"dimension: found 7; vectors of .* have {WIDTH} values"):
        _embed(_job(folder, encoders, "data.modalities.text.dimension=7", only="text"))
    _embed(_job(folder, encoders, only="text"))
    with pytest.raises(InputError, match="dimension: found 7"):  # of vectors that would be taken over
        _embed(_job(folder, encoders, "data.modalities.text.dimension=7", only="text"))
    with pytest.raises(InputError, match="must be a model that transformers can load for pictures"):
        _embed(_job(folder, {"image": encoders["text"], "text": encoders["text"]}, only="image"))
    damaged = tiny_texts(folder / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="must be a model that transformers can load for texts"):
        _embed(_job(folder, encoders | {"text": damaged}, only="text"))


FEATURES = {"brand": "category", "price": "number"}


def _facts_job(folder: Path, *overrides: str, output: str = "out") -> Job:
    modalities = {"facts": {"table": "facts.csv", "features": FEATURES}}
    return _on_clicks(folder, modalities, "data.buckets=2", *overrides, output=output)


def _facts(folder: Path, rows: dict[int, str]) -> None:
    lines = ["item_id,brand,price", *(f"{item},{row}" for item, row in rows.items())]
    (folder / "raw" / "facts.csv").write_text("\n".join(lines) + "\n")


def test_columns_of_features_are_a_modality_and_a_later_day_keeps_their_fit(folder):
    days = {item: f"{'ab'[item % 2]},{item}" for item in range(ITEMS)}
    _facts(folder, days | {0: "a,", 1: ","})
    job = _facts_job(folder, "data.unknown_items=keep")  # one of them has nothing
    manifest = _embed(job)
    facts = manifest.facts["modalities"]["facts"]
    assert (facts["dimension"], facts["items"]) == (4, ITEMS - 1)
    assert facts["left_out"] == {"no value in any column": 1}
    assert facts["occurrences"] == {"price": {"missing": {"items": 1, "examples": ["0"]}}}
    assert embeddings_summary(manifest.facts) == [
        f"facts 4 wide for {ITEMS - 1} items",
        "facts: brand 2 values, price standardized",
        "facts: price: 1 missing, such as 0",
        "facts: left out: 1 no value in any column; such as 1",
    ]
    prices = np.arange(2, ITEMS)
    rows = _rows(job, manifest, "facts")
    assert rows[0]["vector"] == [1, 0, 0, 1]
    assert rows[3]["vector"] == pytest.approx([0, 1, (3 - prices.mean()) / prices.std(), 0])
    assert prepare(job, embedded_files(job, find_files(job), manifest)).facts["modalities"]["facts"] == {
        "dimension": 4,
        "items": ITEMS - 1,
    }
    # The next day: another brand, and prices that would change the mean
    _facts(folder, days | {1: "b,1", ITEMS: "c,50", ITEMS + 1: "a,3"})
    fresh = _embed(_facts_job(folder, output="fresh"))
    assert fresh.facts["modalities"]["facts"]["dimension"] == 5
    started = f"training.start_from={folder / 'out'}"
    later = _facts_job(folder, started, output="later")
    second = _embed(later)
    own = second.facts["modalities"]["facts"]
    assert own["fit"] == facts["fit"]
    assert own["occurrences"]["brand"] == {"not in the fit": {"items": 1, "examples": [str(ITEMS)]}}
    later_rows = _rows(later, second, "facts")
    assert later_rows[3]["vector"] == rows[3]["vector"]
    assert later_rows[ITEMS + 1]["vector"] == pytest.approx([1, 0, rows[3]["vector"][2], 0])
    assert later_rows[ITEMS]["vector"][:2] == [0, 0]
    # It outlives the run that it is from
    (folder / "out" / "embeddings" / "manifest.json").unlink()
    assert embeddings_fingerprint(later, find_files(later)) == second.fingerprint
    with pytest.raises(InputError, match="whose embeddings have no features of facts"):
        _embed(_facts_job(folder, started, output="other"))


def test_columns_of_features_that_cannot_be_used_stop_the_stage(folder):
    _facts(folder, {0: "a,1", 1: "b,cheap"})
    with pytest.raises(InputError, match="line 3, column price: found 'cheap'"):
        _embed(_facts_job(folder))
    _facts(folder, {0: "a,", 1: "b,"})
    with pytest.raises(InputError, match=r"features\.price: found only missing values"):
        _embed(_facts_job(folder))
    (folder / "raw" / "facts.csv").write_text("item_id,brand,price\n1,a,1\n1,a,1\n")
    with pytest.raises(InputError, match=r"line 3: found item 1, also in .*line 2"):
        _embed(_facts_job(folder))
    assert not (folder / "out" / "embeddings" / "manifest.json").exists()


def test_actors_take_a_gpu_where_there_is_one():
    assert actor_options(Embedding(), 0)["num_gpus"] == 0
    assert actor_options(Embedding(), 4)["num_gpus"] == 1
    options = actor_options(Embedding(gpus_per_actor=0.5, actors=3, cpus_per_actor=2), 1)
    assert (options["num_gpus"], options["num_cpus"]) == (0.5, 2)
    assert (options["compute"].min_size, options["compute"].max_size) == (3, 3)
