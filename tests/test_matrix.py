"""Every method x every form it claims, built tiny: the loss falls, the answers are well formed."""

import pytest
import torch

from vlbench.abilities import parameters
from vlbench.cards import ModelCard
from vlbench.catalog import card_names, cards, find, known_forms, known_parameters
from vlbench.learner import Learner, build_model
from vlbench.models.base import Model, forms_of
from vlbench.nn.heads import ScoringHead
from vlbench.plugins import load_code
from vlbench.types import FORMS, Batch, Chances, Form, Image, Misuse, Text, Tokens, Vectors

CLAIMED = {
    "albef": {"classify", "compare", "choose", "match"},
    "blip": {"classify", "compare", "choose", "match", "write"},
    "lxmert": {"classify", "compare", "choose", "point"},
    "mcan": {"classify", "compare", "choose", "point"},
    "coca": {"classify", "compare", "choose", "match", "write"},
    "vilbert": {"classify", "compare", "choose", "point", "match"},
    "vlmo": {"classify", "compare", "choose", "match"},
    "beit3": {"classify", "compare", "choose", "match", "write"},
    "meter": {"classify", "compare", "choose", "match"},
}
EXAMPLES, ANSWERS, VOCABULARY, FEATURES, SIDE = 12, 4, 30, 10, 32


def mini(method: str, form: Form) -> Model:
    card = find(ModelCard, method)
    facts = {"vocabulary": VOCABULARY, "feature_dim": FEATURES, "dropout": 0.0, "text_length": 8, "form": form}
    return build_model(load_code(card.code, Model), card.constructor_sizes("mini"), {**facts, "image_size": SIDE})


def batch(method: str, form: Form) -> Batch:
    """Examples whose images (or, to choose, texts; or, to point, regions) show the answer."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (2 if form == "compare" else 1), (ANSWERS if form == "choose" else 1)
    places = torch.randint(ANSWERS, (EXAMPLES,), generator=generator)
    tokens = torch.randint(ANSWERS + 5, VOCABULARY, (EXAMPLES * texts, 6), generator=generator)
    if form == "choose":
        tokens[torch.arange(EXAMPLES) * texts + places, 1] = 5
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    if find(ModelCard, method).sees == "regions":
        values = torch.randn(EXAMPLES * images, ANSWERS, FEATURES, generator=generator)
        if form == "point":
            values[torch.arange(EXAMPLES), places] += 3
        else:
            values[::images, :, :ANSWERS] += 3 * torch.eye(ANSWERS)[places][:, None]
        image = Image(values, torch.rand(EXAMPLES * images, ANSWERS, 4, generator=generator))
    else:
        values = torch.randn(EXAMPLES * images, 3, SIDE, SIDE, generator=generator)
        values[::images] += torch.linspace(-2, 2, ANSWERS)[places][:, None, None, None]
        image = Image(values)
    if images > 1:
        text = text._replace(rows=torch.arange(EXAMPLES).repeat_interleave(images))
    if texts > 1:
        image = image._replace(rows=torch.arange(EXAMPLES).repeat_interleave(texts))
    target = places if form == "choose" else torch.eye(ANSWERS)[places]
    named = target if form not in ("match", "write") else None
    return Batch(tuple(map(str, range(EXAMPLES))), image, text, named, (images, texts))


def closed_answers() -> Text:
    tokens = torch.tensor([[1, 5 + number, 2] for number in range(ANSWERS)])
    return Text(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_every_method_states_its_forms() -> None:
    assert set(CLAIMED) == set(card_names(ModelCard))


@pytest.mark.parametrize("method", card_names(ModelCard))
def test_forms_are_found_by_asking(method: str) -> None:
    assert set(forms_of(mini(method, "classify"))) == CLAIMED[method]


def test_what_is_written_of_forms_is_what_methods_say() -> None:
    """``python -m vlbench.abilities`` writes it anew."""
    assert {name: set(known_forms(name)) for name in CLAIMED} == CLAIMED


MINI = [(card.id, size) for card in cards(ModelCard) for size in card.sizes if size.startswith("mini")]


@pytest.mark.parametrize(("method", "size"), MINI)
def test_a_mini_size_has_between_a_third_of_a_million_parameters_and_two(method: str, size: str) -> None:
    card = find(ModelCard, method)
    side = int(card.sizes[size].get("image_size", SIDE))
    facts = {"vocabulary": 100, "feature_dim": 768, "text_length": 20, "form": "classify", "image_size": side}
    built = build_model(load_code(card.code, Model), card.constructor_sizes(size), facts)
    answers = torch.full((13, 3), 7)
    learner = Learner(built, built.head("classify", 13, Text(answers, torch.ones_like(answers, dtype=torch.bool))))
    assert 300_000 < learner.size() < 2_000_000


@pytest.mark.parametrize(("method", "size"), [("lxmert", "base"), ("meter", "base-decoder"), ("vlmo", "large")])
def test_what_is_written_of_sizes_is_what_methods_are(method: str, size: str) -> None:
    assert known_parameters(method, size) == parameters(find(ModelCard, method), size) > 1e8


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", card_names(ModelCard))
def test_loss_falls_and_answers_are_well_formed(method: str, form: Form) -> None:
    torch.manual_seed(0)
    model = mini(method, form)
    if form not in CLAIMED[method]:
        with pytest.raises(Misuse, match=form):
            model.head(form, ANSWERS)
        return
    learner, given = Learner(model, model.head(form, ANSWERS, closed_answers())), batch(method, form)
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
    assert all(well_formed(form, one.answer) for one in answers)
    if form in ("classify", "compare", "choose", "point"):
        assert all(one.probability is not None and 0 < one.probability <= 1 for one in answers)


def well_formed(form: Form, answer: object) -> bool:
    if form == "match":
        return isinstance(answer, Vectors)
    if form == "write":
        return isinstance(answer, Tokens)
    if form == "choose":
        return isinstance(answer, Chances) and len(answer.values) == ANSWERS and abs(sum(answer.values) - 1) < 1e-5
    if form == "point":
        return isinstance(answer, tuple) and len(answer) == 4 and all(0 <= corner <= 1 for corner in answer)
    return isinstance(answer, int) and 0 <= answer < ANSWERS


@pytest.mark.parametrize("method", [name for name, forms in CLAIMED.items() if "compare" in forms])
def test_compare_sees_both_images_in_their_order(method: str) -> None:
    torch.manual_seed(0)
    model = mini(method, "compare").eval()
    head, given = model.head("compare", 2, closed_answers()).eval(), batch(method, "compare")
    assert isinstance(head, ScoringHead)

    def turned(part: torch.Tensor | None) -> torch.Tensor | None:
        return None if part is None else part.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)

    image = given.image._replace(values=turned(given.image.values), boxes=turned(given.image.boxes))
    with torch.no_grad():
        scores, other = head.scores(model, given), head.scores(model, given._replace(image=image))
        assert (scores - other).abs().max() > 1e-3 * scores.abs().max()  # some heads begin with tiny scores


def test_a_model_alone_cannot_answer_and_unknown_sizes_are_refused() -> None:
    from vlbench.types import Fault

    with pytest.raises(Fault, match="without a head"):
        Learner(mini("lxmert", "classify")).answers(batch("lxmert", "classify"))
    card = find(ModelCard, "lxmert")
    with pytest.raises(Fault, match="no size called 'depth'"):
        build_model(load_code(card.code, Model), {"depth": 3}, {"vocabulary": 9})
