"""The words of captions as the COCO caption evaluation counts them: lower-case tokens without punctuation.

The tokeniser is caption_lexer.py. Most of a caption needs no lexer: what stands between two blanks is nearly always
cut alike wherever it stands, so it is cut once and remembered. Where neighbours may matter (``3 1/2`` is one word,
``no. 5`` keeps its full stop) the caption goes through the lexer from there on.

Oddities of the evaluation are kept: brackets become words (``-lrb-``), since its list of punctuation has them in
capitals and looks for them after the case was lowered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vlbench.metrics.caption_lexer import tokens
from vlbench.metrics.caption_pieces import Numbering
from vlbench.metrics.caption_rules import ABBREVIATION, BEFORE_NUMBERS, TITLE

DROPPED = frozenset(("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;-", "--", "..."))
"""What the evaluation takes for punctuation."""

_LEXED, _STOP, _DIGIT_FIRST, _DIGIT_LAST = "\0\1\2\3"
"""Marks in what is remembered of a chunk: it needs the lexer; it is a lone full stop; where it has a digit."""
_TOGETHER = (_LEXED, _STOP + _STOP, _DIGIT_LAST + _DIGIT_FIRST)
"""What the lexer may read as one."""
_AT_ONCE = 1 << 11
"""So many captions are cut at once; more would not stay near the processor."""
_PLAIN = re.compile(r"([A-Za-z]{2,}(?:-[A-Za-z]{2,})*)('s)?[.,;:!?]?")
_TWO_WORDS = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))
_ABBREVIATED = re.compile(rf"{ABBREVIATION}|{TITLE}|{BEFORE_NUMBERS}\.")
_OPEN = re.compile(rf"(?:\A|.* )(?:[A-Za-z]\.|{BEFORE_NUMBERS} \.)")
"""Tokens whose last full stop belongs to a word, or not, for what stands behind them."""


def tokenise(captions: Sequence[str]) -> list[str]:
    """Return the words of each caption, parted by blanks.

    Give all captions that are evaluated together, in their order: the evaluation's tokeniser reads them as one text,
    and how a caption ends may depend on how the next one begins.
    """
    lines = [caption.replace("\n", " ") for caption in captions]
    remembered: dict[str, str] = {}
    marked = "".join(_marked(lines, remembered))
    found = _without_marks(marked).split("\n")
    for at in set().union(*(_lines_with(mark, marked) for mark in _TOGETHER)):
        begin, rest = _begin(lines[at].split(" "), remembered)
        found[at] = begin + _words(rest, lines[at + 1] if at + 1 < len(lines) else None)
    if lines:
        found[len(lines) - 1] = _words(lines[-1], None)
    return [line[1:] for line in found[: len(lines)]]


def _begin(chunks: Sequence[str], remembered: Mapping[str, str]) -> tuple[str, str]:
    """Return the words of the chunks before those that need the lexer, and the text from these on."""
    words, since, start = "", "", 0
    for at, chunk in enumerate(chunks):
        since += remembered.get(chunk, "")
        if any(mark in since for mark in _TOGETHER):
            break
        spaced = chunk.endswith(".") and chunks[at + 1 : at + 2] == ["."]  # its stop may begin an ellipsis: "A. . .5"
        if since and since[-1] not in _STOP + _DIGIT_LAST and not spaced:
            words, since, start = words + since, "", at + 1
    return _without_marks(words), " ".join(chunks[start:])


def _without_marks(text: str) -> str:
    return text.replace(_STOP, "").replace(_DIGIT_FIRST, "").replace(_DIGIT_LAST, "")


def _lines_with(mark: str, text: str) -> Iterator[int]:
    line, seen, at = 0, 0, text.find(mark)
    while at >= 0:
        line += text.count("\n", seen, at)
        yield line
        seen, at = at, text.find(mark, at + 1)


def _words(text: str, following: str | None) -> str:
    """Return the words of a text, each behind a blank."""
    # The evaluation strips the line that it gets back before it cuts it at its blanks.
    written = " ".join(tokens(text, following)).rstrip()
    return "".join(f" {word}" for word in written.split(" ") if word and word not in DROPPED)


def _marked(lines: Sequence[str], remembered: dict[str, str]) -> Iterator[str]:
    """Yield the words of many lines at a time, each behind a blank, with a line end behind each line and the marks.

    What is ``remembered`` of what stands between two blanks is put there.
    """
    numbering, known = Numbering(), ["\n"]
    for at in range(0, len(lines), _AT_ONCE):
        part, before = numbering.cut(*lines[at : at + _AT_ONCE]), len(known)
        known += [""] * (numbering.count - before)
        for number, chunk in part.spelled(before).items():
            remembered[chunk] = known[number] = _STOP if chunk == "." else _plain_words(chunk) or _any_words(chunk)
        yield "".join(np.array(known, object)[part.numbers].tolist())


def _plain_words(chunk: str) -> str:
    """Return the words of a chunk that plainly is one, a mark behind it, or its possessive; else nothing."""
    plain = _PLAIN.fullmatch(chunk)
    if not plain or plain[1].lower() in _TWO_WORDS or (chunk[-1] == "." and _ABBREVIATED.fullmatch(chunk)):
        return ""
    return f" {plain[1].lower()} {plain[2]}" if plain[2] else f" {plain[1].lower()}"


def _any_words(chunk: str) -> str:
    """Return the words of any chunk, or the mark that they are not its own affair."""
    if not chunk.isascii() or not chunk.isprintable() or "<" in chunk or chunk[0] == ".":
        return _LEXED
    cut = list(tokens(chunk, ""))
    if _OPEN.fullmatch(" ".join(cut)):
        return _LEXED
    first = _DIGIT_FIRST * chunk[0].isdigit()
    last = _DIGIT_LAST * bool(re.search(r"\d\)?\Z", chunk))
    return first + "".join(f" {word}" for word in cut if word not in DROPPED) + last
