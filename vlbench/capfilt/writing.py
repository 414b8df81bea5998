"""Write a bootstrapped corpus: its captions, the cards it is opened by. Everything is read from the decisions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vlbench.capfilt.decisions import DECISIONS, Decision, read_decisions
from vlbench.cards import CorpusCard
from vlbench.paths import write_text
from vlbench.tasks.places import located

KINDS: dict[str, tuple[str, str, Callable[[Decision], Sequence[str]]]] = {
    "corpus": ("captions.json", "bootstrapped by CapFilt: kept web captions and kept synthetic ones",
               lambda decision: decision.kept),
    "filtered": ("filtered.json", "filtered by CapFilt: the web captions that were kept",
                 lambda decision: decision.kept_web),
}  # fmt: skip
"""Card -> the file of its captions, what it is, and what it keeps of a record."""


def write_corpora(work: Path, folder: Path, card: CorpusCard, data: Path, home: str) -> dict[str, int]:
    """Write both corpora into ``work``, from the decisions there; return how many images each has left.

    ``folder``: where it will lie; ``card``: the noisy corpus with the folder it lies in; ``home``: how it was made.
    """
    counts = {}
    for name, (file, about, kept) in KINDS.items():
        counts[name] = _write_pairs(work / DECISIONS, work / file, kept)
        write_text(work / f"{name}.toml", card_text(card, file, about, home, folder, data, counts[name]))
    return counts


def _write_pairs(decisions: Path, path: Path, kept: Callable[[Decision], Sequence[str]]) -> int:
    """Write the layout ``pairs`` record by record; return how many there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for decision in read_decisions(decisions):
            if texts := list(kept(decision)):
                record = json.dumps({"image": decision.image, "caption": texts}, ensure_ascii=False)
                file.write(f"{',' if count else '['}\n{record}")
                count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


def card_text(card: CorpusCard, file: str, about: str, home: str, folder: Path, data: Path, images: int) -> str:
    """Write the card of a corpus made from another: its images and regions stay where they are."""
    values = {
        "name": f"{card.name}, {about.partition(' ')[0]}",
        "about": f"{card.name}, {about}",
        "home": home,
        "licence": card.licence,
        "layout": "pairs",
        "made": card.made,
        "images": images,
        "examples": images,
        "objects": card.objects,
        "attributes": card.attributes,
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value]
    files = [(file, "texts")]
    files += [(_led_to(place_of(card, data, one.name), folder, data), one.role)
              for one in card.file if one.role in ("images", "features")]  # fmt: skip
    for name, role in files:
        lines += ["", "[[file]]", f"name = {json.dumps(name, ensure_ascii=False)}", f'role = "{role}"']
    return "\n".join(lines) + "\n"


def place_of(card: CorpusCard, data: Path, name: str) -> Path:
    """Return where a file or folder that a card names is."""
    return Path(os.path.normpath(located(data / card.folder, name).absolute()))


def _led_to(path: Path, folder: Path, data: Path) -> str:
    """Write a path as it leads from a folder: relative where both are below the data folder, which may be moved."""
    root = data.absolute()
    inside = path.is_relative_to(root) and folder.absolute().is_relative_to(root)
    return os.path.relpath(path, folder.absolute()) if inside else str(path)
