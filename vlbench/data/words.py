"""Words: one call from texts to token ids, for trained and for published vocabularies.

The vocabulary of a run must not depend on the machine. With the trainer of the ``tokenizers`` library (0.23)
it does: even on one thread and sorted texts, four fresh processes gave four vocabularies. So training is our
own here; only cutting texts with the finished vocabulary is left to the library. A ``Words`` is made of the
text of one file and of nothing else: a ``vocab.txt``, or the library's ``tokenizer.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

from vlbench.paths import write_text
from vlbench.types import BadData, Fault

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROLES = {
    "padding": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>", "<|endoftext|>"),
    "cls": ("[CLS]", "<s>", "<|startoftext|>", "<|endoftext|>"),
    "sep": ("[SEP]", "</s>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What the families (BERT, RoBERTa, CLIP) call their special tokens; the first that is there counts."""


@dataclass(frozen=True)
class Cleaning:
    """How a paper's code cleans a text before it is cut into word pieces; by call, text to text."""

    marks: str
    """Characters that go, of the text in lower case."""
    words: int
    """How many words are kept, a word being what stands between single spaces."""
    space: str = ""
    """What comes where a mark was."""
    replaced: tuple[tuple[str, str], ...] = ()
    """What else becomes what, one after the other."""
    squeezed: bool = False
    """Whether runs of white space become one space, and the spaces at the ends go; else those at the end only."""

    def __call__(self, text: str) -> str:
        """Return the text as the paper's tokeniser is given it."""
        text = text.lower().translate({ord(mark): self.space for mark in self.marks})
        for old, new in self.replaced:
            text = text.replace(old, new)
        text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ") if self.squeezed else text.rstrip(" ")
        return " ".join(text.split(" ")[: self.words])


_ALBEF, _BLIP = ",.'!?\"()*#:;~", '.!"()*#:;~'
_STROKES = (("-", " "), ("/", " "))
CLEANING = {
    "albef": {
        "questions": Cleaning(_ALBEF, 50, replaced=_STROKES),
        "captions": Cleaning(_ALBEF, 30, replaced=(*_STROKES, ("<person>", "person")), squeezed=True),
    },
    "blip": {
        "questions": Cleaning(_BLIP, 50),
        "captions": Cleaning(_BLIP, 30, space=" ", squeezed=True),
    },
}
"""Card's ``cleaning`` -> kind of text -> rule (salesforce/ALBEF, dataset/utils.py; salesforce/BLIP, data/utils.py)."""


class Words:
    """Cut texts into token ids and back. Special ids: ``padding``, ``unknown``, ``cls``, ``sep``, ``mask``.

    Where a vocabulary has no padding or mask of its own, the unknown id takes the place.
    """

    def __init__(self, text: str, source: str = "vocabulary") -> None:
        self._text, self._source = text, source
        self._cutter = _from_json(text, source) if text.startswith("{") else _from_lines(text, source)
        self.vocabulary: int = max(self._cutter.get_vocab().values()) + 1
        self.unknown = self._role("unknown")
        self.padding, self.cls = self._role("padding"), self._role("cls")
        self.sep, self.mask = self._role("sep"), self._role("mask")

    def _role(self, role: str) -> int:
        found = (self._cutter.token_to_id(name) for name in _ROLES[role])
        number: int | None = next((one for one in found if one is not None), None)
        if number is None and role in ("padding", "mask"):
            return self.unknown
        if number is None:
            raise BadData(f"{self._source}: none of its tokens is {' or '.join(_ROLES[role])}")
        return number

    def __reduce__(self) -> tuple[type[Words], tuple[str, str]]:
        return Words, (self._text, self._source)

    @cached_property
    def identity(self) -> str:
        """Hash the tokens in the order of their ids, for a run's record."""
        pieces = sorted((number, piece) for piece, number in self._cutter.get_vocab().items())
        return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()

    @cached_property
    def pieces(self) -> list[str]:
        """The pieces in the order of their ids; "" where an id has none."""
        names = dict.fromkeys(range(self.vocabulary), "")
        names.update({number: piece for piece, number in self._cutter.get_vocab().items()})
        return list(names.values())

    def encode(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Give the ids of each text, from [CLS] to [SEP], cut to ``length`` ids; not padded."""
        cut = self._cutter.encode_batch(list(texts), add_special_tokens=False)
        return [[self.cls, *one.ids[: max(0, length - 2)], self.sep] for one in cut]

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as a text: up to the first [SEP], without special tokens."""
        kept = []
        for number in ids[1:] if len(ids) and ids[0] == self.cls else ids:
            if number == self.sep:
                break
            if number not in (self.padding, self.cls, self.mask):
                kept.append(int(number))
        text: str = self._cutter.decode(kept, skip_special_tokens=False)
        if suffix := getattr(self._cutter.model, "end_of_word_suffix", None):  # CLIP's </w>, kept by its decoder
            return text.replace(suffix, " ").strip()
        return text

    def save(self, path: Path) -> None:
        """Write the vocabulary file, whole or not at all; ``read_words`` reads it."""
        write_text(path, self._text)


def _library() -> Any:
    """Import tokenizers with its threads off: they would fight with the loader's processes."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers


def _from_json(text: str, source: str) -> Any:
    try:
        cutter = _library().Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise BadData(f"{source}: not a tokenizer.json: {error}") from None
    cutter.no_truncation()
    cutter.no_padding()
    return cutter


def _from_lines(text: str, source: str) -> Any:
    """Build a WordPiece cutter; a vocabulary without a capital letter is of lower-case text."""
    library = _library()
    pieces = text.removesuffix("\n").split("\n")
    numbers = {piece.rstrip("\r"): number for number, piece in enumerate(pieces)}
    if "[UNK]" not in numbers or len(numbers) < len(pieces):
        wrong = "two lines are alike" if "[UNK]" in numbers else "no line is [UNK]"
        raise BadData(f"{source}: not a WordPiece vocabulary: {wrong}")
    lower = not any(re.search("[A-Z]", piece) for piece in numbers if not re.fullmatch(r"\[.*\]", piece))
    cutter = library.Tokenizer(library.models.WordPiece(numbers, unk_token="[UNK]"))
    cutter.normalizer = library.normalizers.BertNormalizer(lowercase=lower)
    cutter.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    cutter.decoder = library.decoders.WordPiece()
    return cutter


def read_words(path: Path) -> Words:
    """Read a vocabulary that ``Words.save`` wrote, a vocab.txt or a tokenizer.json."""
    try:
        return Words(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise BadData(f"cannot read the vocabulary {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadData(f"the vocabulary {path} is not UTF-8 text") from None


_ELSEWHERE = {"beit3": "https://github.com/addf400/files/releases/download/beit3/beit3.spm"}
"""Vocabularies that are not published on the Hugging Face hub."""
_OWNERS = {"bert-": "google-bert/", "roberta-": "FacebookAI/"}
"""Whose they are there, of those that are known by a bare name."""


def pretrained_words(name: str, folder: Path) -> Words:
    """Find a published vocabulary in ``folder/tokenisers/name`` or in the Hugging Face cache.

    Nothing is ever downloaded.
    """
    place = folder / "tokenisers" / name
    for file in ("tokenizer.json", "vocab.txt"):
        if (place / file).is_file():
            return read_words(place / file)
    if (place / f"{name}.spm").is_file():
        from vlbench.data.sentencepiece_words import read_sentencepiece

        return read_sentencepiece(place / f"{name}.spm")
    if name in _ELSEWHERE:
        raise Fault(f"the vocabulary of '{name}' is not on this machine", f"put {_ELSEWHERE[name]} into {place}/")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    source = str(place) if place.is_dir() else name
    try:
        if source == name and not _downloaded(name):  # looked for first, as transformers takes long to load
            raise OSError
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(source, local_files_only=True)
        return Words(found.backend_tokenizer.to_str(), source)
    except (OSError, ValueError, AttributeError, ImportError, KeyError):
        here = f"put vocab.txt or tokenizer.json into {place}/"
        if "/" not in name and not name.startswith(tuple(_OWNERS)):
            raise Fault(
                f"there is no vocabulary '{name}' on this machine",
                f"{here}; or learn one here: --set tokeniser={' or '.join(TRAINERS)}",
            ) from None
        owner = next((owner for start, owner in _OWNERS.items() if name.startswith(start)), "")
        raise Fault(
            f"the vocabulary of '{name}' is not on this machine",
            f"{here}; published at https://huggingface.co/{owner}{name}; or learn one here: --set tokeniser=train",
        ) from None


def _downloaded(name: str) -> bool:
    """Say whether the Hugging Face cache may hold a vocabulary, without loading what would read it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = [HF_HUB_CACHE, *(os.environ[key] for key in ("TRANSFORMERS_CACHE",) if key in os.environ)]
    return Path(name).exists() or any((Path(place) / f"models--{name.replace('/', '--')}").is_dir() for place in places)


def train_words(texts: Iterable[str], size: int) -> Words:
    """Learn a lower-case WordPiece vocabulary of at most ``size``, the same on every machine.

    Starting from characters, the most frequent pair of neighbouring pieces is joined until the vocabulary is
    full or no pair comes twice; of equally frequent pairs the first in order of code points is joined.
    """
    counts = _count_words(texts)
    words = {word: [word[0], *("##" + letter for letter in word[1:])] for word in sorted(counts)}
    letters: Counter[str] = Counter()
    for word, pieces in words.items():
        for piece in pieces:
            letters[piece] += counts[word]
    ranked = sorted(letters, key=lambda piece: (-letters[piece], piece))
    kept = set(ranked[: max(0, size - len(SPECIAL))])
    usable = [(pieces, counts[word]) for word, pieces in words.items() if kept.issuperset(pieces)]
    learned = _join(usable, size - len(SPECIAL) - len(kept), kept)
    return Words("\n".join([*SPECIAL, *sorted(kept), *learned]) + "\n", "trained vocabulary")


def train_whole_words(texts: Iterable[str], size: int) -> Words:
    """Learn a vocabulary of whole lower-case words without punctuation, the most frequent first (MCAN, section 4.1)."""
    library = _library()
    normal = _plain_text(library)
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word in normal.normalize_str(text).split():
            counts[word] += times
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: max(0, size - len(SPECIAL))]
    numbers = {word: number for number, word in enumerate([*SPECIAL, *ranked])}
    cutter = library.Tokenizer(library.models.WordLevel(numbers, unk_token="[UNK]"))
    cutter.normalizer = normal
    cutter.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    return Words(cutter.to_str(), "trained vocabulary")


def _plain_text(library: Any) -> Any:
    """Lower case; strokes and hyphens become spaces, other punctuation goes (MILVLG/mcan-vqa, data_utils.py)."""
    steps = library.normalizers
    replace = [(r"[-/]", " "), (r"[.,'\"()*#:;?!]", "")]
    return steps.Sequence([steps.Lowercase(), *(steps.Replace(library.Regex(what), into) for what, into in replace)])


WORLD = "world"
"""The tokeniser that is learned from all that is said in the made-up world, whatever of it a run is on."""
TRAINERS = {"train": train_words, "whole-words": train_whole_words, WORLD: train_words}
"""What learns a vocabulary, from the training texts where nothing else is said."""
"""Vocabularies that are learned from the training texts, by the name a recipe or card gives them."""


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """Count words as the cutter will see them: lower case, no accents, split at spaces and punctuation."""
    library = _library()
    normal = library.normalizers.BertNormalizer(lowercase=True)
    split = library.pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text, times in Counter(texts).items():
        for word, _ in split.pre_tokenize_str(normal.normalize_str(text)):
            counts[word] += times
    return counts


Pair = tuple[str, str]


def _join(words: list[tuple[list[str], int]], room: int, known: set[str]) -> list[str]:
    """Join pairs of pieces, most frequent first, until ``room`` new pieces are learned; changes ``words``."""
    pairs: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (pieces, times) in enumerate(words):
        _tally(pieces, times, number, pairs, places)
    queue = [(-times, pair) for pair, times in pairs.items()]
    heapify(queue)
    learned: dict[str, None] = {}
    while queue and len(learned) < room:
        times, pair = heappop(queue)
        if -times != pairs[pair] or -times < 2:  # an entry that later joins made out of date
            continue
        joined = pair[0] + pair[1].removeprefix("##")
        if joined not in known:
            learned[joined] = None
        changed: set[Pair] = set()
        for number in places.pop(pair):
            pieces, count = words[number]
            changed |= _tally(pieces, -count, number, pairs, places)
            _replace(pieces, pair, joined)
            changed |= _tally(pieces, count, number, pairs, places)
        for other in changed - {pair}:
            heappush(queue, (-pairs[other], other))
        del pairs[pair]
    return list(learned)


def _tally(
    pieces: list[str], times: int, number: int, pairs: Counter[Pair], places: defaultdict[Pair, set[int]]
) -> set[Pair]:
    """Add a word's pairs to the counts (or take them off, where ``times`` is negative); return the pairs."""
    found = list(pairwise(pieces))
    for pair in found:
        pairs[pair] += times
        if times > 0:
            places[pair].add(number)
    return set(found)


def _replace(pieces: list[str], pair: Pair, joined: str) -> None:
    """Put ``joined`` wherever ``pair`` stands, from the left."""
    at = 0
    while at < len(pieces) - 1:
        if (pieces[at], pieces[at + 1]) == pair:
            pieces[at : at + 2] = [joined]
        at += 1
