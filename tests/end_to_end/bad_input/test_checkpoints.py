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
    Case(
        name="truncated weights",
        message=f"CHECKPOINT/{GENERATOR}: ",
        command=EVALUATE,
        spoil=_of(GENERATOR, truncated),
        status=1,
    ),
    Case(
        name="a flipped bit in weights",
        message=f"CHECKPOINT/{GENERATOR}: content differs from its manifest (SHA-256)",
        command=EVALUATE,
        spoil=_of(GENERATOR, flipped),
        status=1,
    ),
    Case(
        name="a flipped bit in a header",
        message=f"CHECKPOINT/{GENERATOR}: content differs from its manifest (SHA-256)",
        command=EXPORT,
        spoil=_of(GENERATOR, lambda name: flipped(name, 3)),
        status=1,
    ),
    Case(
        name="truncated rows",
        message=f"CHECKPOINT/{ROWS}: ",
        command=EXPORT,
        spoil=_of(ROWS, truncated),
        status=1,
    ),
    Case(
        name="a flipped bit in rows",
        message=f"CHECKPOINT/{ROWS}: content differs from its manifest (SHA-256)",
        command=EVALUATE,
        spoil=_of(ROWS, flipped),
        status=1,
    ),
    Case(
        name="missing rows",
        message=f"CHECKPOINT/{ROWS}: gone, though its manifest names it",
        command=EVALUATE,
        spoil=_of(ROWS, gone),
        status=1,
    ),
    Case(
        name="no checkpoint",
        message="CHECKPOINT/",
        command=EXPORT,
        spoil=lambda folder: shutil.rmtree(folder / _checkpoint(folder)),
        status=1,
    ),
    Case(
        name="rows of another partition",
        message=f"CHECKPOINT/{ROWS}: ",
        command=EVALUATE,
        spoil=_swapped,
        status=1,
    ),
    Case(
        name="a truncated manifest",
        message=f"{MANIFEST}: not a readable manifest",
        command=EVALUATE,
        spoil=truncated(MANIFEST),
        status=1,
    ),
    Case(
        name="a manifest that names a file elsewhere",
        message=f"{MANIFEST}: not a readable manifest (the file '../../raw/image",
        command=EVALUATE,
        spoil=forged(MANIFEST, _outside),
        status=1,
    ),
    Case(
        name="a checkpoint elsewhere",
        message=f"{MANIFEST}: it lists files outside its checkpoint",
        command=EXPORT,
        spoil=_fact("../../raw"),
        status=1,
    ),
    Case(name="a checkpoint that is a number", message=FACT, command=EVALUATE, spoil=_fact(7), status=1),
    Case(
        name="no checkpoint's name",
        message=FACT,
        command=EXPORT,
        spoil=forged(MANIFEST, lambda content: content["facts"].pop("checkpoint")),
        status=1,
    ),
    Case(
        name="a training of another job",
        message="out/training: found the training of other settings or inputs",
        command=EVALUATE,
        spoil=forged(MANIFEST, lambda content: content.update(fingerprint="0" * 64)),
    ),
    Case(
        name="a job of another width",
        message="out/training: found the training of other settings or inputs",
        command=(*EVALUATE, "--set", "model.dimension=16"),
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

    bench.check(
        Case(
            name="",
            message="out/evaluation/metrics.json: found ",
            command=("summarize", "FOLDER/out"),
            spoil=write,
        )
    )
