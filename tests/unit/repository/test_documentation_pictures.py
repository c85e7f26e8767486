"""What the script of the pictures takes from a run and its report, and the shop it makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mmssl_dist.config import parse_job
from mmssl_dist.launch.input_check import check_values
from mmssl_dist.launch.preflight import check_data, check_headers, resolved

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs/pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_terminal_shows_what_its_command_gives(pictures):
    printed = "prepare: x\ntrain: 12 epochs, best\nevaluate: y\nTest <metrics>\nreport: runs/r.html\nlast\n"
    lines = pictures.terminal_lines(printed)
    assert lines == [
        "$ mmssl-dist run jobs/demo.yaml 2>&1 | tail -5 | head -3",
        "train: 12 epochs, best",
        "evaluate: y",
        "Test <metrics>",
    ]
    assert printed.splitlines()[-5:][:3] == lines[1:]
    assert "Test &lt;metrics&gt;</pre>" in pictures.terminal_page(lines)


def test_one_section_of_a_report(pictures):
    report = '<style>a{}</style><section id="data">1</section><section id="examples">2<b>3</b></section>'
    page = pictures.section_page(report, "examples")
    assert page.endswith('<style>a{}</style><body><main><section id="examples">2<b>3</b></section></main>')


def test_the_shop_is_a_data_set(pictures, tmp_path, monkeypatch):
    import yaml

    monkeypatch.chdir(tmp_path)
    pictures.write_shop(tmp_path / "shop")
    job = resolved(parse_job(yaml.safe_load(pictures.SHOP)))
    files = check_data(job)
    check_headers(job, files)
    assert check_values(job, files).features["look"].items == pictures.SHIRTS
    assert len(list((tmp_path / "shop/pictures").iterdir())) == pictures.SHIRTS


def test_every_picture_of_the_documents_is_there_and_made_by_the_script(pictures):
    made = {"terminal.png", "report.png", "examples.png"}
    assert {path.name for path in pictures.IMAGES.glob("*.png")} == made
    script = (ROOT / "docs/pictures.py").read_text()
    assert all(f'IMAGES / "{name}"' in script for name in made)
    assert "pictures: $(STAMP)\n\t$(BIN)/python docs/pictures.py" in (ROOT / "Makefile").read_text()
    assert "`make pictures`" in (ROOT / "CONTRIBUTING.md").read_text()
