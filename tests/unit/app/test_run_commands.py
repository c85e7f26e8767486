"""recommend and similar as a user meets them: tables, JSON, and one message for what is wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.serving.run import open_run

ROOT = Path(__file__).parents[3]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_recommend_as_json_is_what_the_run_recommends(output):
    done = call("recommend", output, "--user", "u3", "--k", 5, "--json")
    assert done.exit_code == 0, done.stderr
    ranked = open_run(str(output)).recommend("u3", k=5)
    expected = [
        {"item": item, "score": float(score)} for item, score in zip(ranked.items, ranked.scores, strict=True)
    ]
    assert json.loads(done.stdout) == {"user": "u3", "items": expected}


def test_recommend_without_a_terminal_writes_lines(output):
    done = call("recommend", output, "--user", "u3", "--k", 3, "--include-seen")
    ranked = open_run(str(output)).recommend("u3", k=3, exclude_seen=False)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == ["rank", "item", "score"]
    assert [line[1] for line in lines[1:]] == [str(item) for item in ranked.items]
    assert done.stdout != call("recommend", output, "--user", "u3", "--k", 3).stdout


def test_a_new_user_by_items(output):
    done = call("recommend", output, "--item", 103, "--item", 104, "--k", 4, "--json")
    result = json.loads(done.stdout)
    assert result["items_known"] == ["103", "104"]
    assert [entry["item"] for entry in result["items"]] == open_run(str(output)).recommend_new(
        [103, 104], k=4
    ).items


def test_similar(output):
    done = call("similar", output, "--item", 110, "--k", 4, "--json")
    result = json.loads(done.stdout)
    ranked = open_run(str(output)).similar(110, k=4)
    assert result["item"] == "110"
    assert [entry["item"] for entry in result["items"]] == ranked.items
    assert [entry["cosine"] for entry in result["items"]] == pytest.approx(ranked.scores.tolist())
    lines = call("similar", output, "--item", 110, "--k", 1).stdout.splitlines()
    assert lines[1].split("\t")[1] == str(ranked.items[0])


def test_titles_and_conditions_on_a_column(output, tmp_path):
    rows = (f'{item},"Title\t{item}",{"even" if item % 2 == 0 else "odd"}\n' for item in range(100, 130))
    (tmp_path / "items.csv").write_text("item_id,title,parity\n" + "".join(rows))
    options = ("--items", tmp_path / "items.csv", "--where", "parity=even", "--k", 3)
    expected = [item for item in open_run(str(output)).recommend("u3", k=30).items if item % 2 == 0][:3]
    lines = call("recommend", output, "--user", "u3", *options).stdout.splitlines()
    assert lines[0] == "rank\titem\ttitle\tscore"
    assert [line.split("\t")[:3] for line in lines[1:]] == [
        [str(rank), str(item), f"Title {item}"] for rank, item in enumerate(expected, 1)
    ]
    done = call("recommend", output, "--user", "u3", *options, "--json")
    assert [(entry["item"], entry["title"]) for entry in json.loads(done.stdout)["items"]] == [
        (item, f"Title\t{item}") for item in expected
    ]
    alike = [item for item in open_run(str(output)).similar(110, k=30).items if item % 2 == 0][:3]
    done = call("similar", output, "--item", 110, *options, "--json")
    assert [entry["item"] for entry in json.loads(done.stdout)["items"]] == alike
    both = call("similar", output, "--item", 110, *options, "--where", "parity=odd", "--json")
    assert [entry["item"] for entry in json.loads(both.stdout)["items"]] == open_run(str(output)).similar(
        110, k=3
    ).items


def test_lists_of_items_to_allow_and_to_block(output, tmp_path):
    whole = open_run(str(output)).recommend("u3", k=30).items
    (tmp_path / "allow.tsv").write_text("note\titem_id\n" + "".join(f"x\t{item}\n" for item in whole[:4]))
    (tmp_path / "block.csv").write_text(f"item_id\n{whole[1]}\nunknown\n")
    options = ("--allow", tmp_path / "allow.tsv", "--block", tmp_path / "block.csv", "--json")
    done = call("recommend", output, "--user", "u3", *options)
    assert [entry["item"] for entry in json.loads(done.stdout)["items"]] == [whole[0], *whole[2:4]]
    done = call("similar", output, "--item", whole[0], *options)
    assert {entry["item"] for entry in json.loads(done.stdout)["items"]} == set(whole[2:4])


@pytest.mark.processes
def test_a_table_on_a_terminal(output):
    main, other = pty.openpty()
    command = [sys.executable, str(ROOT / "cli.py"), "similar", str(output), "--item", "110", "--k", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(command, stdout=other, stderr=subprocess.PIPE, env=environment)
    os.close(other)
    terminal = os.read(main, 10_000).decode()
    os.close(main)
    assert done.returncode == 0, done.stderr
    assert "┃ rank ┃ item ┃ cosine ┃" in re.sub(r"\x1b\[[0-9;]*m", "", terminal)
    for rank, item in enumerate(open_run(str(output)).similar(110, k=2).items, 1):
        assert f"│    {rank} │ {item}  │ 0." in terminal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("recommend", "--user", "nobody"),
            "error: user id: found 'nobody'; the run knows 40 users, with ids of type string. "
            "Give one from the data, such as ",
        ),
        (
            ("recommend", "--item", "5"),
            "error: item id: found '5'; the run knows 30 items, with ids of type int64. "
            "Give one from the data, such as ",
        ),
        (("similar", "--item", "x"), "error: item id: found 'x';"),
        (("recommend", "--user", "u1", "--k", "0"), "error: k: found 0; a list has at least one item"),
        (
            ("recommend",),
            "error: options: found another combination of --user, --item, --users, --to and --table; ",
        ),
        (("recommend", "--user", "u1", "--item", "100"), "error: options:"),
        (("recommend", "--users", "f.csv"), "error: options:"),
        (("recommend", "--user", "u1", "--titles"), "error: options: found --titles without --users"),
        (
            ("recommend", "--user", "u1", "--block", "no.csv"),
            "error: --block: found ",
        ),
        (
            ("similar", "--item", "101", "--where", "color"),
            "error: --where: found color; a condition has the form",
        ),
        (
            ("similar", "--item", "101", "--where", "a=b", "--where", "a>=1"),
            "error: --where: found values and bounds of a; a column has either",
        ),
        (
            ("similar", "--item", "101", "--where", "a>1", "--where", "a>2"),
            "error: --where: found a>2; a column has one bound of each kind",
        ),
        (
            ("similar", "--item", "101", "--where", "a>1", "--where", "a<=b=2"),
            "error: where: found a column a; items can be filtered",
        ),
        (
            ("similar", "--item", "101", "--where", "a=b"),
            "error: where: found a column a; items can be filtered",
        ),
        (
            ("recommend", "--user", "u1", "--set", "seed=1"),
            "error: --set: found seed=1; only storage.* can be set here",
        ),
        (("similar", "--item", "101", "--set", "storage.endpoint=x"), "error: storage: 1 problem(s)"),
    ],
)
def test_bad_questions_exit_2_with_one_message(output, arguments, message):
    command, *rest = arguments
    done = call(command, output, *rest)
    assert done.exit_code == 2
    assert done.stderr.startswith(message)
    assert done.stdout == ""


def test_no_run_there(tmp_path):
    for command in (("recommend", tmp_path, "--user", "u1"), ("similar", tmp_path, "--item", "1")):
        done = call(*command)
        assert done.exit_code == 2
        assert "the export must be published first. Run `mmssl-dist export` on this job." in done.stderr


def test_a_corrupt_run_exits_1(output, tmp_path):
    shutil.copytree(output, tmp_path / "copy")
    (tmp_path / "copy/export/index/items.faiss").write_bytes(b"nothing")
    done = call("recommend", tmp_path / "copy", "--user", "u1")
    assert done.exit_code == 1
    assert "index/items.faiss: content differs from its manifest" in done.stderr
