"""Titles and columns of items: by id whatever the table keeps ids as, and filters that all hold."""

from __future__ import annotations

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmssl_dist
from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.errors import InputError
from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.item_table import read_item_table
from mmssl_dist.serving.run import Run
from mmssl_dist.serving.titled_run import ItemChoice, items_file, open_titled_run
from tests.exported import run_with
from tests.training import ITEMS

COLORS = ("red", "green", "blue")


@pytest.fixture
def table(tmp_path):
    """Items 100 to 129 as texts, shuffled; 129 has no row, 900 is unknown, 100 comes twice."""
    ids = [100, *range(128, 99, -1), 900]
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array([str(item) for item in ids]),
                "title": ["Earlier", *(f"Title {item}" for item in ids[1:])],
                "color": pa.array([COLORS[item % 3] for item in ids]).dictionary_encode(),
                "in_stock": [item % 2 == 0 for item in ids],
                "price": [item / 4 for item in ids],
                "shelf": [item % 5 for item in ids],
                "tags": [[COLORS[item % 3], f"t{item % 4}"] if item % 7 else None for item in ids],
                "vector": [[0.5, 1.0]] * len(ids),
            }
        ),
        tmp_path / "items.parquet",
    )
    return tmp_path / "items.parquet"


@pytest.fixture
def titled(output, table) -> Run:
    return open_titled_run(str(output), Storage(), str(table))


def test_titles_come_with_every_list(titled, run):
    for ranked, plain in (
        (titled.recommend("u3", k=5), run.recommend("u3", k=5)),
        (titled.similar(110, k=5), run.similar(110, k=5)),
        (titled.popular(5), run.popular(5)),
        (titled.recommend_new([103, 104], 5), run.recommend_new([103, 104], 5)),
    ):
        assert ranked.items == plain.items
        assert ranked.titles == [None if item == 129 else f"Title {item}" for item in ranked.items]
        assert plain.titles is None
    assert titled.recommend("u3", k=ITEMS, exclude_seen=False).titles.count(None) == 1
    assert "vector" not in titled.item_table.columns


def test_titles_of_a_few_lists_are_read_for_their_items_alone(output, table, titled):
    few = open_titled_run(str(output), Storage(), str(table), few_lists=True)
    for ranked, of_table in (
        (few.recommend("u3", k=ITEMS), titled.recommend("u3", k=ITEMS)),
        (few.similar(110, k=5), titled.similar(110, k=5)),
    ):
        assert (ranked.items, ranked.titles) == (of_table.items, of_table.titles)
    assert "table" not in few.item_table.__dict__
    red = ItemFilter(where={"color": "red"})
    filtered, expected = (run.recommend("u3", k=5, candidates=red) for run in (few, titled))
    assert (filtered.items, filtered.titles) == (expected.items, expected.titles)


def test_few_lists_without_a_column_of_titles_have_none(output, tmp_path):
    pq.write_table(pa.table({"item_id": [105], "color": ["red"]}), tmp_path / "colors.parquet")
    (tmp_path / "colors.csv").write_text("item_id,color\n105,red\n")
    for name in ("colors.parquet", "colors.csv"):
        run = open_titled_run(str(output), Storage(), str(tmp_path / name), few_lists=True)
        assert run.recommend("u3").titles is None


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({"color": "red"}, lambda item: item % 3 == 0),
        ({"color": ["red", "blue"]}, lambda item: item % 3 != 1),
        ({"in_stock": True}, lambda item: item % 2 == 0),
        ({"in_stock": "true", "color": "green"}, lambda item: item % 6 == 4),
        ({"shelf": [1, 2]}, lambda item: item % 5 in (1, 2)),
        ({"shelf": "3"}, lambda item: item % 5 == 3),
        ({"price": 27}, lambda item: item == 108),
        ({"price": 26.25}, lambda item: item == 105),
        ({"tags": "t1"}, lambda item: item % 4 == 1 and item % 7),
        ({"tags": ["t1", "red"]}, lambda item: (item % 4 == 1 or item % 3 == 0) and item % 7),
        ({"color": "purple"}, lambda item: False),
        ({"shelf": {"gt": 1}}, lambda item: item % 5 > 1),
        ({"price": {"gte": 26.25, "lt": "27"}, "in_stock": True}, lambda item: item == 106),
        ({"price": {"lte": 25.25}}, lambda item: item in (100, 101)),
    ],
)
def test_filtered_lists_are_the_whole_list_without_the_others(titled, where, holds):
    chosen = ItemFilter(where=where)
    whole = titled.recommend("u3", k=ITEMS)
    expected = [item for item in whole.items if item != 129 and holds(item)]
    filtered = titled.recommend("u3", k=ITEMS, candidates=chosen)
    assert filtered.items == expected
    by_item = dict(zip(whole.items, whole.scores, strict=True))
    np.testing.assert_allclose(filtered.scores, [by_item[item] for item in expected], rtol=1e-5)
    assert titled.recommend("u3", k=3, candidates=chosen).items == expected[:3]
    alike = titled.similar(110, k=ITEMS).items
    assert titled.similar(110, k=ITEMS, candidates=chosen).items == [
        item for item in alike if item != 129 and holds(item)
    ]


def test_allow_and_block_take_ids_of_the_run_and_pass_over_others(run):
    whole = run.recommend("u3", k=ITEMS).items
    allowed = run.recommend("u3", k=ITEMS, candidates=ItemFilter(allow=["105", 106, 107, 999])).items
    assert allowed == [item for item in whole if item in (105, 106, 107)]
    blocked = ItemFilter(block=[whole[0], str(whole[2]), "unknown"])
    expected = [whole[1], *whole[3:]]
    for exact in (False, True):
        assert run.recommend("u3", k=ITEMS, exact=exact, candidates=blocked).items == expected
        assert run.recommend("u3", k=2, exact=exact, candidates=blocked).items == expected[:2]
    # More than an index is asked for at once, but few that the run knows.
    many = ItemFilter(block=[whole[0], *(f"unknown {number}" for number in range(5000)), *[whole[0]] * 5000])
    assert run.recommend("u3", k=3, candidates=many).items == whole[1:4]
    both = ItemFilter(allow=whole[:4], block=whole[:3])
    assert run.recommend_new([103], k=5, candidates=ItemFilter(allow=[])).items == []
    assert run.recommend("u3", k=5, candidates=both).items == [whole[3]]
    assert whole[0] not in run.similar(110, k=ITEMS, candidates=blocked).items


def test_a_filter_looked_up_once_lists_the_same(titled):
    for chosen in (
        ItemFilter(where={"color": "red"}, block=[102]),
        ItemFilter(allow=[103, 104, 999]),
        ItemFilter(block=[103]),
    ):
        fixed = chosen.fixed(titled.items, titled.item_table)
        assert fixed.selects == chosen.selects
        for lists in (
            lambda chosen: titled.recommend("u3", k=ITEMS, candidates=chosen).items,
            lambda chosen: titled.similar(110, k=9, candidates=chosen).items,
            lambda chosen: titled.popular(9, chosen).items,
        ):
            assert lists(fixed) == lists(chosen)
    popular = titled.popular(ITEMS).items
    reds = [item for item in popular if item != 129 and item % 3 == 0]
    assert titled.popular(ITEMS, ItemFilter(where={"color": "red"})).items == reds
    assert titled.popular(2, ItemFilter(where={"color": "red"})).items == reds[:2]


@pytest.mark.parametrize(
    ("text", "ids"), [("item_id\n105\n", ["105"]), ("sku,item_id\n105,7\n", ["105"]), ("sku\n105\n", ["105"])]
)
def test_files_of_items_may_have_the_column_of_the_job_or_item_id(exported, output, tmp_path, text, ids):
    columns = exported.job.data.columns.model_copy(update={"item": "sku"})
    run = run_with(exported, output, tmp_path, {"columns": columns})
    (tmp_path / "ids.csv").write_text(text)
    chosen = ItemChoice(allow=str(tmp_path / "ids.csv")).candidates(str(run), Storage())
    assert chosen.allow.to_pylist() == ids


def test_titles_that_are_no_texts_are_refused(output, tmp_path):
    pq.write_table(pa.table({"item_id": ["100"], "title": [7]}), tmp_path / "numbers.parquet")
    numbers = open_titled_run(str(output), Storage(), str(tmp_path / "numbers.parquet"))
    with pytest.raises(InputError, match=r"column title.*titles are texts"):
        numbers.popular(3)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"size": 1},
            r"where: found a column size; items can be filtered by color, in_stock, price, shelf, tags",
        ),
        ({"shelf": True}, r"where\.shelf: found \[True\]; the column has values of type int64"),
        ({"shelf": 1.5}, r"where\.shelf: found"),
        ({"shelf": "many"}, r"where\.shelf: found"),
        ({"in_stock": 1}, r"where\.in_stock: found"),
        ({"price": [[1]]}, r"where\.price: found"),
        ({"price": {"from": 1}}, r"where\.price: found bounds from; bounds are gte, gt, lte, lt"),
        ({"price": {}}, r"where\.price: found bounds without a name"),
        ({"price": {"gt": "many"}}, r"where\.price: found 'many'; a bound is a number"),
        ({"price": {"gt": True}}, r"where\.price: found True; a bound is a number"),
        ({"price": {"gt": float("nan")}}, r"where\.price: found nan; a bound is a number"),
        ({"in_stock": {"gt": 0}}, r"where\.in_stock: found values of type bool; only numbers"),
        ({"color": {"gt": 0}}, r"where\.color: found '(red|green|blue)'; only numbers"),
        ({"tags": {"gt": 0}}, r"where\.tags: found values of type list.*; only numbers"),
    ],
)
def test_what_no_column_can_have_is_reported(titled, where, message):
    with pytest.raises(InputError, match=message):
        titled.recommend("u3", candidates=ItemFilter(where=where))


def test_a_table_in_text_has_texts(output, tmp_path):
    (tmp_path / "items.csv").write_text(
        'item_id,title,in_stock,code\n105,"Red, round",True,007\n106,,TRUE,7\n107,Blue,False,8\n'
    )
    run = mmssl_dist.open_run(str(output), items=str(tmp_path / "items.csv"))
    assert run.item_table.titles(run.items.positions([105, 106, 107])) == ["Red, round", None, "Blue"]

    def chosen(**where: object) -> set[object]:
        everything = run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=ItemFilter(where=where))
        return set(everything.items)

    assert chosen(code="007") == {105}
    assert chosen(code=7) == {106}
    assert chosen(in_stock=True) == {105, 106}  # pandas and spreadsheets write them so
    assert chosen(in_stock=False) == {107}
    assert chosen(in_stock=["True", "true"]) == {105}  # texts are compared as they are written
    assert chosen(in_stock=["True", False]) == {105, 107}


def test_a_table_in_json_lines_has_texts_and_lists_of_them(output, tmp_path):
    lines = [
        '{"item_id": 105, "title": "Red, round", "in_stock": true, "tags": ["a", 7], "size": {"x": 1}}',
        '{"item_id": "106", "in_stock": false, "tags": "b", "sizes": [[1], [2]], "size": 1}',
        '{"item_id": "107", "sizes": [1], "parts": [{"x": 1}]}',
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    run = mmssl_dist.open_run(str(output), items=str(tmp_path / "items.jsonl"))
    assert run.item_table.titles(run.items.positions([105, 106, 107])) == ["Red, round", None, None]
    assert sorted(run.item_table.columns) == ["in_stock", "tags", "title"]
    for where, expected in (
        ({"tags": "7"}, [105]),
        ({"tags": ["a", "b"]}, [105, 106]),
        ({"in_stock": True}, [105]),
    ):
        ranked = run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=ItemFilter(where=where))
        assert sorted(ranked.items) == expected


@pytest.mark.parametrize("value", [["a"], [["a"]], {"en": "a"}])
@pytest.mark.parametrize(("column", "other"), [("title", "item_id"), ("item_id", "title")])
def test_titles_and_ids_of_json_lines_are_no_lists(output, tmp_path, column, other, value):
    (tmp_path / "items.jsonl").write_text(json.dumps({other: "105", column: value}))
    run = mmssl_dist.open_run(str(output), items=str(tmp_path / "items.jsonl"))
    with pytest.raises(InputError, match=rf"items\.jsonl, line 1: found an? (list|object) in {column}"):
        _ = run.item_table.columns


def test_files_of_several_formats_are_one_table(run, tmp_path):
    pq.write_table(
        pa.table({"item_id": [105, 106], "title": ["A", "B"], "price": [1, 2]}), tmp_path / "a.parquet"
    )
    (tmp_path / "b.jsonl").write_text('{"item_id": 106, "title": "C"}\n{"item_id": "107", "price": 1.5}')
    files = [items_file(str(tmp_path / name), Storage()) for name in ("a.parquet", "b.jsonl")]
    table = read_item_table(files, run.items, only=["title"])
    assert table.titles(run.items.positions([105, 106, 107, 108])) == ["A", "C", None, None]
    with pytest.raises(InputError, match="column price: found types int64 and string; a column has one type"):
        read_item_table(files, run.items)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_job_s_titles_have_columns_to_filter_by(exported, output, tmp_path, few, suffix):
    raw = tmp_path / "raw"
    raw.mkdir()
    rows = [
        {"item_id": item, "title": f"T {item}", "color": COLORS[item % 3], "vector": [0.5]}
        for item in range(100, 129)  # not of the last item
    ]
    if suffix == "csv":
        names = ("item_id", "title", "color")
        lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
        (raw / "titles.csv").write_text("\n".join(lines) + "\n")
    elif suffix == "jsonl":
        (raw / "titles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), raw / "titles.parquet")
    path = run_with(exported, output, tmp_path, {"path": str(raw), "titles": f"titles.{suffix}"})
    run = open_titled_run(str(path), few_lists=few)
    whole = run.recommend("u3", k=ITEMS, exclude_seen=False).items
    assert 129 in whole
    red = run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=ItemFilter(where={"color": "red"}))
    assert red.items == [item for item in whole if item != 129 and item % 3 == 0]
    assert red.titles == [f"T {item}" for item in red.items]
    named = run.recommend("u3", candidates=ItemFilter(where={"title": "T 105", "color": "red"})).items
    assert set(named) <= {105}
    with pytest.raises(InputError, match=r"found a column size; items can be filtered by color, title"):
        run.recommend("u3", candidates=ItemFilter(where={"size": "1"}))


def test_columns_of_the_job_s_titles_that_are_out_of_reach_are_no_columns(exported, output, tmp_path, caplog):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "titles.csv").write_text("item_id,title,color,size\n105,A,red,1\n")
    run = open_titled_run(
        str(run_with(exported, output, tmp_path, {"path": str(raw), "titles": "titles.csv"}))
    )
    reds = ItemFilter(where={"color": "red"})
    assert run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=reds).items == [105]
    (raw / "titles.csv").unlink()
    assert run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=reds).items == [105]  # as it was read
    with pytest.raises(InputError, match=r"found a column size; items can be filtered by color, title"):
        run.recommend("u3", candidates=ItemFilter(where={"size": "1"}))
    assert "titles cannot be read" in caplog.text


def test_files_of_titles_may_differ_in_their_other_columns(exported, output, tmp_path):
    raw = tmp_path / "raw" / "titles"
    raw.mkdir(parents=True)
    pq.write_table(
        pa.table({"item_id": [105, 106], "title": ["A", "B"], "color": ["red"] * 2}), raw / "a.parquet"
    )
    pq.write_table(pa.table({"item_id": [106, 107], "title": ["C", "D"]}), raw / "b.parquet")
    run = open_titled_run(
        str(run_with(exported, output, tmp_path, {"path": str(raw.parent), "titles": "titles"}))
    )
    reds = ItemFilter(where={"color": "red"})
    # 106 has its last row
    assert run.recommend("u3", k=ITEMS, exclude_seen=False, candidates=reds).items == [105]


def test_ids_of_another_type_and_the_column_of_the_run_s_job(output, tmp_path):
    pq.write_table(pa.table({"item_id": [105.0, 106.0], "title": ["A", "B"]}), tmp_path / "numbers.parquet")
    run = mmssl_dist.open_run(str(output), items=str(tmp_path / "numbers.parquet"))
    assert run.item_table.titles(run.items.positions([106, 105, 100])) == ["B", "A", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, r"--items: found .*none\.csv; one file with a column of item ids"),
        ("items.json", b"{}", r"--items: found .*items\.json; one file .* ending in"),
        ("items.csv", b"sku,title\n1,x\n", r"items\.csv, line 1: found .* a column item_id is needed"),
        ("items.parquet", b"nothing", r"items\.parquet: found"),
    ],
)
def test_a_table_that_cannot_be_read_is_reported(output, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        _ = mmssl_dist.open_run(str(output), items=str(tmp_path / name)).item_table


def test_titles_of_the_job_are_read_and_their_absence_is_warned_of(exported, output, tmp_path, caplog):
    assert mmssl_dist.open_run(str(output)).recommend("u3").titles is None  # no job.yaml in this run
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "titles.csv").write_text("item_id,title,color\n105,Red,x\n")
    copy = run_with(exported, output, tmp_path, {"path": str(raw), "titles": "titles.csv"})
    for few in (False, True):
        ranked = open_titled_run(str(copy), few_lists=few).recommend("u3", k=ITEMS, exclude_seen=False)
        assert dict(zip(ranked.items, ranked.titles, strict=True))[105] == "Red"
    (raw / "titles.csv").unlink()
    for few in (False, True):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert open_titled_run(str(copy), few_lists=few).recommend("u3").titles is None
        assert "titles cannot be read, so items are shown by id" in caplog.text


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("id_column", ["item_id", "nr"])
def test_the_job_names_the_columns_of_titles(exported, output, tmp_path, suffix, id_column):
    """Of its own table and of one that is named for a command; columns keep their names for filters."""
    rows = [{id_column: item, "name": f"Name {item}", "title": f"T{item % 2}"} for item in range(100, 130)]
    raw = tmp_path / "raw"
    raw.mkdir()
    file = raw / f"items.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(
            "".join(",".join(map(str, line)) + "\n" for line in [rows[0], *(r.values() for r in rows)])
        )
    names = {"title": "name", "title_item": None if id_column == "item_id" else id_column}
    columns = exported.job.data.columns.model_copy(update=names)
    data = {"path": str(raw), "titles": file.name, "columns": columns}
    copy = run_with(exported, output, tmp_path, data)
    whole = open_titled_run(str(output)).recommend("u3", k=ITEMS).items
    odd, named = ItemFilter(where={"title": "T1"}), ItemFilter(where={"name": f"Name {whole[0]}"})
    for few in (False, True):
        for items in (None, str(file)):
            opened = open_titled_run(str(copy), Storage(), items, few_lists=few)
            ranked = opened.recommend("u3", k=ITEMS)
            assert ranked.titles == [f"Name {item}" for item in ranked.items]
            assert opened.item_table.has_titles
            filtered = opened.recommend("u3", k=ITEMS, candidates=odd)
            assert filtered.items == [item for item in whole if item % 2]
            assert filtered.titles == [f"Name {item}" for item in filtered.items]
            assert opened.recommend("u3", k=ITEMS, candidates=named).items == whole[:1]
            assert opened.item_table.names == ["name", "title"]
    # A run whose job says nothing reads titles from the column title, and ids from item_id.
    if id_column == "item_id":
        assert set(open_titled_run(str(output), Storage(), str(file)).recommend("u3").titles) <= {"T0", "T1"}
