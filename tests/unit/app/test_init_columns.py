"""`init` and the columns of a shop with names of its own: which become features, and which it names."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl_dist.config import load_job
from tests.unit.app.folders import call, write_vectors

_HEADER = "SKU;Etikett;Kategorie;Preis;Lager;Tags"


def _write_shop(folder: Path, header: str = _HEADER, item: str = "SKU") -> None:
    articles = [
        f"A{number};Artikel {number};{('Hemden', 'Hosen')[number % 2]};{number}.5;{number % 4};rot|blau"
        for number in range(12)
    ]
    (folder / "articles.csv").write_text("\n".join([header, *articles]) + "\n")
    clicks = [f"u{user};A{(user + step) % 12};view" for user in range(8) for step in range(6)]
    (folder / "clicks.csv").write_text("\n".join([f"user;{item};event", *clicks]) + "\n")


def _unused() -> dict[str, str]:
    lines = Path("job.yaml").read_text().splitlines()
    notes = [line.removeprefix("# Not used: ") for line in lines if line.startswith("# Not used: ")]
    return {name: reason for name, _, reason in (note.partition(": ") for note in notes)}


def test_columns_with_other_names_are_features_for_their_values(folder: Path) -> None:
    _write_shop(folder)
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert facts.features == {"Tags": "tags", "Kategorie": "category", "Preis": "number"}
    assert "proposed for their values: Kategorie, Preis" in done.stdout
    assert call("validate", "job.yaml").exit_code == 0


def test_columns_that_the_job_does_not_read_are_named_by_file(folder: Path) -> None:
    _write_shop(folder)
    (folder / "texts.csv").write_text("SKU;Text\nA1;lang\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    unused = _unused()
    assert list(unused) == [
        "articles.csv, columns Etikett, Lager",
        "texts.csv, column Text",
        "clicks.csv, column event",
    ]
    assert "for titles of items, set data.titles and data.columns.title" in done.stdout
    assert unused["clicks.csv, column event"].startswith("every row counts as an interaction")


def test_beside_vectors_other_columns_of_items_wait_in_a_comment(folder: Path) -> None:
    _write_shop(folder, _HEADER.replace("Etikett", "title"))
    write_vectors(folder / "image.parquet", "SKU", [f"A{number}" for number in range(12)])
    assert call("init", "files", "--yes").exit_code == 0
    assert set(load_job("job.yaml").data.modalities) == {"image"}
    assert list(_unused()) == ["articles.csv, column Lager", "clicks.csv, column event"]
    text = Path("job.yaml").read_text()
    (comment,) = [line for line in text.splitlines() if line.startswith("    # facts: ")]
    Path("job.yaml").write_text(text.replace(comment, comment.replace("# ", "", 1)))
    assert load_job("job.yaml").data.modalities["facts"].features == {
        "Kategorie": "category",
        "Tags": "tags",
        "Preis": "number",
    }
    assert call("validate", "job.yaml").exit_code == 0


def test_a_shop_of_texts_alone(folder: Path) -> None:
    """As another country's programs export it: dates with points, vectors in CSV and JSON lines."""
    orders = [f"K{n % 9};A{n * 5 % 12};{n % 28 + 1}.{n % 12 + 1}.2025 9:05;{n},50" for n in range(60)]
    rows = "\n".join(["Kunde;SKU;Datum;Preis", *orders])
    (folder / "orders.csv").write_text(f"{rows}\n", encoding="utf-8-sig")
    names = [f"emb_{number}" for number in range(8)]
    wide = [",".join([f"A{item}", *(f"{item}.{number}" for number in range(8))]) for item in range(12)]
    (folder / "bilder.csv").write_text("\n".join([",".join(["SKU", *names]), *wide]) + "\n")
    lists = [json.dumps({"SKU": f"A{item}", "vector": [item, 0.5], "tags": ["x", 7]}) for item in range(12)]
    (folder / "texts.jsonl").write_text("\n".join(lists) + "\n")
    plain = {"SKU": [f"A{item}" for item in range(12)], **{str(n): [n * 0.5] * 12 for n in range(9)}}
    pq.write_table(pa.table(plain), folder / "clip.parquet")
    shown = [f'A{item},"[{item}, -1.5, 2e-3]",Zelt {item}' for item in range(12)]
    (folder / "shown.csv").write_text("\n".join(["SKU,e,title", *shown]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    data = load_job("job.yaml").data
    assert (data.columns.user, data.columns.item, data.columns.time) == ("Kunde", "SKU", "Datum")
    assert {name: one.vector for name, one in data.modalities.items()} == {
        "bilder": "emb_*",
        "clip": "*",
        "texts": "vector",
        "shown": "e",
    }
    assert "data: features: bilder 8 wide, clip 9 wide, shown 3 wide, texts 2 wide" in done.output
    assert set(_unused()) == {"orders.csv, column Preis"}
    assert (
        "    # facts: {table: texts.jsonl, item: SKU, features: {tags: tags}}" in Path("job.yaml").read_text()
    )


def test_of_many_columns_some_are_named(folder: Path) -> None:
    _write_shop(folder)
    (folder / "wide.csv").write_text(f"SKU;{';'.join(f'c{n}' for n in range(25))}\nA1{';1' * 25}\n")
    assert call("init", "files", "--yes").exit_code == 0
    assert any(name.endswith("c18, c19 and 5 more") for name in _unused())


def test_interactions_may_have_columns_with_numbers(folder: Path) -> None:
    _write_shop(folder)
    answers = [f"q{number}" for number in range(9)]
    rows = (folder / "clicks.csv").read_text().splitlines()
    wide = [";".join([rows[0], *answers]), *(row + ";0.5" * 9 for row in rows[1:])]
    (folder / "clicks.csv").write_text("\n".join(wide) + "\n")
    assert call("init", "files", "--yes").exit_code == 0
    assert load_job("job.yaml").data.interactions == "clicks.csv"


def test_texts_of_several_words_that_repeat_are_tags(folder: Path) -> None:
    _write_shop(folder)
    marks = [("Damen", "Herren")[n % 2] + "; " + ("rot", "blau", "neu")[n % 3] for n in range(12)]
    rows = [f'A{number},"{mark}","Rock, Nr. {number}, weit"' for number, mark in enumerate(marks)]
    (folder / "articles.csv").write_text("\n".join(["SKU,Merkmale,Beschreibung", *rows]) + "\n")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.features, facts.separator) == ({"Merkmale": "tags"}, ";")


def test_tables_in_which_items_repeat_have_no_features_for_their_values(folder: Path) -> None:
    """Their rows are events, which may be held out."""
    _write_shop(folder)
    (folder / "articles.csv").unlink()
    visits = [f"A{number % 12};{('web', 'app')[number % 2]};{number}.5" for number in range(24)]
    (folder / "visits.csv").write_text("\n".join(["SKU;Kanal;Dauer", *visits]) + "\n")
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    assert "found no feature vectors;" in refused.stderr


def test_ids_of_bytes_and_texts_of_a_dictionary(folder: Path) -> None:
    items = pa.array([uuid.UUID(int=number).bytes for number in range(12)], pa.binary(16))
    users = [f"u{number % 4}" for number in range(48)]
    clicked = pa.array([items[number * 5 % 12].as_py() for number in range(48)], pa.binary(16))
    pq.write_table(pa.table({"user": users, "sku": clicked}), folder / "clicks.parquet")
    kinds = pa.array(["Hemd", "Hose", "Rock"] * 4).dictionary_encode()
    pq.write_table(pa.table({"sku": items, "Art": kinds}), folder / "articles.parquet")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert load_job("job.yaml").data.modalities["facts"].features == {"Art": "category"}


@pytest.mark.parametrize(
    "values",
    [
        ["19,99 €", "24,99 €"],
        ['["rot"]', '["blau"]'],
        ["x" * 61, "y" * 61],
        ["one"],
        [f"v{number}" for number in range(7)],
    ],
)
def test_texts_that_are_no_categories(folder: Path, values: list[str]) -> None:
    _write_shop(folder)
    (folder / "articles.csv").unlink()
    table = pa.table(
        {
            "SKU": [f"A{number}" for number in range(12)],
            "price": [float(number) for number in range(12)],
            "Feld": [values[number % len(values)] for number in range(12)],
        }
    )
    pq.write_table(table, folder / "articles.parquet")
    assert call("init", "files", "--yes").exit_code == 0
    assert load_job("job.yaml").data.modalities["facts"].features == {"price": "number"}
    assert "articles.parquet, column Feld" in _unused()


@pytest.mark.parametrize("item", ["sku", "Artikelnr", "productId"])
def test_ids_may_have_another_name_in_every_table(folder: Path, item: str) -> None:
    _write_shop(folder, _HEADER.replace("Etikett", "Bezeichnung"), item=item)
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    data = load_job("job.yaml").data
    assert (data.columns.item, data.columns.title_item, data.columns.title) == (item, "SKU", "Bezeichnung")
    assert data.modalities["facts"].item == "SKU"
    assert call("validate", "job.yaml").exit_code == 0
    write_vectors(folder / "image.parquet", "asin", [f"A{number}" for number in range(12)])
    assert call("init", "files", "--yes", "--force").exit_code == 0
    assert load_job("job.yaml").data.modalities["image"].item == "asin"


def test_later_files_may_have_more_columns(folder: Path) -> None:
    for part, more in ((2024, ""), (2025, ",channel"), (2026, ",channel,returned")):
        rows = [
            f"u{user},i{(user + step + part) % 10}{',x' * more.count(',')}"
            for user in range(8)
            for step in range(4)
        ]
        (folder / f"orders_{part}.csv").write_text("\n".join([f"user,item{more}", *rows]) + "\n")
    write_vectors(folder / "image.parquet", "item", [f"i{number}" for number in range(10)])
    assert call("init", "files", "--yes").exit_code == 0
    assert load_job("job.yaml").data.interactions == "orders_*.csv"
    (folder / "orders_2025.csv").write_text("user,item,store\nu1,i1,x\n")  # has not what 2026 has
    done = call("init", "files", "--yes", "--force")
    assert load_job("job.yaml").data.interactions == "orders_2026.csv"
    more = "more rows with columns user and item of orders_2026.csv? Put both into a folder"
    assert "Not used: orders_2024.csv: " + more in done.output


def _write_prices(folder: Path, prices: list[str], more: str = "") -> None:
    _write_shop(folder)
    rows = [f"A{number};{prices[number % len(prices)]};{number}{more}" for number in range(12)]
    (folder / "articles.csv").write_text("\n".join(["SKU;Preis;Gewicht", *rows]) + "\n")


@pytest.mark.parametrize("name", ["Preis", "price"])
def test_decimal_commas_are_proposed_for_their_values(folder: Path, name: str) -> None:
    _write_prices(folder, ["8,98", "1.299,00", "12"])
    articles = folder / "articles.csv"
    articles.write_text(articles.read_text().replace("Preis", name))
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.features, facts.decimal) == ({name: "number"}, ",")
    assert call("validate", "job.yaml").exit_code == 0


def test_commas_that_may_separate_thousands_are_left_to_people(folder: Path) -> None:
    _write_prices(folder, ["1,299", "2,500", "12"], ".5")
    assert call("init", "files", "--yes").exit_code == 0
    assert load_job("job.yaml").data.modalities["facts"].features == {"Gewicht": "number"}
    assert "articles.csv, column Preis" in _unused()


def test_commas_in_one_column_and_points_in_another_are_named(folder: Path) -> None:
    _write_prices(folder, ["8,98", "1.299,00"], ".5")
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.features, facts.decimal) == ({"Gewicht": "number"}, ".")
    reason = "decimal commas, where Gewicht has points: make the column a modality of its own"
    assert _unused()["articles.csv, column Preis"] == reason
    assert call("validate", "job.yaml").exit_code == 0
