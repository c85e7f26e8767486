"""The image: pinned, of the tested versions, unprivileged, and without what it does not need."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction; continued lines joined, comments left out."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def arguments(name: str) -> list[str]:
    return [rest for actual, rest in instructions() if actual == name]


def test_only_known_instructions() -> None:
    known = {"ARG", "CMD", "COPY", "ENV", "FROM", "RUN", "SHELL", "USER", "WORKDIR"}
    assert {name for name, _ in instructions()} <= known  # so no ADD, which fetches URLs and unpacks archives


def test_the_base_is_pinned_to_a_supported_python() -> None:
    (version,) = re.findall(r"PYTHON_VERSION=(\S+)", "\n".join(arguments("ARG")))
    assert re.fullmatch(r"3\.(11|12)\.\d+", version)
    bases = [base.split()[0] for base in arguments("FROM")]
    assert len(bases) == 2
    assert set(bases) == {"python:${PYTHON_VERSION}-slim-bookworm"}


def test_the_last_user_is_not_root() -> None:
    after = [name for name, _ in instructions()]
    assert arguments("USER") == ["1000:1000"]  # a number, so that Kubernetes can see that it is not root
    assert "RUN" not in after[after.index("USER") :]


def test_packages_are_the_tested_ones_and_leave_no_cache() -> None:
    installs = [run for run in arguments("RUN") if "pip install" in run]
    assert all("-c constraints.txt" in run or "--no-deps" in run for run in installs)
    assert any("-c constraints.txt" in run for run in installs)
    assert "PIP_NO_CACHE_DIR=1" in " ".join(arguments("ENV"))
    (apt,) = (run for run in arguments("RUN") if "apt-get" in run)
    assert "--no-install-recommends" in apt
    assert "rm -rf /var/lib/apt/lists/*" in apt


def test_cpu_and_cuda_are_chosen_by_an_argument() -> None:
    assert 'TORCH_INDEX_URL=""' in arguments("ARG")
    assert any('${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"}' in run for run in arguments("RUN"))


def test_no_secret_and_no_address() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"https?://|password|secret|AWS_|token\s*=", text, flags=re.I)
    assert not re.search(r"curl|wget\s+-|git clone|\bsudo\b", text)


def ignored(name: str) -> bool:
    result = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        if (
            fnmatch.fnmatch(name, pattern)
            or name.split("/")[0] == pattern
            or fnmatch.fnmatch(Path(name).name, pattern)
        ):
            result = not line.startswith("!")
    return result


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        (".git/config", True),
        (".venv/bin/python", True),
        ("runs/x", True),
        (".env", True),
        ("tests/conftest.py", True),
        ("mmssl_dist/app.py", False),
        ("constraints.txt", False),
        ("jobs/demo.yaml", False),
    ],
)
def test_the_context_holds_what_is_copied_and_no_more(name: str, left_out: bool) -> None:
    assert ignored(name) == left_out


def test_everything_copied_is_there_and_in_the_context() -> None:
    for rest in arguments("COPY"):
        words = [word for word in rest.split() if not word.startswith("--")]
        if "--from=build" in rest:
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert not ignored(source), source
