"""One live line on a terminal; the same words as lines elsewhere."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from mmssl_dist.report.live import LiveHandler, begins, ends, progress_handler
from mmssl_dist.report.progress import training_lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    result = logging.Logger("mmssl_dist.test")
    yield result
    for handler in result.handlers:
        handler.close()


def talk(logger: logging.Logger) -> None:
    logger.info("prepare: up to date, out/dataset")
    logger.info("train: started", extra=begins("train"))
    logger.info("train: epoch 1/8: recall@20 0.1000 (best so far); at most 2 min 00 s left")
    logger.info("train:   loss total 3.81; trained 5.6 s, validated 0.3 s")
    logger.warning("train: worker 1 is gone")
    logger.info("train: epoch 2/8: recall@20 0.2000 (best so far); at most 1 min 00 s left")
    logger.info("train: 2 epochs, best validation recall@20 0.2000 (3.0 s)", extra=ends("train"))
    logger.info("report: out/report.html")


STAYS = [
    "prepare: up to date, out/dataset",
    "train: worker 1 is gone",
    "train: 2 epochs, best validation recall@20 0.2000 (3.0 s)",
    "report: out/report.html",
]


def test_elsewhere_every_line_is_a_line(logger):
    stream = io.StringIO()
    logger.addHandler(progress_handler(stream))
    talk(logger)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8
    assert [line for line in lines if line in STAYS] == STAYS
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_what_stays_is_printed_and_the_rest_is_one_line(logger, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    handler = progress_handler(stream)
    assert isinstance(handler, LiveHandler)
    logger.addHandler(handler)
    talk(logger)
    plain = [
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r ") for line in stream.getvalue().splitlines()
    ]
    assert [line for line in plain if line in STAYS] == STAYS
    assert not any(line.startswith("train: epoch") for line in plain)
    live = {line for line in plain if "train " in line and line not in STAYS}
    assert all(len(line) <= 60 for line in live)  # it never breaks
    assert (
        stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
    )  # the cursor is back


def test_the_live_line_says_how_long_and_the_last_that_was_said(logger):
    handler = LiveHandler(Terminal())
    logger.addHandler(handler)
    logger.info("tune: 4 of 4 trials to run", extra=begins("tune"))
    assert re.fullmatch(r"tune  4 of 4 trials to run  \d\.\d s", handler.line().plain)
    logger.info("trial 2: train: epoch 1/4: recall@20 0.3")
    shown = r"tune  trial 2: train: epoch 1/4: recall@20 0\.3  \d\.\d s"
    assert re.fullmatch(shown, handler.line().plain)
    logger.info("trial 2: train:   loss total 3.81")
    assert re.fullmatch(shown, handler.line().plain)


def test_the_line_of_a_long_training_fits_100_columns(logger, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    handler = LiveHandler(Terminal())
    logger.addHandler(handler)
    logger.info("train: started", extra=begins("train"))
    entry = {
        "epoch": 110.0,
        "best_epoch": 108.0,
        "best": 0.1234,
        "recall@20": 0.1233,
        "train_seconds": 62.0,
        "validation_seconds": 9.0,
        "rate/pairs": 48_123.4,
        "share/waiting": 0.3,
        **{f"loss/{name}": 1.0 for name in ("softmax", "contrastive", "l2", "tower_l2", "total")},
    }
    first, details = training_lines(entry, 200, "recall@20")
    logger.info("train: %s", first)
    logger.info("train:   %s", details)
    assert first.endswith("48,123 pairs/s, 1 h 46 min left")
    spinner = 2  # columns
    assert spinner + len(handler.line().plain) <= 100
    assert handler.line().plain.endswith(first)
    assert "loss" not in handler.line().plain
