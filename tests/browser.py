"""A real browser, headless: what a page says on its console, and a picture of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CONSOLE = re.compile(r'CONSOLE[:(]\d+[)\]]*\s*"(.*?)", source')


def console_of(page: Path, folder: Path) -> tuple[list[str], int]:
    """Every console message of a page, failed requests among them, and the bytes of its picture in
    ``folder``."""
    browser = next((result for name in _NAMES if (result := shutil.which(name))), None)
    assert browser, "this test needs Chromium: install the package chromium"
    picture = folder / "page.png"
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
        "--window-size=1300,3600",
        f"--screenshot={picture}",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return _CONSOLE.findall(done.stderr), picture.stat().st_size
