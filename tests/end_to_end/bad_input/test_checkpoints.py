"""The published checkpoint of a training, spoiled, on its way into evaluation and export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.bad_input.damage import flipped, forged, gone, truncated
from tests.end_to_end.bad_input.matrix import Bench, Case, Spoil, named, patient

MANIFEST = "out/training/manifest.json"
EVALUATE = ("evaluate", "JOB", "--address", "RAY")
EXPORT = ("export", "JOB", "--address", "RAY")
GENERATOR, ROWS = "generator.safetensors", "rows-part-00001.safetensors"
FACT = f"{MANIFEST}: checkpoint is missing or invalid"


def _checkpoint(folder: Path) -> str:
    name = json.loads((folder / MANIFEST).read_text())["facts"]["checkpoint"]
    return f"out/training/{name}"


def _of(name: str, damage: Callable[[str], Spoil]) -> Spoil:
    return lambda folder: damage(f"{_checkpoint(folder)}/{name}")(folder)


def _fact(value: object) -> Spoil:
    return forged(MANIFEST, lambda content: content["facts"].update(checkpoint=value))


def _swapped(folder: Path) -> None:
    """The rows of one partition are those of the other."""
    checkpoint = folder / _checkpoint(folder)
    shutil.copy(checkpoint / "rows-part-00000.safetensors", checkpoint / ROWS)


def _outside(content: dict[str, Any]) -> None:
    content["files"]["../../raw/image.npy"] = next(iter(content["files"].values()))


CASES = [
    Case("truncated weights", f"CHECKPOINT/{GENERATOR}: ", EVALUATE, _of(GENERATOR, truncated), status=1),
    Case(
        "a flipped bit in weights",
        f"CHECKPOINT/{GENERATOR}: content differs from its manifest (SHA-256)",
        EVALUATE,
        _of(GENERATOR, flipped),
        status=1,
    ),
    Case(
        "a flipped bit in a header",
        f"CHECKPOINT/{GENERATOR}: content differs from its manifest (SHA-256)",
        EXPORT,
        _of(GENERATOR, lambda name: flipped(name, 3)),
        status=1,
    ),
    Case("truncated rows", f"CHECKPOINT/{ROWS}: ", EXPORT, _of(ROWS, truncated), status=1),
    Case(
        "a flipped bit in rows",
        f"CHECKPOINT/{ROWS}: content differs from its manifest (SHA-256)",
        EVALUATE,
        _of(ROWS, flipped),
        status=1,
    ),
    Case(
        "missing rows",
        f"CHECKPOINT/{ROWS}: gone, though its manifest names it",
        EVALUATE,
        _of(ROWS, gone),
        status=1,
    ),
    Case(
        "no checkpoint",
        "CHECKPOINT/",
        EXPORT,
        lambda folder: shutil.rmtree(folder / _checkpoint(folder)),
        status=1,
    ),
    Case("rows of another partition", f"CHECKPOINT/{ROWS}: ", EVALUATE, _swapped, status=1),
    Case(
        "a truncated manifest",
        f"{MANIFEST}: not a readable manifest",
        EVALUATE,
        truncated(MANIFEST),
        status=1,
    ),
    Case(
        "a manifest that names a file elsewhere",
        f"{MANIFEST}: not a readable manifest (the file '../../raw/image",
        EVALUATE,
        forged(MANIFEST, _outside),
        status=1,
    ),
    Case(
        "a checkpoint elsewhere",
        f"{MANIFEST}: it lists files outside its checkpoint",
        EXPORT,
        _fact("../../raw"),
        status=1,
    ),
    Case("a checkpoint that is a number", FACT, EVALUATE, _fact(7), status=1),
    Case(
        "no checkpoint's name",
        FACT,
        EXPORT,
        forged(MANIFEST, lambda content: content["facts"].pop("checkpoint")),
        status=1,
    ),
    Case(
        "a training of another job",
        "out/training: found the training of other settings or inputs",
        EVALUATE,
        forged(MANIFEST, lambda content: content.update(fingerprint="0" * 64)),
    ),
    Case(
        "a job of another width",
        "out/training: found the training of other settings or inputs",
        (*EVALUATE, "--set", "model.dimension=16"),
    ),
]


@patient
@named(CASES)
def test_a_bad_checkpoint(bench: Bench, case: Case) -> None:
    bench.check(case)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"test": [1]}',
        b'{"test": {"recall@2": "x"}}',
        b"\xff",
        b'{"validation": 3}',
    ],
)
def test_metrics_that_are_none(bench: Bench, content: bytes) -> None:
    def write(folder: Path) -> None:
        (folder / "out/evaluation/metrics.json").write_bytes(content)

    bench.check(Case("", "out/evaluation/metrics.json: found ", ("summarize", "FOLDER/out"), write))
