"""Features that cannot be used, among them files made to harm whoever opens them."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa

from tests.end_to_end.bad_input.matrix import Bench, Case, named, patient
from tests.end_to_end.bad_input.matrix_files import ITEMS, VECTORS, content, npy, parquet, write_text

PREPARE = ("prepare", "JOB", "--address", "RAY")
IMAGE, TEXT = "raw/image.npy", "raw/text.parquet"
IDS = list(range(ITEMS))


class _Harmful:
    def __reduce__(self):
        return (open, ("harmed", "w"))


def _header(descr: str, shape: str, fortran: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


def _array(array: np.ndarray) -> object:
    return lambda folder: np.save(folder / IMAGE, array)


CASES = [
    Case(
        name="NaN in Parquet",
        message=f"{TEXT}, row 4: found nan in column 1; features are finite numbers of type",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, IDS, [*VECTORS[:4], [1.0, float("nan")], *VECTORS[5:]]),
    ),
    Case(
        name="a null in a vector",
        message=f"{TEXT}, row 4: found nan in column 0; features are finite numbers",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, IDS, [*VECTORS[:4], [None, 1.0], *VECTORS[5:]]),
    ),
    Case(
        name="vectors of two lengths",
        message=f"{TEXT}, row 4: found 3 values; vectors of a modality have one length, here 2",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, IDS, [*VECTORS[:4], [1.0, 2.0, 3.0], *VECTORS[5:]]),
    ),
    Case(
        name="empty vectors only",
        message=f"{TEXT}: found no vector; a modality must have features for at least one item",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, IDS, [[]] * ITEMS),
    ),
    Case(
        name="no vector at all",
        message=f"{TEXT}: found no vector; a modality must have features for at least one item",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, IDS, [None] * ITEMS),
    ),
    Case(
        name="vectors of items without interactions",
        message=f"data.modalities.text.file: found text.parquet, with {ITEMS} items, none of which has an "
        "interaction; a modality must have features for at least one item that somebody interacted with",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, [item + 1000 for item in IDS], VECTORS),
    ),
    Case(
        name="two vectors of one item",
        message=f"{TEXT}, row {ITEMS}: found a duplicate row for item 0; an item has at most one",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, [*IDS, 0], [*VECTORS, [0.0, 0.0]]),
    ),
    Case(
        name="a vector of no item",
        message=f"{TEXT}, row 1: found no item id; every vector belongs to an item",
        command=PREPARE,
        spoil=lambda folder: write_text(folder, [0, None], VECTORS[:2]),
    ),
    Case(
        name="texts for vectors",
        message=f"{TEXT}, column vector: found type string; features are a list column of numbers",
        command=PREPARE,
        spoil=parquet("text.parquet", item_id=IDS, vector=["1 2"] * ITEMS),
    ),
    Case(
        name="an absurd width",
        message=f"{TEXT}, column vector: found vectors of 1073741824 values; a vector has 1 to",
        command=PREPARE,
        spoil=parquet(
            "text.parquet",
            item_id=pa.array([], pa.int64()),
            vector=pa.array([], pa.list_(pa.float32(), 1 << 30)),
        ),
    ),
    Case(
        name="infinity in .npy",
        message=f"{IMAGE}, row 3: found inf in column 0; features are finite numbers",
        command=PREPARE,
        spoil=_array(np.where(np.arange(ITEMS)[:, None] == 3, np.inf, np.ones((ITEMS, 2), np.float32))),
    ),
    Case(
        name="too few rows",
        message="data.unknown_items: found 5 item(s) without features",
        command=PREPARE,
        spoil=lambda folder: (
            np.save(folder / IMAGE, np.ones((5, 2))),
            write_text(folder, IDS[:5], VECTORS[:5]),
        ),
    ),
    Case(
        name="a vector, no matrix",
        message=f"{IMAGE}: found shape (10,); features are a matrix",
        command=PREPARE,
        spoil=_array(np.ones(ITEMS)),
    ),
    Case(
        name="no dimension",
        message=f"{IMAGE}: found shape (); features are a matrix",
        command=PREPARE,
        spoil=_array(np.float32(1.0)),
    ),
    Case(
        name="objects",
        message=f"{IMAGE}: found values of type object; features are real numbers (pickled objects are "
        "refused)",
        command=PREPARE,
        spoil=_array(np.array([[_Harmful()]], object)),
    ),
    Case(
        name="a pickle",
        message=f"{IMAGE}: found the magic string is not correct",
        command=PREPARE,
        spoil=content(IMAGE, pickle.dumps(_Harmful())),
    ),
    Case(
        name="records",
        message=f"{IMAGE}: found values of type [('a', '<f4')]; features are real numbers",
        command=PREPARE,
        spoil=_array(np.zeros((ITEMS, 2), [("a", "<f4")])),
    ),
    Case(
        name="texts",
        message=f"{IMAGE}: found values of type <U1; features are real numbers",
        command=PREPARE,
        spoil=_array(np.full((ITEMS, 2), "x")),
    ),
    Case(
        name="complex numbers",
        message=f"{IMAGE}: found values of type complex128; features are real numbers",
        command=PREPARE,
        spoil=_array(np.zeros((ITEMS, 2), complex)),
    ),
    Case(
        name="an absurd shape",
        message=f"{IMAGE}: found 99 bytes; shape (1152921504606846976, 1048576) of float32 makes",
        command=PREPARE,
        spoil=npy(_header("'<f4'", f"({1 << 60}, {1 << 20})"), b"\0" * 8),
    ),
    Case(
        name="a shape that wraps around",
        message=f"{IMAGE}: found shape (-2, -4); features are a matrix",
        command=PREPARE,
        spoil=npy(_header("'<f4'", "(-2, -4)"), b"\0" * 32),
    ),
    Case(
        name="a shape of truths",
        message=f"{IMAGE}: found shape (True, True); features are a matrix",
        command=PREPARE,
        spoil=npy(_header("'<f4'", "(True, True)"), b"\0" * 4),
    ),
    Case(
        name="a header that is a program",
        message=f"{IMAGE}: found malformed node or string on line 1",
        command=PREPARE,
        spoil=npy("__import__('os').system('touch harmed')"),
    ),
    Case(
        name="a header without end",
        message=f"{IMAGE}: found ('EOF in multi-line statement'",
        command=PREPARE,
        spoil=npy("(" * 9000),
    ),
    Case(
        name="a truncated .npy",
        message=f"{IMAGE}: found 244 bytes; shape (10, 3) of float32 makes 248 bytes",
        command=PREPARE,
        spoil=lambda folder: (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes()[:-4]),
    ),
    Case(
        name="an empty .npy",
        message=f"{IMAGE}: found EOF: reading magic string",
        command=PREPARE,
        spoil=content(IMAGE, b""),
    ),
    Case(
        name="a version to come",
        message=f"{IMAGE}: found version 9.9 of the format",
        command=PREPARE,
        spoil=npy(_header("'<f4'", "(1, 1)"), b"\0" * 4, version=(9, 9)),
    ),
]


@patient
@named(CASES)
def test_bad_features(bench: Bench, case: Case) -> None:
    bench.check(case)
    assert not (bench.folder / "harmed").exists()
