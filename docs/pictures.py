"""Makes the pictures of the documents from runs of this version: `make pictures`. Needs Chromium.

    python docs/pictures.py                 # runs the demo and a small shop, then draws docs/images/*.png
    python docs/pictures.py RUN FOLDER      # draws the report of RUN, README.md and the site's first page at
                                            # three widths, light and dark

terminal.png is the end of `mmssl-dist run jobs/demo.yaml`, report.png the start of its report, and
examples.png the examples in the report of a run on drawn shirts.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SIZES = {"desktop": (1320, 4300), "tablet": (820, 6200), "phone": (375, 13000)}
NARROWEST = 500  # window of Chromium
SCHEMES = {"dark": 0, "light": 1}  # Blink's numbers
TERMINAL_FROM = "train: 12 epochs"  # the first line that terminal.png shows
LINE = 20  # pixels of a line of it
EXAMPLES = (1320, 620)
COLOURS = {"red": (200, 70, 60), "green": (60, 150, 95), "blue": (70, 110, 190), "grey": (120, 120, 130)}
SHIRTS, CUSTOMERS, BOUGHT = 120, 240, 12
SHOP = """
output: output
seed: 7
data:
  path: shop
  modalities: {look: {file: look.parquet}}
  titles: items.parquet
  images: pictures/{item}.png
  split: {method: ratio, validation: 0.1, test: 0.2}
training: {epochs: 8, batch_size: 512}
"""


def draw(page: Path, picture: Path, size: tuple[int, int], scheme: int) -> None:
    """Draw the start of a page, as high as ``size`` says, with the light or the dark colours."""
    if size[0] >= NARROWEST:
        screenshot(page, picture, size, scheme)
        return
    from PIL import Image

    with tempfile.TemporaryDirectory() as made:
        frame = Path(made) / "frame.html"
        frame.write_text(
            f'<!doctype html><body style="margin:0"><iframe src="{page.absolute().as_uri()}" '
            f'width="{size[0]}" height="{size[1]}" style="border:0"></iframe>'
        )
        screenshot(frame, picture, (NARROWEST, size[1]), scheme)
    with Image.open(picture) as whole:
        whole.crop((0, 0, *size)).save(picture)


def screenshot(page: Path, picture: Path, size: tuple[int, int], scheme: int) -> None:
    """What a window of Chromium shows of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed: install it, or put it on the PATH")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603, a program and files that are named here
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--hide-scrollbars", f"--user-data-dir={profile}"),
                f"--blink-settings=preferredColorScheme={scheme}",
                f"--window-size={size[0]},{size[1]}",
                f"--screenshot={picture}",
                page.absolute().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )


def page_pictures(run: str, folder: str) -> None:
    """Draw the report of ``run``, README.md and the first page of the site into ``folder``."""
    target = Path(folder).absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        site = Path(made) / "site"
        subprocess.run(  # noqa: S603, a program that is named here
            [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            check=True,
        )
        readme = ROOT / "readme.html"  # beside the pictures that it shows
        pages = {"report": Path(run) / "report.html", "site": site / "index.html", "readme": readme}
        try:
            readme.write_text(readme_page((ROOT / "README.md").read_text()))
            for page, path in pages.items():
                for name, size in SIZES.items():
                    for scheme, number in SCHEMES.items():
                        draw(path, target / f"{page}-{name}-{scheme}.png", size, number)
        finally:
            readme.unlink(missing_ok=True)


def readme_page(text: str) -> str:
    """A Markdown text as a page, without the badges, which another server draws."""
    from markdown import markdown

    text = re.sub(r"^\[!\[.*\n", "", text, flags=re.M)
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:860px;margin:2em auto;padding:0 1em;"
        "color-scheme:light dark}"
        "@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}a{color:#4493f8}}"
        "pre{overflow:auto;background:#8882;padding:1em}table{border-collapse:collapse;display:block;overflow:auto}"
        "td,th{border:1px solid #8886;padding:6px 12px}img{max-width:100%}"
    )
    body = markdown(text, extensions=["tables", "fenced_code"])
    return f'<!doctype html><meta charset="utf-8"><style>{style}</style>{body}'


def all_pictures() -> None:
    """Run the demo and the shop, and draw the three pictures of the documents."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _command(folder, "synthesize", "runs/demo/raw", "--seed", "7")
        printed = _command(folder, "run", str(ROOT / "jobs" / "demo.yaml"))
        page = folder / "terminal.html"
        lines = terminal_lines(printed)
        page.write_text(terminal_page(lines))
        draw(page, IMAGES / "terminal.png", (920, LINE * len(lines) + 30), SCHEMES["light"])
        report = folder / "runs/demo/output/report.html"
        draw(report, IMAGES / "report.png", SIZES["desktop"], SCHEMES["light"])
        write_shop(folder / "shop")
        (folder / "shop.yaml").write_text(SHOP)
        _command(folder, "run", "shop.yaml")
        page = folder / "examples.html"
        page.write_text(section_page((folder / "output/report.html").read_text(), "examples"))
        draw(page, IMAGES / "examples.png", EXAMPLES, SCHEMES["light"])


def _command(folder: Path, *arguments: str) -> str:
    """What a command prints, on both of its streams, as a terminal shows it."""
    done = subprocess.run(  # noqa: S603, this package
        [sys.executable, "-m", "mmssl_dist", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout)
    return done.stdout


def terminal_lines(printed: str) -> list[str]:
    """What terminal.png shows: the command that gives these lines, and the lines."""
    lines = printed.rstrip().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(TERMINAL_FROM))
    last = next(number for number, line in enumerate(lines) if line.startswith("report:"))
    shown = lines[first:last]
    tail = len(lines) - first
    return [f"$ mmssl-dist run jobs/demo.yaml 2>&1 | tail -{tail} | head -{len(shown)}", *shown]


def terminal_page(lines: list[str]) -> str:
    """``lines`` as a page that looks like a terminal."""
    style = f"font:15px/{LINE}px DejaVu Sans Mono,monospace;margin:14px 18px"
    text = html.escape("\n".join(lines))
    return (
        '<!doctype html><meta charset="utf-8"><body style="margin:0;background:#17191f;color:#e8e8e8">'
        f'<pre style="{style}">{text}</pre>'
    )


def section_page(report: str, name: str) -> str:
    """One section of a report as a page, with the report's own styles."""
    (section,) = re.findall(rf'<section id="{name}">.*?</section>', report, flags=re.S)
    styles = "".join(re.findall(r"<style>.*?</style>", report, flags=re.S))
    return f'<!doctype html><meta charset="utf-8">{styles}<body><main>{section}</main>'


def write_shop(folder: Path) -> None:
    """Shirts of four colours with or without stripes, and customers who like one look."""
    from PIL import Image

    rng = np.random.default_rng(7)
    (folder / "pictures").mkdir(parents=True)
    looks = [(colour, striped) for colour in COLOURS for striped in (False, True)]
    ids, titles, vectors = [], [], []
    for shirt in range(SHIRTS):
        look = shirt % len(looks)
        colour, striped = looks[look]
        ids.append(f"shirt-{shirt:03d}")
        titles.append(f"{colour} shirt{' with stripes' if striped else ''}")
        vectors.append((np.eye(len(looks))[look] + rng.normal(0, 0.2, len(looks))).astype(np.float32))
        shade = np.array(COLOURS[colour]) + rng.integers(-20, 21)
        Image.fromarray(shirt_pixels(shade, striped)).save(folder / "pictures" / f"{ids[-1]}.png")
    pq.write_table(pa.table({"item_id": ids, "title": titles}), folder / "items.parquet")
    lists = pa.array([vector.tolist() for vector in vectors], pa.list_(pa.float32()))
    pq.write_table(pa.table({"item_id": ids, "vector": lists}), folder / "look.parquet")
    users, bought = [], []
    for customer in range(CUSTOMERS):
        liked = np.flatnonzero(np.arange(SHIRTS) % len(looks) == customer % len(looks))
        others = rng.choice(SHIRTS, 2, replace=False)
        for shirt in {*rng.choice(liked, BOUGHT, replace=False).tolist(), *others.tolist()}:
            users.append(f"customer-{customer}")
            bought.append(ids[shirt])
    pq.write_table(pa.table({"user_id": users, "item_id": bought}), folder / "interactions.parquet")


def shirt_pixels(colour: np.ndarray, striped: bool) -> np.ndarray:
    """[72, 72, 3] uint8: a shirt on white."""
    rows, columns = np.mgrid[0:72, 0:72]
    body = (abs(columns - 36) < 17) & (rows > 8) & (rows < 66)
    sleeves = (rows > 8) & (rows < 30) & (abs(columns - 36) < 17 + (rows - 8) * 0.8)
    neck = (rows - 8) ** 2 + (columns - 36) ** 2 < 64
    shirt = (body | sleeves) & ~neck
    pixels = np.full((72, 72, 3), 255, np.uint8)
    pixels[shirt] = np.clip(colour, 0, 255)
    if striped:
        pixels[shirt & (rows % 10 < 3)] = 245
    return pixels


if __name__ == "__main__":
    if len(sys.argv) == 1:
        all_pictures()
    else:
        page_pictures(*sys.argv[1:])
