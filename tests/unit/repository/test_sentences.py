"""Sentences of the documents are short: at most 30 words of prose each.

A sentence ends at `.`, `!` or `?` before white space or the end of its paragraph, and at the end of a list
item; not at a colon or a semicolon. Inline code is one word; a link counts as the words of its text.
Code blocks, tables, headings, comments, pictures and HTML are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.repository.documents import DOCUMENTS, ROOT

MOST_WORDS = 30
ENGLISH = [path for path in DOCUMENTS if path.suffix == ".md" and path.name != "README.zh-CN.md"]
NO_PROSE = re.compile(r"\s*(#{1,6} |\||!\[[^]]*\]\([^)]*\)$)")
LIST_ITEM = re.compile(r"\s*([-*+]|\d+\.)\s+")
END = re.compile(r"[.!?][\"')*_]*(?=\s|$)")
Line = tuple[int, str]
"""A line's number in its document, and its text."""


def paragraphs(text: str) -> Iterator[list[Line]]:
    """The lines of every paragraph and every list item of a document."""
    blocks = r"^[ \t]*```.*?^[ \t]*```[^\n]*|<!--.*?-->"
    text = re.sub(blocks, lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    paragraph: list[Line] = []
    in_html = False
    for number, line in enumerate([*text.split("\n"), ""], 1):
        item = LIST_ITEM.match(line)
        is_blank = not line.strip()
        in_html = not is_blank and (in_html or line.startswith("<"))
        # Indented text that continues no paragraph is code.
        is_code = line.startswith("    ") and not paragraph and item is None
        is_prose = not (is_blank or in_html or is_code or NO_PROSE.match(line))
        if paragraph and (item or not is_prose):
            yield paragraph
            paragraph = []
        if is_prose:
            paragraph.append((number, line[item.end() :] if item else line))


def sentences(text: str) -> Iterator[tuple[int, int, str]]:
    """Of every sentence of a document the line on which it begins, its number of words, and its text."""
    for paragraph in paragraphs(text):
        joined = "\n".join(line for _, line in paragraph)
        # Code becomes one word and a link's target becomes spaces, of the same length: places stay.
        plain = re.sub(r"(`+).+?\1", lambda code: "x" * len(code[0]), joined, flags=re.S)
        plain = re.sub(r"\]\([^)\s]*\)", lambda target: " " * len(target[0]), plain)
        begin = 0
        for end in [*(mark.end() for mark in END.finditer(plain)), len(plain)]:
            words = [word for word in re.finditer(r"\S+", plain[begin:end]) if re.search(r"\w", word[0])]
            if words:
                line, _ = paragraph[joined.count("\n", 0, begin + words[0].start())]
                yield line, len(words), " ".join(joined[begin:end].split())
            begin = end


def counts(text: str) -> list[tuple[int, int]]:
    """The line and the number of words of every sentence."""
    return [(line, words) for line, words, _ in sentences(text)]


def test_a_sentence_ends_at_its_mark() -> None:
    assert counts("One two. Three\nfour, 0.5 is five? Six: seven; eight.\n") == [(1, 2), (1, 5), (2, 3)]
    assert counts("word " * (MOST_WORDS + 1)) == [(1, MOST_WORDS + 1)]


def test_a_list_item_ends_a_sentence() -> None:
    assert counts("- one\n- two\n  three (four.) Five\n1. six\n\n   seven\n") == [
        (1, 1),
        (2, 3),
        (3, 1),
        (4, 1),
        (6, 1),
    ]


def test_code_in_a_line_is_a_word_and_a_link_its_text() -> None:
    assert counts("**One.** Two `a. b. c` is [three\nfour](a.md#b), v0.2 - five.\n") == [(1, 1), (1, 7)]


def test_what_is_no_prose_does_not_count() -> None:
    left_out = (
        "# A heading. Of two",
        "| a | table. |\n|---|---|",
        "```yaml\nnot: prose\n\nnor: this\n```",
        "    mmssl-dist run JOB",
        "<!-- results: some.json -->",
        "<div>\nOf HTML.\n</div>",
        "![A picture: of two](images/a.png)",
    )
    assert counts("\n\n".join(left_out)) == []
    assert counts("Text\n    that is continued.\n\n    code\n") == [(1, 4)]


@pytest.mark.parametrize("path", ENGLISH, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_is_long(path: Path) -> None:
    long_sentences = [
        f"{path.relative_to(ROOT)}:{line}: {words} words: {sentence}"
        for line, words, sentence in sentences(path.read_text())
        if words > MOST_WORDS
    ]
    assert long_sentences == []
