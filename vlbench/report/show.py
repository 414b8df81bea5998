"""Cards as readable text: what a method, task, data set, corpus or suite is, without opening its file."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from vlbench.cards import CorpusCard, DataFile, DatasetCard, ModelCard, SuiteCard, TaskCard
from vlbench.catalog import card_names, cards, find, find_corpus, find_suite, known_forms, lineage
from vlbench.report.columns import MARK
from vlbench.report.overview import words
from vlbench.report.published import find_costs, find_published
from vlbench.types import FORMS, Misuse, nearest

WIDTH = 100


def card_text(name: str) -> str:
    """Write the cards of a name as text; Misuse with the nearest of all names where there is none."""
    return "\n\n".join(_TEXTS[type(card)](card) for card in find_cards(name))


def card_data(name: str) -> dict[str, Any]:
    """Return the cards of a name as plain values, by kind; of a method also the forms it answers."""
    found = {_KINDS[type(card)]: card.model_dump(mode="json", exclude={"path"}) for card in find_cards(name)}
    if "method" in found and (known := known_forms(name)):
        found["method"]["forms"] = known
    return found


def _able(card: ModelCard) -> list[tuple[str, str]]:
    """Say what each form that a method answers asks, which tasks are of it, and which sizes only answer it."""
    usual = known_forms(card.id)
    sizes = {form: [size for size in card.sizes if form in known_forms(card.id, size)] for form in FORMS}
    forms = [form for form in FORMS if sizes[form]]
    asked = {
        "classify": "an image and a text, a label of a closed list",
        "compare": "two images and a text, a label",
        "choose": "an image and several texts, one of these",
        "point": "an image's regions and a text, one of the regions",
        "match": "images and texts, which belong together",
        "write": "an image, a text",
    }
    tasks = {form: [card.id for card in cards(TaskCard) if card.form == form] for form in forms}
    only = {form: "" if form in usual else f"; at size {', '.join(sizes[form])}" for form in forms}
    return [(f, asked[f] + (f" ({', '.join(tasks[f])})" if tasks[f] else "") + only[f]) for f in forms]


def find_cards(name: str) -> list[Any]:
    """Find the cards of a name; a task and a data set may share one. The file of a corpus or a suite is one, too."""
    if name.endswith(".toml"):
        content = Path(name).read_text(encoding="utf-8") if Path(name).is_file() else ""
        return [find_corpus(name) if "[[file]]" in content else find_suite(name)]
    found = [find(cast("type[ModelCard]", kind), name) for kind in _KINDS if name in card_names(kind)]
    if not found:
        every = sorted({known for kind in _KINDS for known in card_names(kind)})
        raise Misuse(
            f"no method, task, data set, corpus or suite is called '{name}'; {nearest(name, every)}",
            "see: vlbench list methods, tasks, datasets, corpora or suites",
        )
    return found


def _heading(kind: str, card: BaseModel, name: str, about: str) -> list[str]:
    return [f"{kind} {getattr(card, 'id', '')}: {name}", *_wrapped(about, 2)]


def _wrapped(text: str, indent: int) -> list[str]:
    space = " " * indent
    # Addresses and names of files stay whole.
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=space, subsequent_indent=space, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)


def _pairs(title: str, pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Write ``name  text`` lines below a title, texts aligned; nothing where there is none."""
    known = [(name, text) for name, text in pairs if text]
    if not known:
        return []
    wide = max(len(name) for name, _ in known)
    lines = ["", title]
    for name, text in known:
        first, *rest = _wrapped(text, wide + 4)
        lines += [f"  {name:<{wide}}  {first.strip()}", *rest]
    return lines


def _method(card: ModelCard) -> str:
    paper = card.paper
    return "\n".join(
        [
            *_heading("method", card, card.name, card.about),
            *_pairs(
                "paper",
                [("title", paper.title), ("by", f"{paper.authors}, {paper.year}"), ("at", paper.url),
                 ("code", card.official), ("licence", card.licence)],
            ),
            *_pairs("input", _input(card)),
            *_pairs("modules", card.modules.items()),
            *_pairs("answers", _able(card)),
            *_pairs("sizes (--size NAME)", [(name, _settings(size)) for name, size in card.sizes.items()]),
            *_pairs("pre-training", [(key, words(value)) for key, value in _flat(card.pretrain) if key != "stage"]),
            *_pairs("stages of it (--stage NAME; each goes on from the one before)", _stages(card)),
            *_pairs("fine-tuning", [(task, _settings(values)) for task, values in card.finetune.items()]),
            *_pairs("checkpoints (paths below the data folder)", _checkpoints(card)),
            *_pairs("where it knowingly differs", [("-", f"{d.what}: {d.why}") for d in card.departure]),
            *_pairs("published costs", _costs(card.published)),
            *_published_note(card.published),
        ]
    )  # fmt: skip


def _input(card: ModelCard) -> list[tuple[str, str]]:
    """Say how images and texts are prepared; a size may say otherwise, and then does so among its settings."""
    other = [name for name in card.sizes if card.sees_at(name) != card.sees]
    pairs = [("sees", card.sees + (f"; regions in {', '.join(other)}" if other else "")), ("tokeniser", card.tokeniser)]
    if card.cleaning:
        pairs += [("texts cleaned", f"by the rule of {card.cleaning}")]
    if card.sees == "pixels":
        cut = {"squash": "none: both sides are brought to the image size", "centre": "the middle"}[card.evaluate_crop]
        pairs += [("normalised by", f"{card.statistics} statistics"), ("crop when answering", cut)]
    return [*pairs, ("prompt", card.prompt)]


def _costs(name: str) -> list[tuple[str, str]]:
    pairs = []
    for cost in find_costs(name) if name else []:
        value = f"{words(cost.value)}{MARK if cost.from_memory else ''} {cost.unit}"
        source = f"arXiv {cost.arxiv_id}" if cost.arxiv_id else cost.source_title
        place = f"{cost.variant}, {cost.hardware}" if cost.hardware else cost.variant
        pairs.append((cost.what, f"{value} ({place}; {source})"))
    return pairs


def _published_note(name: str) -> list[str]:
    count = len(find_published(name)) if name else 0
    return ["", f"{count} published numbers: vlbench list published --method {name}"] if count else []


def _checkpoints(card: ModelCard) -> list[tuple[str, str]]:
    pairs = []
    for c in (*card.checkpoint, *card.part):
        size = f", {c.bytes / 1e6:,.0f} MB" if c.bytes else ""
        pairs += [(c.name, f"{c.size}{f', for {c.task}' if c.task else ''}{size}; from {c.url}")]
        pairs += [("  put at", c.file), ("  note", c.note)]
        pairs += [("  answers", f"their list, in the order of its numbers, at {c.file}.answers.json")] * c.ordered
        pairs += [("  unfit", c.unfit)]
    return pairs


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} ({_settings(value)})" if isinstance(value, dict) else f"{key} {words(value)}"
        for key, value in values.items()
    )


def _stages(card: ModelCard) -> list[tuple[str, str]]:
    """Say of each stage what it is for, and what it has of its own."""
    pairs = []
    for stage in card.pretrain.get("stage", ()):
        own = {key: value for key, value in stage.items() if key not in ("name", "about", "only_for", "command")}
        limits = f"for {stage['only_for']} alone" if "only_for" in stage else ""
        limits = f"made by vlbench {stage['command']}" if "command" in stage else limits
        told = [stage.get("about", ""), limits, _settings(own)]
        pairs.append((stage["name"], "; ".join(part for part in told if part)))
    return pairs


def _flat(values: dict[str, Any]) -> list[tuple[str, object]]:
    return [(key, _settings(value) if isinstance(value, dict) else value) for key, value in values.items()]


def _task(card: TaskCard) -> str:
    known = {name: find(DatasetCard, name) for name in card.datasets if name in card_names(DatasetCard)}
    able = [
        m.id + ("" if card.form in known_forms(m.id) else f" (at size {', '.join(sizes)})")
        for m in cards(ModelCard)
        if (sizes := [size for size in m.sizes if card.form in known_forms(m.id, size)])
    ]
    return "\n".join(
        [
            *_heading("task", card, card.name, card.about),
            *_pairs("scoring", [("form", card.form), ("metric", card.metric)]),
            *_pairs("data sets", [(name, f"{d.about}; scorer {d.scorer}") for name, d in known.items()]),
            *_pairs("methods", [("-", name) for name in able]),
        ]
    )


def _dataset(card: DatasetCard) -> str:
    p = card.paper
    paper = f"{p.title} ({p.authors}, {p.year}) {p.url}" if p else ""
    comes = f"inside the Python package {card.package}" if card.package else ""
    folder = f"{card.folder}/ below the data folder" if card.folder else ""
    about = [("home", card.home), ("licence", card.licence), ("paper", paper), ("travels", comes)]
    about += [("folder", folder), ("scorer", card.scorer)]
    return "\n".join(
        [
            *_heading("data set", card, card.name, card.about),
            *_pairs("source", about),
            *_pairs("splits", [(name, _split(card, name)) for name in card.splits]),
            *_pairs("files", [(f.name, _file(f)) for f in card.file]),
        ]
    )


def _split(card: DatasetCard, name: str) -> str:
    split = card.splits[name]
    parts = [f"{split.examples:,} examples" if split.examples else ""]
    parts += [f"{split.images:,} images" if split.images else ""]
    parts += [f"of {split.of}" if split.of else "", "" if split.public else "answers not public"]
    parts += ["not needed" if split.optional else ""]
    parts += [f"published as {split.published}" if split.published else "", split.note]
    return ", ".join(part for part in parts if part) or "size not stated"


def _corpus(card: CorpusCard) -> str:
    paper = f"{card.paper.title} ({card.paper.authors}, {card.paper.year}) {card.paper.url}" if card.paper else ""
    counts = {"images": card.images, "examples": card.examples, "objects": card.objects, "attributes": card.attributes}
    folder = f"{card.folder}/ below {'that of the made-up world' if card.made else 'the data folder'}"
    about = [("home", card.home or "not given out"), ("licence", card.licence), ("paper", paper)]
    about += [("folder", folder), ("layout", card.layout), ("note", card.note)]
    asked = [
        m.id + (f", stage {stage}" if stage else "")
        for m in cards(ModelCard)
        for stage in m.stages()
        if card.id in m.pretraining(stage).get("corpora", ())
    ]
    return "\n".join(
        [
            *_heading("corpus", card, card.name, card.about),
            *_pairs("source", about),
            *_pairs("holds", [(name, f"{count:,}") for name, count in counts.items() if count]),
            *_pairs("files", [(f.name, _file(f)) for f in card.file]),
            *_pairs("of the pre-training of", [("-", name) for name in asked]),
        ]
    )


def _file(file: DataFile) -> str:
    size = f"{file.bytes / 1e6:,.1f} MB" if file.bytes else ""
    parts = (file.role, f"of {file.split}" if file.split else "", size, file.note, file.url)
    return ", ".join(part for part in parts if part)


def _suite(card: SuiteCard) -> str:
    line = lineage(card)
    of_all = [("all", suite.all) for suite in line]
    kinds = [*(suite.tasks for suite in line), *(suite.methods for suite in line), *(suite.pairs for suite in line)]
    groups = of_all + [one for kind in kinds for one in kind.items()]
    datasets = {task: name for suite in line for task, name in suite.datasets.items()}
    asked = [(task, name) for task, name in datasets.items() if task in (card.all_tasks or datasets)]
    stages = [(name, values) for suite in line for name, values in suite.pretrain.items()]
    runs = [
        ("methods", ", ".join(card.all_methods) or "all"),
        ("tasks", ", ".join(card.all_tasks) or "all"),
        ("seeds", words(card.seeds) if card.seeds else ""),
        ("like", card.like),
    ]
    return "\n".join(
        [
            *_heading("suite", card, card.id, card.about),
            *_pairs("runs", runs),
            *_pairs("expect", [("-", card.expect)]),
            *_pairs("to find out", [("-", one) for one in card.claims]),
            *_pairs("found in the runs that are checked in", [("-", one) for one in card.found]),
            *_pairs("data sets", asked),
            *_pairs("variants", [(name, _variant(card, name)) for name in card.variants]),
            *_pairs("not clearly ahead of their best control", card.unclear.items()),
            *_pairs("settings of runs (later wins)", [(name, _settings(values)) for name, values in groups]),
            *_pairs("settings of pre-training (later wins)", [(name, _settings(values)) for name, values in stages]),
        ]
    )


def _variant(card: SuiteCard, name: str) -> str:
    """Say what a variant is, and which values of its runs and of their pre-training are other."""
    one = card.variants[name]
    values = {"runs": one.run, "pre-training": one.pretrain}
    other = [f"{which}: {_settings(changed)}" for which, changed in values.items() if changed]
    against = ["the others are set against it"] if name == card.against else []
    return "; ".join([one.about, *against, *other])


_KINDS: dict[type[Any], str] = {
    ModelCard: "method", TaskCard: "task", DatasetCard: "dataset", CorpusCard: "corpus", SuiteCard: "suite",
}  # fmt: skip
_TEXTS: dict[type[Any], Callable[[Any], str]] = {
    ModelCard: _method, TaskCard: _task, DatasetCard: _dataset, CorpusCard: _corpus, SuiteCard: _suite,
}  # fmt: skip
