"""What the documents say exists: commands, targets, settings; and they name no machine."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml

import mmssl_dist
from mmssl_dist.app import app
from mmssl_dist.config import Job, parse_job
from mmssl_dist.errors import ConfigError
from tests.unit.repository.documents import DOCUMENTS, ROOT

PACKAGE = ROOT / "mmssl_dist"
COMMANDS = set(
    "init validate embed prepare partition train evaluate export run tune submit synthesize summarize "
    "compare doctor jobs "
    "recommend similar serve report plan convert fetch".split()
)


def commands() -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_commands_are_all_there_and_documented() -> None:
    assert commands() == COMMANDS
    table = re.findall(r"^\| `mmssl-dist ([a-z]+)", (ROOT / "docs/commands.md").read_text(), flags=re.M)
    assert set(table) == COMMANDS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_commands_that_exist(path: Path) -> None:
    called = r"(?:`|^[ #]*|entrypoint: )(?:mmssl-dist|python cli\.py) +([a-z]+)|\$\(MMSSL\) +([a-z]+)"
    named = {first or second for first, second in re.findall(called, path.read_text(), flags=re.M)}
    assert named <= commands()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_targets_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", path.read_text(), flags=re.M))
    assert {first or second for first, second in named} <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_override_settings_that_exist(path: Path) -> None:
    base = {"output": "x", "data": {"path": "y", "modalities": {"image": {"file": "z"}}}}
    for setting in re.findall(r"--set[ =]['\"]?([a-z_.]+)=", path.read_text()):
        if setting == "a.b":
            continue  # stands for any setting
        with pytest.raises(ConfigError) as caught:  # no setting takes this text for a value
            parse_job(base, [f"{setting}={{odd: 1}}"])
        assert f"{setting}: found" in str(caught.value)


def test_both_readmes_say_the_same() -> None:
    """What is not prose: commands, settings, files, links, what is typed, and the YAML."""
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    for pattern in (
        r"(?<!`)`([^`\n]+)`(?!`)",
        r"\]\((?!README)([^)]+)\)",
        r"^    ([^#\n]+?) *(?:#.*)?$",
        r"^(#+) ",
    ):
        result = [sorted(re.findall(pattern, text, flags=re.M)) for text in (english, chinese)]
        assert result[0] == result[1]
    blocks = [re.findall(r"^```yaml\n(.*?)^```", text, flags=re.M | re.S) for text in (english, chinese)]
    assert [yaml.safe_load(block) for block in blocks[0]] == [yaml.safe_load(block) for block in blocks[1]]


def test_the_readme_s_yaml_is_a_job() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    jobs = [yaml.safe_load(block) for block in blocks]
    assert jobs
    assert all(isinstance(parse_job(job), Job) for job in jobs)


def test_the_pages_of_reference_are_those_of_the_code() -> None:
    """`python docs/reference` writes them."""
    reference = runpy.run_path(str(ROOT / "docs/reference"))
    assert len(reference["PAGES"]) == 3
    assert reference["differing"]() == []


@pytest.mark.processes
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages - {"index"} <= {path.parent.name for path in tmp_path.rglob("index.html")}


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        if path.suffix == ".md":
            text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
            for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
                file = path.parent / target if target else path
                assert file.exists(), f"{path.name}: {target}"
                if anchor and file.suffix == ".md":
                    assert anchor in anchors(file), f"{path.name}: {target}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_python_files_that_exist(path: Path) -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", path.read_text()))
    missing = {name for name in named if not any((top / name).exists() for top in (ROOT, PACKAGE))}
    assert missing == set()


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in plain}


def test_no_file_names_a_machine_or_a_registry(files: list[Path]) -> None:
    names = re.compile(
        "|".join(
            (
                "/wo" + "rk/",
                "/ro" + "ot/",
                "/Us" + "ers/",
                "/opt/(?!mmssl)[a-z]",
                "py" + "pi[./]",
                "python" + "hosted",
                "npm" + "js",
                "download\\.py" + "torch",
                "/home/(?!ray|someone)[a-z]",
            )
        )
    )
    result = []
    for path in files:
        if path.name == "LICENSE" or path.suffix in (".npy", ".npz", ".png", ".parquet"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if names.search(line):
                result.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert result == []


def test_no_large_or_generated_file_is_kept(files: list[Path]) -> None:
    assert [path.name for path in files if path.stat().st_size > 1 << 20] == []
    assert [path for path in files if path.suffix in (".pyc", ".so", ".pkl", ".pt", ".whl")] == []


def test_versions_agree() -> None:
    version = mmssl_dist.__version__
    assert re.search(
        rf"^## \[({re.escape(version)}|Unreleased)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M
    )
    for path in (ROOT / "Dockerfile", *sorted((ROOT / "cluster").glob("*.yaml"))):
        tags = re.findall(r"mmssl-dist:([0-9][0-9.]*[0-9])", path.read_text())
        assert tags, path
        assert set(tags) == {version}, path


def pins() -> dict[str, str]:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), (
        "one version a line, no URL"
    )
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = sum(project["optional-dependencies"].values(), start=project["dependencies"])
    pinned = pins()
    for requirement in wanted:
        match = re.fullmatch(
            r"([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?>=([0-9.]+)(?:,<([0-9.]+))?(?:; .+)?", requirement
        )
        assert match, requirement
        assert numbers(pinned[normal(match[1])]) >= numbers(match[2]), requirement
        assert match[3] is None or numbers(pinned[normal(match[1])]) < numbers(match[3]), requirement


def test_everything_installed_beside_us_is_pinned_as_tested() -> None:
    from importlib.metadata import distributions

    pinned, tested = pins(), {}
    # what setuptools brings along for itself joins the path where something imported it
    for distribution in distributions(path=[sysconfig.get_path("purelib")]):
        tested[normal(distribution.metadata["Name"])] = distribution.version.split("+")[0]
    wrong = {
        name: (tested[name], version)
        for name, version in pinned.items()
        if tested.get(name, version) != version
    }
    assert wrong == {}, "installed version, pinned version"


def test_the_makefile_forwards_every_word_to_the_command(root: Path) -> None:
    """Lines of the Makefile that call us are split as a shell does: a quoting mistake shows here, not after
    an hour."""
    text = (root / "Makefile").read_text().replace("\\\n", " ")
    calls = [line for line in text.splitlines() if "$(MMSSL)" in line and not line.startswith("MMSSL")]
    assert len(calls) >= 2
    for line in calls:
        assert shlex.split(line.replace("$$", "$"))


def test_troubleshooting_lists_messages_as_they_are() -> None:
    sources = "".join(path.read_text() for path in sorted((ROOT / "mmssl_dist").rglob("*.py")))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # a message over several lines is one
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = re.findall(r"^\| (`[^|]+`) \|", text, flags=re.M)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 20
    missing = [
        message for message in messages for piece in message.split("...") if piece.strip() not in sources
    ]
    assert missing == []
