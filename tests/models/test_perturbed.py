"""Every method's words and images can be perturbed: the loss changes, and a gradient reaches what was added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vlbench.abilities import SMALL
from vlbench.cards import ModelCard
from vlbench.catalog import card_names, find, known_forms
from vlbench.engine.attack import Attack, apart
from vlbench.engine.devices import open_device
from vlbench.engine.perturb import Kept, Part, parts_of, perturbed
from vlbench.engine.train import Training
from vlbench.learner import Learner, build_model
from vlbench.models.base import Model
from vlbench.nn.momentum import Momentum
from vlbench.plugins import load_code
from vlbench.recipe import Recipe
from vlbench.types import Batch, Form, Image, Misuse, Text

METHODS = card_names(ModelCard)
SIZES = [(name, size) for name in METHODS for size in find(ModelCard, name).sizes if size.startswith("mini")]
REGIONS, LENGTH, ANSWERS = 4, 6, 5


def learner_of(method: str, size: str, form: Form, *, pretraining: bool = False) -> tuple[Learner, bool]:
    """A small learner, and whether it sees regions."""
    card = find(ModelCard, method)
    code = load_code(card.code, Model)
    sizes = card.constructor_sizes(size)
    special = {"mask_token": 4, "special_tokens": (0, 2, 3), "form": form, "pretraining": pretraining}
    facts = {**SMALL, "image_size": int(sizes.get("image_size", 32)), **special}
    torch.manual_seed(0)
    model = build_model(code, sizes, facts)
    told = Text(torch.tensor([[2, 5 + n, 3] for n in range(ANSWERS)]), torch.ones(ANSWERS, 3, dtype=torch.bool))
    head = None if pretraining else model.head(form, ANSWERS, told if form == "classify" else None)
    return Learner(model, head).eval(), code.sees_at(sizes) == "regions"


def batch_of(learner: Learner, *, regions: bool, form: Form, examples: int = 3) -> Batch:
    """Examples of the form, whose images or texts are shared by pairs where the form has several."""
    fold = {"compare": (2, 1), "choose": (1, 3)}.get(form, (1, 1))
    generator = torch.Generator().manual_seed(1)
    count = examples * fold[0]
    pairs = torch.arange(examples * fold[0] * fold[1])
    image = _image(count, generator, regions=regions)
    tokens = torch.randint(5, SMALL["vocabulary"], (examples * fold[1], LENGTH), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[0, -1] = False
    tokens[:, 0], tokens[:, -1], tokens[0, -2:] = 2, 3, torch.tensor([3, 0])
    image = image._replace(rows=pairs // fold[1] if fold[1] > 1 else None, ids=torch.arange(count))
    text = Text(tokens, mask, pairs // fold[0] if fold[0] > 1 else None)
    shares = learner.model.learns == "shares" and form == "classify"
    target: Tensor = torch.arange(examples) % (3 if form == "choose" else 2)
    if form == "point":
        target = torch.nn.functional.one_hot(target, REGIONS).float()
    elif shares:
        target = torch.nn.functional.one_hot(target, ANSWERS).float()
    return Batch(tuple(f"q{number}" for number in range(examples)), image, text, target, fold)


def _image(count: int, generator: torch.Generator, *, regions: bool) -> Image:
    if not regions:
        return Image(torch.randn(count, 3, 32, 32, generator=generator))
    corners = torch.rand(count, REGIONS, 2, 2, generator=generator).sort(dim=2).values.flatten(2)
    mask = torch.ones(count, REGIONS, dtype=torch.bool)
    mask[0, -1] = False
    return Image(torch.randn(count, REGIONS, int(SMALL["feature_dim"]), generator=generator), corners, mask)


def loss_of(learner: Learner, batch: Batch, parts: list[Part]) -> Tensor:
    kept = Kept(learner)
    before = kept.copy()
    torch.manual_seed(2)
    with perturbed(batch, parts) as seen:
        loss = torch.stack(list(learner(seen).values())).sum()
    kept.restore(before)
    return loss


def check(learner: Learner, batch: Batch, modality: Any) -> None:
    """What is added changes the loss as its gradient says, and does so by the words of the texts alone."""
    parts = parts_of(batch, learner.word_tables(), (modality,))
    clean = loss_of(learner, batch, [])
    loss = loss_of(learner, batch, parts)
    assert loss.item() == clean.item(), "what adds nothing changes nothing"
    gradients = torch.autograd.grad(loss, [part.added for part in parts], allow_unused=True)
    reached = [(part, g) for part, g in zip(parts, gradients, strict=True) if g is not None and g.abs().sum() > 0]
    assert reached, "no gradient reaches what is perturbed"
    step = 1e-3
    told = 0.0
    for part, gradient in reached:
        direction = gradient * part.exists
        part.put(step * direction / direction.norm())
        told += step * float(direction.norm())
    changed = loss_of(learner, batch, [part for part, _ in reached]).item() - clean.item()
    assert changed != 0
    if not any(isinstance(part, Momentum) for part in learner.modules()):  # a slow twin sees it too, without a gradient
        assert changed == pytest.approx(told, rel=0.2, abs=2e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize(("method", "size"), SIZES, ids=[" ".join(one) for one in SIZES])
def test_answers_of_every_size(method: str, size: str, modality: str) -> None:
    learner, regions = learner_of(method, size, "classify")
    check(learner, batch_of(learner, regions=regions, form="classify"), modality)


@pytest.mark.parametrize("form", ["compare", "choose", "point", "match", "write"])
@pytest.mark.parametrize("method", METHODS)
def test_every_form_of_every_method(method: str, form: Form) -> None:
    if form not in known_forms(method, "mini"):
        with pytest.raises(Misuse):
            learner_of(method, "mini", form)
        return
    learner, regions = learner_of(method, "mini", form)
    batch = batch_of(learner, regions=regions, form=form)
    check(learner, batch, "image")
    check(learner, batch, "text")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mcan"])
def test_pretraining_of_every_method(method: str) -> None:
    learner, regions = learner_of(method, "mini", "match", pretraining=True)
    batch = batch_of(learner, regions=regions, form="match")._replace(target=None)
    check(learner, batch, "image")
    check(learner, batch, "text")


@pytest.mark.parametrize("method", METHODS)
def test_slow_twins_and_outputs_of_words_are_no_tables(method: str) -> None:
    learner, _ = learner_of(method, "mini", "match" if method != "mcan" else "classify", pretraining=method != "mcan")
    tables = learner.word_tables()
    assert tables
    slow = [part for twin in learner.modules() if isinstance(twin, Momentum) for part in twin.modules()]
    assert not {id(table) for table in tables} & {id(part) for part in slow}
    assert len({id(table) for table in tables}) == len(tables)
    assert all(isinstance(table, nn.Embedding) for table in tables)


def test_a_decoder_that_reads_answers_has_no_table_of_the_texts() -> None:
    for form, decodes in (("classify", False), ("write", True)):
        model = learner_of("blip", "mini", form)[0].model
        decoder = model.get_submodule("text_decoder.embedding.words")
        assert any(table is decoder for table in model.word_tables()) == decodes
    albef, _ = learner_of("albef", "mini", "classify")
    assert albef.head is not None
    assert {id(table) for table in albef.word_tables()} == {
        id(albef.model.get_submodule("encoders.text.embedding.words"))
    }


@pytest.mark.parametrize("method", ["albef", "blip"])
def test_slow_twins_and_queues_advance_once_a_step(method: str, tmp_path: Path) -> None:
    """As they do without adversarial training: by the clean pass."""
    kept = []
    for adversary in ("", "villa"):
        learner, regions = learner_of(method, "mini", "match", pretraining=True)
        batch = batch_of(learner, regions=regions, form="match")._replace(target=None)
        with torch.no_grad():  # so that the twins have a way to go
            for parameter in learner.parameters():
                parameter.add_(0.01 if parameter.requires_grad else 0.0)
        recipe = Recipe(model=method, task="t", adversary=adversary, dropout=0.0)
        training = Training(learner.train(), recipe, open_device("cpu", "fp32"), tmp_path)
        torch.manual_seed(3)
        training.update([batch], {}, 1)
        kept.append([*Kept(learner).tensors, torch.get_rng_state()])
        assert int(learner.get_buffer("model.queue.place")) == 3
    assert all(torch.equal(plain, after) for plain, after in zip(*kept, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_an_attack_does_harm_and_changes_nothing_that_stays(method: str) -> None:
    learner, regions = learner_of(method, "mini", "classify")
    batch = batch_of(learner, regions=regions, form="classify")
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    attack = Attack(0.1, steps=2, random=True)
    with torch.no_grad():
        clean = loss_of(learner, apart(batch), [])
        parts = attack.found(learner, apart(batch))
        harmed = loss_of(learner, apart(batch), parts)
        with attack.on_batch(learner, batch) as asked:
            assert len(learner.answers(asked)) == 3
    assert float(harmed) > float(clean)
    for part in parts:
        assert (part.added.abs() <= 0.1 * part.scale() * (1 + 1e-5)).all()
        assert not (part.added * ~part.exists).any()
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())
    assert all(parameter.grad is None for parameter in learner.parameters())
    assert not any(table._forward_hooks for table in learner.word_tables())
