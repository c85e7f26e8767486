"""Where machine code is kept, and that nothing depends on keeping it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmssl_dist.kernels.compiling import Kernel, cache_folder, run_in_pieces

USE = """
import torch
from mmssl_dist.kernels.compiling import cache_folder
from mmssl_dist.kernels.id_sets import union
print(union(10, torch.tensor([7, 3, 7]))[0].tolist(), cache_folder())
"""


def twice(x):
    return 2 * x


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": "", **environment},
    )


@pytest.mark.processes
def test_workers_that_start_together_share_one_cache(tmp_path):
    workers = [start(XDG_CACHE_HOME=str(tmp_path)) for _ in range(3)]
    outputs = {worker.communicate(timeout=300)[0] for worker in workers}
    (output,) = outputs
    (folder,) = (tmp_path / "mmssl-dist").iterdir()
    assert output == f"[3, 7] {folder}\n"
    assert list(folder.rglob("*.nbc"))
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.processes
def test_without_a_writable_folder_each_process_compiles_for_itself(tmp_path):
    (tmp_path / "file").write_text("")  # where a folder should be, which root cannot write either
    blocked = str(tmp_path / "file")
    worker = start(NUMBA_CACHE_DIR=blocked)
    output, warnings = worker.communicate(timeout=300)
    assert output == "[3, 7] None\n"
    assert warnings.count(f"Compiled kernels cannot be kept in {blocked}") == 1


def test_files_cut_short_are_compiled_again(tmp_path, caplog):
    kernel = Kernel(twice, ("int64(int64)",), set())
    assert kernel.compile(tmp_path)(4) == 8
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbc", ".nbi")]
    assert len(files) == 2
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert Kernel(twice, ("int64(int64)",), set()).compile(tmp_path)(5) == 10
    assert f"Machine code in {tmp_path} cannot be used" in caplog.text


def test_a_folder_that_others_may_write_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    cache_folder.cache_clear()
    try:
        folder = cache_folder()
        assert folder is not None
        assert folder.parent == tmp_path
        folder.chmod(0o777)
        cache_folder.cache_clear()
        assert cache_folder() is None
    finally:
        cache_folder.cache_clear()


def test_other_argument_types_are_refused():
    with pytest.raises(TypeError):
        Kernel(twice, ("int64(int64)",), set()).compile(None)("four")


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_pieces_cover_everything_once(count):
    seen: list[int] = []
    run_in_pieces(count, 2, lambda a, b: seen.extend(range(a, b)))
    assert sorted(seen) == list(range(count))


def test_an_error_in_a_piece_is_raised(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)

    def fail_late(first: int, _: int) -> None:
        if first:
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        run_in_pieces(10, 2, fail_late)


def test_the_cache_lies_outside_of_the_package():
    folder = cache_folder()
    assert folder is None or Path(__file__).parents[3] not in folder.parents
