"""`init` and the columns of a shop with names of its own: which become features, and which it names."""

from __future__ import annotations

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


def test_vectors_leave_the_other_columns_of_items_to_people(folder: Path) -> None:
    _write_shop(folder, _HEADER.replace("Etikett", "title"))
    write_vectors(folder / "image.parquet", "SKU", [f"A{number}" for number in range(12)])
    assert call("init", "files", "--yes").exit_code == 0
    assert set(load_job("job.yaml").data.modalities) == {"image"}
    assert list(_unused()) == [
        "articles.csv, columns Kategorie, Preis, Lager, Tags",
        "clicks.csv, column event",
    ]


def test_of_many_columns_some_are_named(folder: Path) -> None:
    _write_shop(folder)
    (folder / "wide.csv").write_text(f"SKU;{';'.join(f'c{n}' for n in range(25))}\nA1{';1' * 25}\n")
    assert call("init", "files", "--yes").exit_code == 0
    assert any(name.endswith("c18, c19 and 5 more") for name in _unused())


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
        ["rot|blau", "rot|gelb"],
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


def test_ids_in_another_spelling_are_named(folder: Path) -> None:
    _write_shop(folder, item="sku")
    refused = call("init", "files", "--yes")
    assert refused.exit_code == 2
    spelled = "has no column sku, but SKU: rename one, since names are compared as they are"
    assert f"no feature vectors (articles.csv: {spelled})" in refused.stderr
    write_vectors(folder / "image.parquet", "sku", [f"A{number}" for number in range(12)])
    done = call("init", "files", "--yes")
    assert done.exit_code == 0, done.output
    assert _unused()["articles.csv"] == spelled


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
    assert call("init", "files", "--yes").exit_code == 0
    facts = load_job("job.yaml").data.modalities["facts"]
    assert (facts.features, facts.decimal) == ({"Gewicht": "number"}, ".")
    reason = "decimal commas, where Gewicht has points: make the column a modality of its own"
    assert _unused()["articles.csv, column Preis"] == reason
    assert call("validate", "job.yaml").exit_code == 0
