"""Every method x every form it claims, built tiny: the loss falls, the answers are well formed."""

import pytest
import torch

from vlbench.catalog import ModelCard, card_names, find, load_code
from vlbench.learner import Learner, build_model
from vlbench.models.base import Model
from vlbench.types import Batch, Form, Image, Misuse, Text

FORMS: tuple[Form, ...] = ("classify", "compare", "choose", "point", "match", "write")
CLAIMED = {"lxmert": {"classify", "compare"}}
TINY = {"width": 16, "heads": 2}
EXAMPLES, ANSWERS, VOCABULARY, FEATURES = 12, 4, 30, 10


def tiny(method: str) -> Model:
    card = find(ModelCard, method)
    facts = {"vocabulary": VOCABULARY, "feature_dim": FEATURES, "dropout": 0.0, "text_length": 8}
    return build_model(load_code(card.code, Model), {**card.sizes["mini"], **TINY}, facts)


def batch(images: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(ANSWERS, (EXAMPLES,), generator=generator)
    features = torch.randn(EXAMPLES * images, 3, FEATURES, generator=generator)
    features[::images, :, :ANSWERS] += 3 * torch.eye(ANSWERS)[target][:, None]
    tokens = torch.randint(5, VOCABULARY, (EXAMPLES, 6), generator=generator)
    rows = torch.arange(EXAMPLES).repeat_interleave(images) if images > 1 else None
    image = Image(features, torch.rand(EXAMPLES * images, 3, 4, generator=generator))
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool), rows)
    return Batch(tuple(map(str, range(EXAMPLES))), image, text, torch.eye(ANSWERS)[target], (images, 1))


def test_every_method_states_its_forms() -> None:
    assert set(CLAIMED) == set(card_names(ModelCard))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", card_names(ModelCard))
def test_loss_falls_and_answers_are_well_formed(method: str, form: Form) -> None:
    torch.manual_seed(0)
    model = tiny(method)
    if form not in CLAIMED[method]:
        with pytest.raises(Misuse, match=form):
            model.head(form, ANSWERS)
        return
    learner, given = Learner(model, model.head(form, ANSWERS)), batch(2 if form == "compare" else 1)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = torch.stack(list(learner(given).values())).sum()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    answers = learner.eval().answers(given)
    assert len(answers) == EXAMPLES
    assert all(isinstance(one.answer, int) and 0 <= one.answer < ANSWERS for one in answers)
    assert all(one.probability is not None and 1 / ANSWERS <= one.probability <= 1 for one in answers)


def test_compare_sees_both_images_in_their_order() -> None:
    torch.manual_seed(0)
    model = tiny("lxmert").eval()
    head, given = model.head("compare", 2).eval(), batch(2)
    swapped = given.image.values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    boxes = given.image.boxes.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    other = given._replace(image=given.image._replace(values=swapped, boxes=boxes))
    with torch.no_grad():
        assert not torch.allclose(head.scores(model, given), head.scores(model, other), atol=1e-4)


def test_a_model_alone_cannot_answer_and_unknown_sizes_are_refused() -> None:
    from vlbench.types import Fault

    with pytest.raises(Fault, match="without a head"):
        Learner(tiny("lxmert")).answers(batch(1))
    card = find(ModelCard, "lxmert")
    with pytest.raises(Fault, match="no size called 'depth'"):
        build_model(load_code(card.code, Model), {"depth": 3}, {"vocabulary": 9})
