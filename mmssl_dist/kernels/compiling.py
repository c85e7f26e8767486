"""Compiles functions with Numba at their first call in a process, and keeps the machine code on disk.

The folder of the machine code belongs to this user alone, since Numba reads pickles from it. Where no
folder can be written, each process compiles for itself. One process at a time compiles or loads a
function, so several workers that start together neither repeat the work nor disturb one another.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch

from mmssl_dist.errors import MmsslError

F = TypeVar("F", bound=Callable[..., Any])

_logger = logging.getLogger(__name__)
_UNREADABLE = (OSError, EOFError, pickle.UnpicklingError, ValueError, IndexError, KeyError)
_lock = threading.RLock()
_helpers: list[Callable[..., Any]] = []
_registrations: list[Callable[[], None]] = []
_kernels: list[Kernel] = []


class Kernel:
    """A function of contiguous NumPy arrays and numbers that runs as machine code without Python's lock.

    signatures: Numba's, one for each combination of argument types; no other is accepted.
    """

    def __init__(self, function: Callable[..., Any], signatures: tuple[str, ...], fastmath: set[str]) -> None:
        self.function, self.signatures, self.fastmath = function, signatures, fastmath
        self._compiled: Callable[..., Any] | None = None

    def prepare(self) -> None:
        """Compile or load, which the first call does otherwise."""
        if self._compiled is None:
            self._compiled = self.compile(cache_folder())

    def __call__(self, *arguments: object) -> Any:
        if self._compiled is None:
            self.prepare()
            assert self._compiled is not None
        return self._compiled(*arguments)

    def compile(self, folder: Path | None) -> Callable[..., Any]:
        """Machine code from ``folder``, or compiled now and saved there; None saves nothing."""
        # ``_caching_in`` changes a setting of the whole process, so no other thread may compile meanwhile.
        with _lock:
            _register_helpers()
            if folder is None:
                return self._compile(cached=False)
            try:
                with _exclusive(folder), _caching_in(folder):
                    return self._compile(cached=True)
            except _UNREADABLE as error:  # a full disk, or files cut short: the code itself is not at fault
                _logger.warning(
                    "Machine code in %s cannot be used (%s: %s); %s is compiled for this process alone. "
                    "Remove that folder if this comes back.",
                    folder,
                    type(error).__name__,
                    error,
                    self.function.__name__,
                )
                return self._compile(cached=False)

    def _compile(self, *, cached: bool) -> Callable[..., Any]:
        import numba

        compiled: Callable[..., Any] = numba.njit(
            list(self.signatures),
            # Else the threads of ``run_in_pieces``, and sampling beside the step, would run one at a time.
            nogil=True,
            cache=cached,
            fastmath=self.fastmath or False,
            error_model="numpy",  # a check for zero before each division keeps loops from using vectors
        )(self.function)
        return compiled


def kernel(*signatures: str, fastmath: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorator for a ``Kernel``. fastmath: LLVM's flags that the function's sums may use."""

    def register(function: Callable[..., Any]) -> Kernel:
        _kernels.append(Kernel(function, signatures, set(fastmath)))
        return _kernels[-1]

    return register


def prepare_all() -> None:
    """Compile or load every kernel of the modules imported so far, so that no step has to wait for it: some
    five seconds where the machine code is not on disk, half a second where it is."""
    for compiled_kernel in _kernels:
        compiled_kernel.prepare()


def helper(function: F) -> F:
    """Decorator for a function that kernels call; it is compiled into each of them."""
    _helpers.append(function)
    return function


def before_compiling(registration: Callable[[], None]) -> Callable[[], None]:
    """Decorator for a function without arguments that is called once, before the first kernel is compiled."""
    _registrations.append(registration)
    return registration


def run_in_pieces(count: int, least: int, run: Callable[[int, int], object]) -> None:
    """Call ``run(first, last)`` on pieces of range(count), on as many threads as torch uses.

    least: fewest elements of a piece; below twice that, the caller's thread takes all of them.
    """
    pieces = min(torch.get_num_threads(), count // least)
    if pieces <= 1:
        run(0, count)
        return
    # The caller's thread takes a piece too, so one less has to be woken up.
    cuts = [piece * count // pieces for piece in range(pieces + 1)]
    waiting = [_threads().submit(run, a, b) for a, b in pairwise(cuts[1:])]
    run(cuts[0], cuts[1])
    for future in waiting:
        future.result()


@cache
def cache_folder() -> Path | None:
    """A folder of this user for this version of the kernels; None where none can be written.

    ``NUMBA_CACHE_DIR`` names the folder above it, else it lies in the user's cache folder, else in the
    folder for temporary files.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    above = (
        [Path(chosen)]
        if chosen
        else [Path(user) / "mmssl-dist", Path(tempfile.gettempdir()) / f"mmssl-dist-{os.getuid()}"]
    )
    for parent in above:
        folder = parent / f"kernels-{_version()}"
        if _usable(folder):
            return folder
    _logger.warning(
        "Compiled kernels cannot be kept in %s, so every process compiles them again, in some five seconds. "
        "Set NUMBA_CACHE_DIR to a folder that this user, and nobody else, may write.",
        " or ".join(map(str, above)),
    )
    return None


def _usable(folder: Path) -> bool:
    """Whether ``folder`` exists or can be made, can be written, and can be written by nobody else."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        # Numba unpickles what lies there: whoever can write to it could run code as this user.
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@cache
def _version() -> str:
    """Digest of what the machine code depends on beside the processor, which Numba checks itself."""
    import numba

    # Numba's own cache compares a file's time, which a new installation may set back.
    digest = hashlib.sha256(f"{numba.__version__} ".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="kernel")


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when a process dies."""
    with open(folder / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _caching_in(folder: Path) -> Iterator[None]:
    from numba.core import config

    settings = vars(config)  # Numba reads this one when it decorates a function
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        settings["CACHE_DIR"] = before


def _register_helpers() -> None:
    """Make the helpers known to Numba, which is imported with the first kernel that runs and not before."""
    from numba.extending import register_jitable

    # Emptied as it goes: a module that is imported later may bring further ones.
    while _helpers:
        register_jitable(_helpers.pop())
    while _registrations:
        _registrations.pop()()


def require_cpu(*tensors: torch.Tensor) -> None:
    """Raises:
    MmsslError: compiled code was about to be given memory of another device.
    """
    devices = {tensor.device.type for tensor in tensors}
    if devices != {"cpu"}:
        raise MmsslError(f"A compiled kernel takes tensors on the CPU, not on {', '.join(sorted(devices))}.")
