"""`.npy` files of any header and content: read as NumPy reads them, or one message."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.numbered import open_numbered
from mmssl_dist.errors import InputError
from mmssl_dist.storage import open_location
from tests.fuzz.amount import amount
from tests.fuzz.refusals import message

DESCRIPTIONS = st.sampled_from(
    [
        "'<f4'",
        "'>f4'",
        "'<f2'",
        "'<f8'",
        "'<f16'",
        "'|i1'",
        "'<u8'",
        "'|b1'",
        "'|O'",
        "'<c8'",
        "'<U2'",
        "'|S3'",
        "'|V4'",
        "'<M8[s]'",
        "[('a', '<f4')]",
        "('<f4', (2,))",
        "'f'",
        "7",
        "''",
        "None",
        "'<i0'",
    ]
)
LENGTHS = st.integers(-3, 6) | st.sampled_from([2**31, 2**62, 2**63, 2**64 + 1, 10**30])
SHAPES = st.lists(LENGTHS, max_size=3).map(tuple).map(repr) | st.sampled_from(
    ["(True, 2)", "(2.0, 2)", "[2, 2]", "2", "()"]
)
VERSIONS = st.sampled_from([(1, 0), (2, 0), (3, 0), (1, 1), (9, 9)])


def read(content: bytes) -> np.ndarray | str:
    """The matrix as it is read, or the refusal."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        path = Path(name) / "image.npy"
        path.write_bytes(content)
        try:
            source = open_numbered(
                RawFile(location=open_location(str(path), Storage()), size=len(content), modified=None)
            )
            batches = [batch.vectors for piece in source.pieces for batch in source.read(piece)]
        except InputError as error:
            return message(error)
        return np.concatenate(batches)


def agrees_with_numpy(content: bytes) -> None:
    result = read(content)
    if isinstance(result, np.ndarray):
        with np.errstate(over="ignore"):
            wanted = np.load(io.BytesIO(content), allow_pickle=False).astype(result.dtype)
        np.testing.assert_array_equal(result, wanted)


@amount
@given(DESCRIPTIONS, st.booleans(), SHAPES, st.binary(max_size=80), VERSIONS)
def test_headers(descr: str, fortran: bool, shape: str, body: bytes, version: tuple[int, int]) -> None:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}".encode()
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    agrees_with_numpy(b"\x93NUMPY" + bytes(version) + length + text + body)


@amount
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4),
    st.integers(0, 40),
    st.booleans(),
)
def test_changed_bytes(flips: list[tuple[int, int]], cut: int, fortran: bool) -> None:
    stream = io.BytesIO()
    np.save(stream, np.asarray(np.arange(12).reshape(4, 3), np.float32, order="F" if fortran else "C"))
    content = bytearray(stream.getvalue())
    for at, change in flips:
        content[at % len(content)] ^= change
    agrees_with_numpy(bytes(content[: len(content) - cut]))


@amount
@given(
    st.text("(){}[]'\",:-0123456789abcdefTruelsdO<>|#\n\\ ", max_size=60)
    | st.sampled_from(["(" * 9000, "-" * 9000 + "1", "[" * 3000 + "]" * 3000, "{" * 200, "'" * 9999])
)
def test_texts_for_headers(text: str) -> None:
    agrees_with_numpy(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + b"\0" * 48)
