"""The end of a process while a thread still reads a stream that Python made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow.fs as pafs
import pytest

from mmssl_dist.config.resource_sections import Storage
from mmssl_dist.data.files import RawFile
from mmssl_dist.data.readers.delimited import text_blocks
from mmssl_dist.storage import lent_streams, open_location
from mmssl_dist.storage.lent_streams import LendingHandler

# A thread that does not keep the interpreter from ending, as those of Arrow; it releases the stream late
HOLDER = """
import io, threading, time
from mmssl_dist.storage.lent_streams import lend

def hold(streams):
    time.sleep(0.3)
    print("released", flush=True)
    streams.clear()

threading.Thread(target=hold, args=([lend(io.BytesIO(b"text"))],), daemon=True).start()
"""


@pytest.mark.processes
def test_the_process_ends_after_the_stream_is_released() -> None:
    ended = subprocess.run([sys.executable, "-c", HOLDER], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "released\n", "")


@pytest.mark.processes
def test_the_process_does_not_wait_for_a_stream_that_is_never_released() -> None:
    script = "import io\nfrom mmssl_dist.storage.lent_streams import lend\nkept = lend(io.BytesIO())\n"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The references to what has been lent in the test."""
    references: list[object] = []
    monkeypatch.setattr(lent_streams, "_lent", references)
    return references


def test_checked_text_is_lent(tmp_path: Path, lent: list[object]) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    file = RawFile(location=open_location(str(tmp_path / "rows.csv"), Storage()), size=8, modified=None)
    blocks = text_blocks(file, ["a"], ())
    next(blocks)
    assert len(lent) == 1


def test_streams_of_fsspec_are_lent(tmp_path: Path, lent: list[object]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    filesystem = pafs.PyFileSystem(LendingHandler(fsspec.filesystem("file")))
    with filesystem.open_input_file(str(path)) as file, filesystem.open_input_stream(str(path)) as stream:
        assert file.read() == stream.read() == path.read_bytes()
        assert len(lent) == 2
    with pytest.raises(FileNotFoundError):
        filesystem.open_input_file(str(tmp_path / "none.csv"))
