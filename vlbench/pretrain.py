"""One stage of pre-training, from corpora to record: what ``vlbench pretrain`` does with a plan (stages.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator

from vlbench.building import model_facts
from vlbench.cards import CorpusCard
from vlbench.catalog import find_corpus
from vlbench.corpora.feed import CorpusFeed, Lost, learned_as
from vlbench.corpora.images import CorpusPixels, CorpusRegions
from vlbench.corpora.mixture import Mixture
from vlbench.corpora.opening import hashes_of, open_corpus
from vlbench.data.batches import Collator, Share
from vlbench.data.images import ImageStore
from vlbench.data.opening import open_stored, open_words
from vlbench.data.words import TRAINERS, WORLD, Words
from vlbench.engine import checkpoint
from vlbench.engine.train import SKIPPED, planned_steps
from vlbench.learner import Learner, build_model
from vlbench.made import open_made
from vlbench.models.base import Model
from vlbench.parts import take_parts
from vlbench.paths import sha256, write_text
from vlbench.plan import Plan
from vlbench.plugins import load_code
from vlbench.prepare import PIXELS, Options, texts_of_world, transforms
from vlbench.processes import exchange, from_first
from vlbench.recipe import RUNNING, resolve
from vlbench.record import Basis, RunRecord
from vlbench.runfolder import LOG, WEIGHTS, WORDS, Begun, changes, find_run
from vlbench.session import Made, Work, facts, note, once, throughput, train_on
from vlbench.start import starting_point
from vlbench.tasks.reading import read_answers
from vlbench.types import BadData, Batch, Kind, Log, Misuse

_SIDE_BY_SIDE: tuple[Kind, ...] = ("images", "pairs", "texts")
"""Kinds of corpora in the order they are mixed in: pairs stand beside both, as parts of them may be learned from."""
MOST_TEXTS = 200_000
"""So many texts of the corpora a vocabulary is learned from."""
LEFT_OUT = "left_out"
"""Of an event: the ids of examples that could not be read."""


class OpenedCorpora(NamedTuple):
    """What a stage of pre-training works on."""

    mixture: Mixture
    cards: tuple[CorpusCard, ...]
    images: ImageStore
    words: Words
    answers: tuple[str, ...]
    """Of questions among the texts, in order; empty where there are none."""
    collate: Collator


def pretrain(plan: Plan, options: Options) -> Made:
    """Carry out one stage, going on where an earlier run of it stopped."""

    def prepare(folder: Path, accelerator: Accelerator) -> Work:
        opened = open_corpora(plan, options, folder)
        inputs = inputs_of(plan, opened, options)
        learner = build_pretraining(plan, opened, options)
        inputs |= take_parts(plan, learner, options)
        parts = (plan, opened, learner, accelerator)
        return Work(inputs, learner, lambda begun, log: _carry_out(*parts, begun, folder, options, log))

    return once(plan, options, lambda record: _changed(record, plan, options), prepare, together=True)


def _changed(record: RunRecord, plan: Plan, options: Options) -> list[str]:
    """Name what a finished stage read that is no longer the same, as far as that is seen without opening images."""
    cards = _cards(plan, options)
    now = {f"corpus:{card.id}/{name}": found
           for card in cards for name, found in hashes_of(card, options.data).items()}  # fmt: skip
    if start := starting_point(plan, options):
        now["start"] = sha256(start[0])
    return changes({name: content for name, content in record.inputs.items() if name in now}, now)


def _cards(plan: Plan, options: Options) -> tuple[CorpusCard, ...]:
    """Find the cards of a stage's corpora; a made-up one is made first where it is not there."""
    names = [_named(text)[0] for text in plan.recipe.corpora]
    found = [find_corpus(name, options.data) for name in names]
    return tuple(open_made(card, options.data, progress=options.progress) for card in found)


def open_corpora(plan: Plan, options: Options, folder: Path) -> OpenedCorpora:
    """Open a stage's corpora, their images as the method sees them, and its words."""
    recipe = plan.recipe
    named = zip(_cards(plan, options), (_named(text)[1] for text in recipe.corpora), strict=True)
    chosen = sorted(named, key=lambda one: _SIDE_BY_SIDE.index(one[0].kind))
    cards = tuple(card for card, _ in chosen)
    mixture = Mixture([(open_corpus(card, options.data, progress=options.progress), times) for card, times in chosen])
    words = _open_words(plan, mixture, cards, options, folder)
    lists = [options.data / card.folder / file.name for card in cards for file in card.file if file.role == "answers"]
    answers = tuple(dict.fromkeys(answer for path in lists for answer in read_answers(path)))
    images = _open_images(plan, mixture, cards, options)
    number = {answer: place for place, answer in enumerate(answers)}
    collate = Collator(
        images,
        words,
        length=recipe.text_length,
        answers=len(answers),
        target=(lambda example: _scores(example.answer, number)) if answers else None,
        keeps=False,
    )
    return OpenedCorpora(mixture, cards, images, words, answers, collate)


def _named(text: str) -> tuple[str, int]:
    """Read ``NAME`` or ``NAME*2``."""
    name, _, times = text.partition("*")
    if times and not times.isdigit():
        raise Misuse(f"corpora: '{text}' is neither NAME nor NAME*2", "see: vlbench list corpora")
    return name, int(times or 1)


def _scores(answer: object, number: Mapping[str, int]) -> dict[int, float]:
    known = answer if isinstance(answer, Mapping) else {}
    return {number[text]: score for text, score in known.items() if text in number}


def _open_images(plan: Plan, mixture: Mixture, cards: tuple[CorpusCard, ...], options: Options) -> ImageStore:
    size = plan.model.sizes[plan.recipe.size]
    if load_code(plan.model.code, Model).sees_at(size) == "pixels":
        side = plan.recipe.image_size or int(size.get("image_size", PIXELS))
        return CorpusPixels(mixture, transforms(plan, side)[1], seed=plan.recipe.seed)
    return CorpusRegions({card.id: _regions(plan, card, options) for card in cards})


def _regions(plan: Plan, card: CorpusCard, options: Options) -> ImageStore:
    folder = options.data / card.folder
    files = [folder / file.name for file in card.file if file.role == "features"]
    if not files:
        raise BadData(
            f"{card.path} names no region features, and {plan.model.id} sees regions",
            "choose a corpus that has some: vlbench list corpora",
        )
    # an example comes once an epoch, and corpora are large: each is read where it lies
    return open_stored(card, files, plan.recipe.regions, options.progress, memory=0)


def _open_words(plan: Plan, mixture: Mixture, cards: tuple[CorpusCard, ...], options: Options, folder: Path) -> Words:
    """Open the words: of the made-up world where corpora are part of it, or taken from the run a stage goes on from."""
    recipe, kept = plan.recipe, folder / WORDS
    name = recipe.tokeniser or (WORLD if any(card.made for card in cards) else plan.tokeniser)
    if name in TRAINERS and recipe.start.startswith("run:") and not kept.is_file():
        earlier = find_run(recipe.start.removeprefix("run:"), options.out) / WORDS
        if earlier.is_file():
            write_text(kept, earlier.read_text(encoding="utf-8"))
    learned = name in TRAINERS and not kept.is_file()
    texts = texts_of_world([card.made for card in cards], options) if learned and name == WORLD else []
    if learned and (name != WORLD or not all(card.made for card in cards)):
        texts += mixture.texts(MOST_TEXTS, recipe.seed)
    if learned and not texts:  # the stages after it would read by what little it knows
        raise Misuse(
            f"tokeniser={name}: the corpora ({', '.join(card.id for card in cards)}) hold no text to learn words from",
            "name a published vocabulary (--set tokeniser=bert-base-uncased), or a corpus with texts beside them",
        )
    return open_words(name, texts=texts, size=recipe.vocabulary, root=options.data, kept=kept)


def inputs_of(plan: Plan, opened: OpenedCorpora, options: Options) -> dict[str, str]:
    """Hash all that a stage reads but the images: corpora, words, cards, the start."""
    paths = {"card:model": plan.model.path, "card:suite": plan.suite.path}
    paths |= {f"card:{card.id}": card.path for card in opened.cards}
    found = {name: sha256(Path(path)) for name, path in paths.items() if path}
    found |= {f"corpus:{name}": content for name, content in opened.mixture.hashes().items()}
    sizes = json.dumps(plan.model.sizes[plan.recipe.size], sort_keys=True)
    found[f"size:{plan.recipe.size}"] = hashlib.sha256(sizes.encode()).hexdigest()
    if start := starting_point(plan, options):
        found["start"] = sha256(start[0])
    return {**found, "images": opened.images.sha256, "words": opened.words.identity}


def build_pretraining(plan: Plan, opened: OpenedCorpora, options: Options) -> Learner:
    """Build the model at its size with its pre-training heads, from its starting point, ready for the stage."""
    recipe = plan.recipe
    facts = {
        **model_facts(plan, opened.images, opened.words, plan.task.form),
        "pretraining": True,
        "wanted_losses": tuple(recipe.losses),
        **_detector(opened.cards),
    }
    if opened.answers:
        facts["answers"] = len(opened.answers)
    learner = Learner(build_model(load_code(plan.model.code, Model), plan.model.constructor_sizes(recipe.size), facts))
    if start := starting_point(plan, options):
        path, table = start
        own = not table
        found = checkpoint.load(learner, path, checkpoint.read_table(table) if table else None, leftover=own)
        options.say(f"{path.name}: {len(found.used)} tensors used, {len(found.new)} begin anew")
    learner.model.enter(recipe.stage)
    _check_kinds(plan, learner.model, opened.cards)
    return learner


def _check_kinds(plan: Plan, model: Model, cards: tuple[CorpusCard, ...]) -> None:
    """Refuse a corpus of images alone, or of texts alone, that the stage learns nothing from."""
    for card in cards:
        if card.kind not in (*model.learns_from, "pairs"):
            stage = f"the stage {plan.recipe.stage} of {plan.model.id}" if plan.recipe.stage else plan.model.id
            raise Misuse(
                f"{card.id} holds {card.kind} alone, and {stage} learns from {' and '.join(model.learns_from)}",
                "give each stage its own, by a command each: --stage ... --set corpora=...; then --start run:ID"
                if plan.recipe.stage
                else "name other corpora: --set corpora=...; vlbench list corpora",
            )


def _of_each_kind(opened: OpenedCorpora, kinds: Sequence[Kind]) -> list[range]:
    """Return the numbers of the examples of each kind that is learned from; corpora of one kind lie side by side."""
    found: dict[Kind, range] = {}
    for card, numbers in zip(opened.cards, opened.mixture.ranges(), strict=True):
        kind = learned_as(card.kind, kinds)
        found[kind] = range(found.get(kind, numbers).start, numbers.stop)
    return list(found.values())


def _detector(cards: tuple[CorpusCard, ...]) -> dict[str, int]:
    """Say how many classes the regions' detector tells apart, where the cards do; background is one more class."""
    objects = max(card.objects for card in cards)
    if not objects:
        return {}
    return {"objects": objects, "attributes": max(card.attributes for card in cards), "classes": objects + 1}


def _carry_out(
    plan: Plan,
    opened: OpenedCorpora,
    learner: Learner,
    accelerator: Accelerator,
    begun: Begun,
    folder: Path,
    options: Options,
    log: Log,
) -> RunRecord:
    """Train, and put it all down."""
    recipe = plan.recipe

    def tell(one: Lost) -> None:
        log({"event": "note", "text": f"left out: {', '.join(one.ids)}: {one.why}", LEFT_OUT: one.ids})

    lost: list[Lost] = []
    feed = CorpusFeed(
        opened.mixture,
        opened.collate,
        recipe,
        share=Share(accelerator.process_index, accelerator.num_processes),
        kinds=learner.model.learns_from,
        groups=_of_each_kind(opened, learner.model.learns_from),
        tell=lost.append,
    )
    steps = planned_steps(recipe, feed.count)
    if not steps:
        raise Misuse(f"no budget is given to pre-train {plan.model.id}", "say one with --set steps=... or epochs=...")
    given = ToldByFirst(feed, lost, tell)
    trained, flops = train_on(given, steps, plan, learner, accelerator, folder, options, log, recipe.losses or None)

    def put_down() -> RunRecord:
        told = []
        if left_out := _named_in(folder / LOG, LEFT_OUT):
            told.append(f"{left_out:,} examples were left out, as their images cannot be read")
            options.say(f"{told[0]}: {folder / LOG} names them")
        if skipped := _named_in(folder / LOG, SKIPPED):
            told.append(f"{skipped:,} steps were left out, as a process could read nothing of its share")
        wanted = {name for name, weight in recipe.losses.items() if weight}
        if idle := ", ".join(sorted(wanted - set(trained.losses))):
            told.append(f"nothing was learned by {idle}, which the corpora or the size have nothing for")
        return RunRecord(
            **facts(plan, folder, begun, learner, trained, accelerator),
            kind="pretrain",
            basis=_basis(plan, feed.examples_until(steps), feed.count),
            note="; ".join(filter(None, [note(begun), *told, learner.model.remark()])),
            seconds=round(trained.seconds, 3),
            throughput=throughput(trained, [], flops, accelerator),
            scores={},
            losses=trained.losses,
            checkpoint=WEIGHTS,
            weights=checkpoint.save_weights(learner, folder / WEIGHTS),
        ).sealed()

    return from_first(put_down)


def _named_in(path: Path, key: str) -> int:
    """Count what a log names as left out, before a stop and after, each once."""
    with path.open(encoding="utf-8") as lines:
        return len({one for line in lines if key in line for one in json.loads(line).get(key, ())})


class ToldByFirst:
    """A feed whose lost examples are told by process 0, those of the others too, before the step that lacks them."""

    def __init__(self, feed: CorpusFeed, lost: list[Lost], tell: Callable[[Lost], None]) -> None:
        """``lost``: what this process lost and has not told yet."""
        self.feed, self.lost, self.tell = feed, lost, tell
        self.per_epoch = feed.per_epoch

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        """Yield the parts of each step's batch, from step ``first`` to before ``last``."""
        for parts in self.feed.steps(first, last):
            for one in chain.from_iterable(exchange(tuple(self.lost))):
                self.tell(one)
            self.lost.clear()
            yield parts


def _basis(plan: Plan, seen: int, examples: int) -> Basis:
    """Say what later numbers rest on: the card's own stage from its own start, less than that, or hardly anything."""
    recipe = plan.recipe
    if recipe.limit or seen < examples:
        return "smoke"
    named = {"model": recipe.model, "task": recipe.task}
    wanted, _ = resolve([("card", {**named, **plan.model.pretraining(recipe.stage)})])
    loose = {"suite", "dataset", "size", "start", "stage", "train_splits", "evaluate_splits", "controls"}
    loose |= {"seed", *RUNNING} - {"accumulate"}  # in parts, a contrast has fewer others
    same = all(value == getattr(wanted, key) for key, value in recipe if key not in loose)
    return "paper recipe" if same and recipe.size != "mini" else "reduced"
