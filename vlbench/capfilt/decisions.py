"""What captioner and filter decided of each image: a line an image, counted as they are read. No torch here.

``decisions.jsonl``: ``{"number", "image", "web": [{"text", "kept", "probability"}], "synthetic": {...}}``, in the order
of the noisy corpus; instead of texts, ``"unreadable"`` says what is wrong with an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vlbench.tasks.reading import describe, member
from vlbench.types import BadData

DECISIONS = "decisions.jsonl"
_ANEW = "start over with --fresh"
_TRUTH = 'it wants a line {"right": true or false} for each text of the corpus, in the same order'


class Judged(NamedTuple):
    """A text, and what the filter says of it."""

    text: str
    kept: bool
    probability: float
    """That the text belongs to the image, 0 to 1, to four places."""


class Decision(NamedTuple):
    """What was decided of one record of the noisy corpus."""

    number: int
    """Of the record, from 0."""
    image: str
    """The image's path below the corpus's folders of images."""
    web: tuple[Judged, ...] = ()
    synthetic: Judged | None = None
    """None where the image cannot be read."""
    unreadable: str = ""
    """What is wrong with the image; empty where nothing is."""

    @property
    def kept(self) -> list[str]:
        """The texts that stay, web texts first; one that was written word by word as on the web stays once."""
        found = [one.text for one in (*self.web, *([self.synthetic] if self.synthetic else [])) if one.kept]
        return list(dict.fromkeys(found))

    @property
    def kept_web(self) -> list[str]:
        """The web texts that stay."""
        return list(dict.fromkeys(one.text for one in self.web if one.kept))

    def line(self) -> str:
        """Write it as a line, its end included."""
        record: dict[str, Any] = {"number": self.number, "image": self.image}
        if self.unreadable:
            record |= {"web": [{"text": one.text} for one in self.web], "unreadable": self.unreadable}
        else:
            record |= {"web": [one._asdict() for one in self.web]}
            record |= {"synthetic": self.synthetic._asdict()} if self.synthetic else {}
        return json.dumps(record, ensure_ascii=False) + "\n"


def read_decision(line: bytes, place: str) -> Decision:
    """Read one line; BadData with its place where it is none."""
    try:
        record = json.loads(line)
        broken = str(record.get("unreadable", ""))
        web = tuple(_judged(one, broken, place) for one in record["web"])
        synthetic = _judged(record["synthetic"], "", place) if "synthetic" in record else None
        return Decision(
            member(record, "number", int, place), member(record, "image", str, place), web, synthetic, broken
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadData(f"{place}: not a decision of CapFilt", _ANEW) from None


def _judged(record: dict[str, Any], broken: str, place: str) -> Judged:
    text = member(record, "text", str, place)
    return Judged(text, False, 0.0) if broken else Judged(text, bool(record["kept"]), float(record["probability"]))


def read_decisions(path: Path) -> Iterator[Decision]:
    """Go through a file of decisions, one in memory at a time; BadData where a line is none or out of order."""
    for number, line in enumerate(path.open("rb")):
        place = f"{path}: line {number + 1}"
        found = read_decision(line, place)
        if found.number != number:
            raise BadData(f"{place}: is of the record {found.number}, not of {number}", _ANEW)
        yield found


def whole_lines(path: Path, batch: int, total: int) -> int:
    """Cut a file that was being written back to its last whole batch, and count its decisions; 0 where there is none.

    All later batches hold the same records then as if nobody had stopped.
    """
    if not path.is_file():
        return 0
    count, end, kept, over = 0, 0, 0, 0
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            read_decision(line, f"{path}: line {count + 1}")
            count, end = count + 1, end + len(line)
            if count % batch == 0 or count == total:
                kept, over = count, end
        file.truncate(over)
    return kept


def read_truth(path: Path) -> Iterator[bool]:
    """Go through a file that says, a line a web text in their order, whether it is ``right``."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            place = f"{path}: line {number}"
            try:
                record = json.loads(line)
            except ValueError:
                raise BadData(f"{place}: not JSON: {describe(line.decode('utf-8', 'replace'))}", _TRUTH) from None
            right = record.get("right") if isinstance(record, dict) else None
            if not isinstance(right, bool):
                raise BadData(f"{place}: 'right' should be true or false, found {describe(right)}", _TRUTH)
            yield right


@dataclass
class Tally:
    """Counts decisions; where it is known which web texts are right, also how the filter did."""

    images: int = 0
    unreadable: int = 0
    first_unreadable: list[str] = field(default_factory=list)
    """The first ten."""
    web: int = 0
    web_kept: int = 0
    synthetic: int = 0
    synthetic_kept: int = 0
    known: bool = False
    right: int = 0
    right_kept: int = 0

    def add(self, decision: Decision, right: Sequence[bool] = ()) -> None:
        """Take a decision; ``right`` says of each web text whether it is, and is empty where nobody knows."""
        if decision.unreadable:
            self.unreadable += 1
            self.first_unreadable += [decision.image] if len(self.first_unreadable) < 10 else []
            return
        self.images += 1
        self.web += len(decision.web)
        self.web_kept += sum(one.kept for one in decision.web)
        self.synthetic += decision.synthetic is not None
        self.synthetic_kept += bool(decision.synthetic and decision.synthetic.kept)
        if right:
            self.known = True
            self.right += sum(right)
            self.right_kept += sum(one.kept for one, true in zip(decision.web, right, strict=True) if true)

    def counts(self) -> dict[str, Any]:
        """Lay the counts out as JSON, shares in percent; None for the share of nothing.

        Of web texts whose truth is known: ``precision``, the share of the kept ones that are right; ``recall``, the
        share of the right ones that are kept; ``share_right``, what the precision would be if all were kept.
        """
        wrong, wrong_kept = self.web - self.right, self.web_kept - self.right_kept
        truth = {
            "right": self.right,
            "right_kept": self.right_kept,
            "wrong": wrong,
            "wrong_kept": wrong_kept,
            "share_right": percent(self.right, self.web),
            "precision": percent(self.right_kept, self.web_kept),
            "recall": percent(self.right_kept, self.right),
        }
        return {
            "images": {
                "judged": self.images,
                "unreadable": self.unreadable,
                "first_unreadable": self.first_unreadable,
            },
            "web": _share(self.web, self.web_kept) | (truth if self.known else {}),
            "synthetic": _share(self.synthetic, self.synthetic_kept),
        }


def _share(texts: int, kept: int) -> dict[str, Any]:
    return {"texts": texts, "kept": kept, "share_kept": percent(kept, texts)}


def percent(part: int, whole: int) -> float | None:
    """Return a share in percent, to two places; None where there is no whole."""
    return round(100 * part / whole, 2) if whole else None


def tally(decisions: Path, truth: Path | None, *, whole: bool = True) -> Tally:
    """Count a file of decisions; BadData where ``truth`` has not a line for every web text.

    ``whole``: whether the decisions are of the whole corpus, so that no line of the truth may be left over.
    """
    found = Tally()
    told = read_truth(truth) if truth else iter(())
    for decision in read_decisions(decisions):
        right = [one for _, one in zip(decision.web, told, strict=False)] if truth else []
        if truth and len(right) < len(decision.web):
            raise BadData(f"{truth}: ends before the texts of the record {decision.number}", _TRUTH)
        found.add(decision, right)
    if truth and whole and next(told, None) is not None:
        raise BadData(f"{truth}: goes on after the last text of the corpus", _TRUTH)
    return found
