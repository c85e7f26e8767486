"""Draws pictures of a report: `python docs/pictures.py RUN FOLDER` writes one per width, light and dark.

docs/images/report.png is report-desktop-light.png of `make demo`. Needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {
    "desktop": (1320, 4300),
    "tablet": (820, 6200),
    "phone": (500, 11000),
}  # Chromium is 500 wide or more
SCHEMES = {"dark": 0, "light": 1}  # Blink's numbers


def draw(page: Path, picture: Path, size: tuple[int, int], scheme: int) -> None:
    """Draw the start of a page, as high as ``size`` says, with the light or the dark colours."""
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


def main(run: str, folder: str) -> None:
    """Draw the report of ``run`` into ``folder``."""
    target = Path(folder).absolute()
    target.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        for scheme, number in SCHEMES.items():
            draw(Path(run) / "report.html", target / f"report-{name}-{scheme}.png", size, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
