"""A file of users through Ray Data: the lists are those of one user at a time, and nothing half-written looks
done."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from mmssl_dist.serving.item_filter import ItemFilter
from mmssl_dist.serving.run import open_run
from tests.end_to_end.commands import command, succeed
from tests.exported import publish_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bulk")
    publish_run(path / "run")
    return path


def test_many_users_get_what_one_at_a_time_gets(folder, ray_address):
    run = open_run(str(folder / "run"))
    users = run.users.array.take(pa.array([5, 3, 30, 3]))  # one of them twice
    pa.csv.write_csv(pa.table({"name": ["a", "b", "c", "d"], "user_id": users}), folder / "_users[1].csv")
    call = (
        "recommend",
        "run",
        "--users",
        "_users[1].csv",
        "--to",
        "lists",
        "--k",
        "6",
        "--address",
        ray_address,
    )
    assert succeed(folder, *call).stdout == "lists: top 6 for 4 users\n"
    result = pq.read_table(folder / "lists/recommendations")
    assert result.schema.equals(
        pa.schema(
            [
                ("user_id", pa.string()),
                ("items", pa.list_(pa.int64())),
                ("scores", pa.list_(pa.float32())),
            ]
        )
    )
    assert result["user_id"].to_pylist() == users.to_pylist()
    for user, items in zip(result["user_id"].to_pylist(), result["items"].to_pylist(), strict=True):
        assert items == run.recommend(user, k=6).items
        assert not set(items) & set(run.history(user))
    manifest = json.loads((folder / "lists/manifest.json").read_text())
    assert manifest["facts"] == {
        "users": 4,
        "unknown_users": 0,
        "items": 30,
        "k": 6,
        "exclude_seen": True,
        "exact": False,
        "unknown": "error",
        "titles": False,
        "where": {},
    }
    assert set(manifest["files"]) == {
        f"recommendations/{path.name}" for path in (folder / "lists").rglob("*.parquet")
    }

    pq.write_table(pa.table({"user_id": pa.array(["u1", "nobody"])}), folder / "users.parquet")
    refused = command(folder, *call[:2], "--users", "users.parquet", *call[4:])
    assert refused.returncode == 2
    messages = [
        line for line in refused.stderr.splitlines() if not line.startswith("[")
    ]  # Ray's own log, at times
    assert messages == [
        "error: user id: found 'nobody'; the run knows 40 users, with ids of type string. Give one from "
        f"the data, such as {run.users.array[0]}."
    ]
    assert not (folder / "lists/manifest.json").exists()


def test_quoted_lines_of_a_large_file_are_no_users(folder, ray_address):
    run = open_run(str(folder / "run"))
    users = [run.users.array[number % 40].as_py() for number in range(400)]
    note = "".join(f"line {line},nobody,blue\n" for line in range(200))
    pa.csv.write_csv(pa.table({"note": [note] * 400, "user_id": users}), folder / "noted.csv")
    assert (folder / "noted.csv").stat().st_size > 1 << 20  # more than one block
    call = ("recommend", "run", "--users", "noted.csv", "--to", "noted", "--k=3", "--address", ray_address)
    assert succeed(folder, *call).stdout == "noted: top 3 for 400 users\n"
    assert pq.read_table(folder / "noted/recommendations")["user_id"].to_pylist() == users


def test_users_in_the_column_that_the_job_names(folder, tmp_path, ray_address):
    exported = publish_run(tmp_path / "made")
    copy = tmp_path / "run"
    copy.mkdir()
    for part in ("export", "partitions"):
        (copy / part).symlink_to(tmp_path / "made" / part)
    columns = exported.job.data.columns.model_copy(update={"user": "customer_id"})
    data = exported.job.data.model_copy(update={"columns": columns})
    job = exported.job.model_copy(update={"data": data})
    (copy / "job.yaml").write_text(yaml.safe_dump(job.model_dump(mode="json")))
    (tmp_path / "users.csv").write_text("n,customer_id\n1,u3\n2,u1\n")
    call = ("recommend", "run", "--users", "users.csv", "--to", "lists", "--k=3", "--address", ray_address)
    assert succeed(tmp_path, *call).stdout.splitlines()[-1] == "lists: top 3 for 2 users"
    assert pq.read_table(tmp_path / "lists/recommendations")["user_id"].to_pylist() == ["u3", "u1"]
    (tmp_path / "users.csv").write_text("n,customer\n1,u3\n")
    refused = command(tmp_path, *call)
    assert refused.returncode == 2
    assert "a column user_id is needed. Rename the right column (customer_id is accepted" in refused.stderr


def test_unknown_users_are_left_out_or_get_what_is_popular_and_are_counted(folder, ray_address):
    run = open_run(str(folder / "run"))
    pq.write_table(pa.table({"user_id": ["u1", "nobody", "u2", None]}), folder / "some.parquet")
    call = ("recommend", "run", "--users", "some.parquet", "--k=6", "--address", ray_address)
    done = succeed(folder, *call, "--to", "skipped", "--unknown", "skip")
    last = done.stdout.splitlines()[-1]  # a line of Ray's own may come before
    assert last == "skipped: top 6 for 2 users; 2 unknown users left out"
    lists = pq.read_table(folder / "skipped/recommendations").to_pydict()
    assert lists["user_id"] == ["u1", "u2"]
    assert lists["items"] == [run.recommend(user, k=6).items for user in ("u1", "u2")]
    assert json.loads((folder / "skipped/manifest.json").read_text())["facts"]["unknown_users"] == 2

    done = succeed(folder, *call, "--to", "popular", "--unknown", "popular")
    last = done.stdout.splitlines()[-1]
    assert last == "popular: top 6 for 4 users; 2 unknown users among them with the most popular items"
    lists = pq.read_table(folder / "popular/recommendations").to_pydict()
    assert lists["user_id"] == ["u1", "nobody", "u2", None]
    popular = run.popular(6).items
    assert lists["items"] == [
        run.recommend("u1", k=6).items,
        popular,
        run.recommend("u2", k=6).items,
        popular,
    ]
    assert [scores is None for scores in lists["scores"]] == [False, True, False, True]

    wrong = command(folder, *call, "--to", "wrong", "--unknown", "ignore")
    assert wrong.returncode == 2
    assert "--unknown: found ignore; it must be error, skip or popular" in wrong.stderr


def test_titles_and_filters_are_those_of_the_service(folder, ray_address):
    run = open_run(str(folder / "run"))
    rows = "".join(f"{item},Title {item},{('red', 'green')[item % 2]}\n" for item in range(100, 129))
    (folder / "items.csv").write_text("item_id,title,color\n" + rows)
    whole = run.recommend("u1", k=30, exclude_seen=False).items
    (folder / "allow.csv").write_text("item_id\n" + "".join(f"{item}\n" for item in (*whole[:20], 999)))
    pq.write_table(pa.table({"item_id": [float(whole[1]), None]}), folder / "block.parquet")
    pq.write_table(pa.table({"user_id": ["u1", "nobody", "u2"]}), folder / "three.parquet")
    call = ("recommend", "run", "--users", "three.parquet", "--to", "chosen", "--k=6", "--unknown=popular")
    files = ("--items=items.csv", "--allow=allow.csv", "--block=block.parquet", f"--address={ray_address}")
    done = succeed(folder, *call, *files, "--where", "color=red", "--titles")
    chosen = ItemFilter(
        allow=[item for item in whole[:20] if item % 2 == 0 and item != 129], block=[whole[1]]
    )
    assert chosen.allow is not None
    listed = len(set(chosen.allow) - {whole[1]})
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"chosen: top 6 for 3 users, of {listed} items; 1 unknown users among them")
    lists = pq.read_table(folder / "chosen/recommendations")
    assert lists.schema.field("titles").type == pa.list_(pa.string())
    assert lists["items"].to_pylist() == [
        run.recommend("u1", k=6, candidates=chosen).items,
        run.popular(6, chosen).items,
        run.recommend("u2", k=6, candidates=chosen).items,
    ]
    assert lists["titles"].to_pylist() == [
        [f"Title {item}" for item in row.as_py()] for row in lists["items"]
    ]
    facts = json.loads((folder / "chosen/manifest.json").read_text())["facts"]
    assert (facts["items"], facts["titles"], facts["where"]) == (listed, True, {"color": ["red"]})

    # Nothing of an earlier call is lost to a mistake
    for options, message in (
        (("--where=color=blue", "--items=items.csv"), "conditions that no item of the run meets"),
        (("--where=size=1", "--items=items.csv"), "where: found a column size"),
        (("--titles",), "--titles: found a run without titles"),
        (("--allow=items.parquet",), "--allow: found "),
    ):
        refused = command(folder, *call, *options)
        assert (refused.returncode, message in refused.stderr) == (2, True)
    assert (folder / "chosen/manifest.json").exists()
    # Lists of one user or item are refused for the same reason
    for question in (("recommend", "run", "--user=u1"), ("similar", "run", "--item=101")):
        refused = command(folder, *question, "--where=color=blue", "--items=items.csv")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "conditions that no item of the run meets" in refused.stderr


def rows_of_day(run, users: list[str], k: int) -> list[tuple[str, int, int, float]]:
    lists = [(user, run.recommend(user, k=k)) for user in users]
    return sorted(
        (user, rank, item, float(score))
        for user, ranked in lists
        for rank, (item, score) in enumerate(zip(ranked.items, ranked.scores, strict=True), 1)
    )


def read_rows(table: pa.Table) -> list[tuple[object, ...]]:
    return sorted(tuple(row.values()) for row in table.to_pylist())


def test_rows_of_a_day_go_to_a_table(folder, ray_address):
    run = open_run(str(folder / "run"))
    users = [run.users.array[number % 40].as_py() for number in range(40)]
    pq.write_table(pa.table({"user_id": users}), folder / "all.parquet")
    pq.write_table(pa.table({"user_id": users[:2]}), folder / "two.parquet")
    call = (
        "recommend",
        "run",
        "--users",
        "all.parquet",
        "--table",
        "days",
        "--address",
        ray_address,
        "--k=4",
    )
    done = succeed(folder, *call, "--date=2026-11-29")
    assert done.stdout.splitlines()[-1] == "days/date=2026-11-29: top 4 for 40 users"
    succeed(folder, *call, "--date=2026-11-30")
    # The day again, with other users: nothing of the earlier rows stays, and the other day keeps its own
    succeed(folder, *call[:3], "two.parquet", *call[4:], "--date=2026-11-30")
    read = {day: read_rows(pq.read_table(folder / f"days/date={day}", partitioning=None)) for day in DAYS}
    assert read == {DAYS[0]: rows_of_day(run, users, 4), DAYS[1]: rows_of_day(run, users[:2], 4)}

    # A user who is not in the run: nothing has changed, and nothing lies about
    pq.write_table(pa.table({"user_id": ["u1", "nobody"]}), folder / "wrong.parquet")
    before = sorted(folder.joinpath("days").rglob("*.parquet"))
    assert command(folder, *call[:3], "wrong.parquet", *call[4:], "--date=2026-11-30").returncode == 2
    assert sorted(folder.joinpath("days").rglob("*.parquet")) == before

    # With popular items users are those of the file: another type than the table's is seen before any list
    pq.write_table(pa.table({"user_id": [1, 2]}), folder / "numbers.parquet")
    numbers = [*call[:3], "numbers.parquet", *call[4:7], "127.0.0.1:1", "--k=4", "--unknown=popular"]
    refused = command(folder, *numbers, "--date=2026-11-30")
    assert refused.returncode == 2
    assert "user_id of type " in refused.stderr

    delta = [*call[:5], "lake", *call[6:], "--table-format=delta", "--date=2026-11-30", "--unknown=popular"]
    succeed(folder, *delta[:3], "wrong.parquet", *delta[4:], "--titles", f"--items={write_titles(folder)}")
    rows = DeltaTable(str(folder / "lake")).to_pyarrow_table().sort_by([("user_id", "ascending")])
    assert rows.schema.names == ["user_id", "rank", "item_id", "score", "title", "date"]
    popular = run.popular(4).items
    assert rows["item_id"].to_pylist()[:4] == popular  # of "nobody"
    assert rows["score"].to_pylist()[:4] == [None] * 4
    assert rows["title"].to_pylist() == [f"Title {item}" for item in rows["item_id"].to_pylist()]
    # Without titles it would be another table
    refused = command(folder, *delta)
    assert refused.returncode == 2
    assert "--table: found " in refused.stderr
    assert "a column title; a table of lists is a new folder" in refused.stderr


DAYS = ("2026-11-29", "2026-11-30")


def write_titles(folder: Path) -> str:
    rows = "".join(f"{item},Title {item}\n" for item in range(100, 130))
    (folder / "titles.csv").write_text("item_id,title\n" + rows)
    return "titles.csv"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--table", "days", "--date", "30.11.2026"), "--date: found 30.11.2026; a day is written as year"),
        (("--table", "days", "--table-format", "csv"), "--table: found csv; a table's format is parquet or"),
        (("--table", "run/days"), "--table: found "),
        (("--table", "days", "--to", "lists"), "options: found another combination"),
        (("--to", "lists", "--date", "2026-11-30"), "options: found --table-format or --date with --to"),
    ],
)
def test_tables_that_cannot_be_written(folder, options, message):
    (folder / "u.csv").write_text("user_id\nu1\n")
    done = command(folder, "recommend", "run", "--users", "u.csv", *options, "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr
    assert (folder / "run/export/manifest.json").exists()


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ("nowhere.parquet", "one file with a column user_id"),
        ("other.csv", "other.csv, line 1: found columns a, b; a column user_id is needed"),
        ("text.parquet", "the file must be readable Parquet"),
    ],
)
def test_a_file_that_names_no_users(folder, users, message):
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "text.parquet").write_text("u1\n")
    done = command(folder, "recommend", "run", "--users", users, "--to", "new", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "new").exists()


def test_a_folder_with_something_else_is_left_alone(folder):
    (folder / "u.csv").write_text("user_id\nu1\n")
    done = command(folder, "recommend", "run", "--users", "u.csv", "--to", "run", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert (
        "--to: found run; the folder must be new, empty, or hold recommendations of an earlier call"
        in done.stderr
    )
    assert (folder / "run/export/manifest.json").exists()
