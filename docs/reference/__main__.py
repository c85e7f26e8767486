"""Writes the reference pages from the code: docs/settings.md, command-options.md and http-api.md.

    python docs/reference [--check]

--check changes nothing and ends with status 1 where a page differs from the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import commands_page
import http_page
import settings_page

FOLDER = Path(__file__).parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page.page,
    "command-options.md": commands_page.page,
    "http-api.md": http_page.page,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where a page differs")
    if parser.parse_args().check:
        sys.exit(bool(differing()))
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


def differing() -> list[str]:
    """The pages that are not those of the code."""
    return [name for name, page in PAGES.items() if (FOLDER / name).read_text() != page()]


if __name__ == "__main__":
    main()
