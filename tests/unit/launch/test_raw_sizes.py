"""`plan` of a job that has published nothing: what the raw files show of its sizes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmssl_dist.app import app
from mmssl_dist.launch import input_check
from tests.unit.launch.raw_folder import ITEMS, PAIRS, write_raw

COUNTED = "counted in the raw files; degrees by a power law"


def plan(folder: Path, *options: str) -> tuple[int, str, str]:
    """Status, output and errors, the latter in one line."""
    done = CliRunner().invoke(app, ["plan", f"{folder}/job.yaml", "--no-calibrate", "--memory=4", *options])
    return done.exit_code, done.stdout, " ".join(done.stderr.split()).replace(f"{folder}/", "")


def with_modality(folder: Path, text: str) -> None:
    """One more modality, of a table of items."""
    rows = (f"{item},{'abc'[item % 3]},{item}\n" for item in range(ITEMS))
    (folder / "raw/items.csv").write_text("item_id,brand,price\n" + "".join(rows))
    with (folder / "job.yaml").open("a") as job:
        job.write(f"    facts: {text}\n")


def test_small_files_are_counted(tmp_path):
    write_raw(tmp_path)
    status, output, errors = plan(tmp_path)
    assert (status, errors) == (0, "")
    first = output.splitlines()[0]
    assert first.startswith("20 users, 10 items, 1")
    assert first.endswith(f" training interactions ({COUNTED})")
    result = json.loads(plan(tmp_path, "--json")[1])
    assert (result["users"], result["items"]) == (20, 10)
    assert result["modalities"] == {"image": 3, "text": 2, "audio": 2}
    assert not (tmp_path / "out").exists()


def test_what_the_job_drops_does_not_count(tmp_path):
    write_raw(tmp_path)
    with (tmp_path / "job.yaml").open("a") as job:
        job.write("  split: {method: leave_last_out}\n")
    result = json.loads(plan(tmp_path, "--json")[1])
    assert result["interactions"] == len(PAIRS) - 2 * 20


def test_columns_of_features_are_as_wide_as_their_fit(tmp_path):
    write_raw(tmp_path)
    with_modality(tmp_path, "{table: items.csv, features: {brand: category, price: number}}")
    result = json.loads(plan(tmp_path, "--json")[1])
    assert result["modalities"]["facts"] == 3 + 2  # values of brand; a price, and whether it is missing


def test_the_width_of_an_encoder_is_asked_for(tmp_path):
    write_raw(tmp_path)
    with_modality(tmp_path, "{encoder: nowhere/at-all, table: items.csv, columns: [brand]}")
    status, _, errors = plan(tmp_path)
    assert status == 2
    assert "--modality: found no width of facts;" in errors
    assert "Give --modality facts=WIDTH, set the modality's dimension, or" in errors
    for option in ("--modality=facts=7", "--set=data.modalities.facts.dimension=7"):
        result = json.loads(plan(tmp_path, option, "--json")[1])
        assert result["modalities"] == {"image": 3, "text": 2, "audio": 2, "facts": 7}


def test_of_larger_files_the_message_has_what_headers_show(tmp_path, monkeypatch):
    write_raw(tmp_path)
    with_modality(tmp_path, "{encoder: nowhere/at-all, table: items.csv, columns: [brand]}")
    monkeypatch.setattr(input_check, "WHOLE_BYTES", 1000)
    status, output, errors = plan(tmp_path)
    assert (status, output) == (2, "")
    assert "options: found no sizes; nothing of this job is published in out yet" in errors
    assert "of which at most 1,000 are counted here" in errors
    assert "show 10 items, 160 rows of interactions, image 3 wide, text 2 wide, audio 2 wide" in errors
    options = (
        "--users N --items 10 --interactions 160 --modality image=3 --modality text=2 --modality audio=2"
    )
    assert f"Give {options} --modality facts=WIDTH, or run `mmssl-dist prepare` first." in errors


@pytest.mark.parametrize(
    ("file", "problem"),
    [("image.npy", "image.npy: found no such file"), ("log/part-1.parquet", "cannot be counted")],
)
def test_files_that_cannot_be_counted(tmp_path, file, problem):
    raw = write_raw(tmp_path)
    (raw / file).unlink()
    if file.endswith(".parquet"):
        (raw / file).write_text("no Parquet")
    status, _, errors = plan(tmp_path)
    assert status == 2
    assert "nothing of this job is published in out yet, and its raw files cannot be counted" in errors
    assert problem in errors
    assert "Give --users N --items N --interactions N --modality image=WIDTH" in errors


def test_a_width_of_another_modality_is_refused(tmp_path):
    write_raw(tmp_path)
    status, _, errors = plan(tmp_path, "--modality=smell=3")
    assert status == 2
    assert "--modality: found smell; the job's modalities are image, text, audio" in errors
