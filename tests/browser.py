"""A real browser, headless: what a page says on its console, its picture, and whether it fits a screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CONSOLE = re.compile(r'CONSOLE[:(]\d+[)\]]*\s*"(.*?)", source')
# A window is 500 pixels wide or more; a frame has the width of any phone.
_FRAME = """<!doctype html>
<iframe id="frame" width="{width}" height="900" srcdoc="{page}"></iframe><pre id="sizes"></pre>
<script>frame.onload = () => {{ const page = frame.contentDocument.documentElement;
sizes.textContent = JSON.stringify([page.clientWidth, page.scrollWidth]); }}</script>"""


def console_of(page: Path, folder: Path) -> tuple[list[str], int]:
    """Every console message of a page, failed requests among them, and the bytes of its picture in
    ``folder``."""
    picture = folder / "page.png"
    done = _browse(page, folder, "--window-size=1300,3600", f"--screenshot={picture}")
    return _CONSOLE.findall(done.stderr), picture.stat().st_size


def widths_of(page: Path, width: int, folder: Path) -> tuple[int, int]:
    """The width that a screen of ``width`` pixels has for a page, and the one that the page takes."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(_FRAME.format(width=width, page=html.escape(page.read_text())))
    dumped = _browse(frame, folder, "--window-size=1500,1200", "--virtual-time-budget=5000", "--dump-dom")
    sizes = re.search(r'<pre id="sizes">(.*?)</pre>', dumped.stdout)
    assert sizes, dumped.stderr
    assert sizes[1], "the page was not loaded in time"
    room, taken = json.loads(sizes[1])
    return room, taken


def _browse(page: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a network, as ``options`` say."""
    browser = next((result for name in _NAMES if (result := shutil.which(name))), None)
    assert browser, "this test needs Chromium: install the package chromium"
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        f"--user-data-dir={folder}/profile",
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        *options,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done
