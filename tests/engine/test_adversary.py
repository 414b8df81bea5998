"""Attacks and adversarial training against plain versions where the best perturbation is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from vlbench.engine.adversary import Villa, ascend, symmetric_divergence
from vlbench.engine.attack import Attack, anywhere, apart, attack_of
from vlbench.engine.checkpoint import weights_hash
from vlbench.engine.devices import open_device, seed_everything
from vlbench.engine.evaluate import ask
from vlbench.engine.perturb import Part, frobenius, parts_of, perturbed, text_rows, within_box, within_norm
from vlbench.engine.train import Training, train
from vlbench.recipe import Recipe
from vlbench.types import Batch, Fault, Given, Image, Misuse, Text

ROWS, REGIONS, WIDTH, LENGTH = 6, 3, 4, 5
STEPS = 6


def recipe(**values: object) -> Recipe:
    usual = {"model": "m", "task": "t", "rate": 0.01, "log_every": 1, "save_every": 2, "batch": ROWS}
    return Recipe.model_validate({**usual, **values})


class Pairs(nn.Module):
    """Two scores, linear in the features of regions and in embedded words, of which each is a sum."""

    def __init__(self, dropout: float = 0.0, *, predicts: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(20, WIDTH)
        self.image, self.text = nn.Linear(REGIONS * WIDTH, 2), nn.Linear(WIDTH, 2)
        self.drop, self.predicts = nn.Dropout(dropout), predicts
        self.register_buffer("seen", torch.zeros(()))
        self.heard: list[Tensor] | None = None

    def word_tables(self) -> list[nn.Embedding]:
        return [self.words]

    @contextmanager
    def predictions(self) -> Iterator[list[Tensor]]:
        self.heard = []
        try:
            yield self.heard
        finally:
            self.heard = None

    def scores(self, batch: Batch) -> Tensor:
        words = (self.words(batch.text.tokens) * batch.text.mask[..., None]).sum(1)
        return self.image(self.drop(batch.image.values.flatten(1))) + self.text(words)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.seen += 1
        scores = self.scores(batch)
        if self.heard is not None and self.predicts:
            self.heard.append(scores)
        assert batch.target is not None
        return {"answer": functional.cross_entropy(scores, batch.target)}

    def answers(self, batch: Batch) -> list[Given]:
        chances = self.scores(batch).softmax(-1)
        return [Given(int(row.argmax()), float(row.max())) for row in chances]


def batch(seed: int = 0, rows: slice = slice(None)) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(ROWS, REGIONS, WIDTH, generator=generator)
    mask = torch.rand(ROWS, LENGTH, generator=generator) < 0.7
    mask[:, 0] = True
    exists = torch.rand(ROWS, REGIONS, generator=generator) < 0.7
    exists[:, 0] = True
    tokens = torch.randint(0, 20, (ROWS, LENGTH), generator=generator)
    target = torch.randint(0, 2, (ROWS,), generator=generator)
    ids = tuple(f"{seed}-{row}" for row in range(ROWS))
    return Batch(ids[rows], Image(values[rows], mask=exists[rows]), Text(tokens[rows], mask[rows]), target[rows])


@pytest.fixture
def learner() -> Pairs:
    torch.manual_seed(0)
    return Pairs().eval()


@pytest.fixture(scope="module")
def cpu() -> Accelerator:
    return open_device("cpu", "fp32")


def worst_scores(learner: Pairs, one: Batch, size: float) -> Tensor:
    """The scores when every element that exists moves as far as it may against the right answer: known in closed form.

    The loss of two answers rises with the difference of the wrong score and the right one, which is linear in each.
    """
    assert one.target is not None
    assert one.image.mask is not None
    found = learner.scores(one)
    rows = []
    for row, right in enumerate(one.target.tolist()):
        worst = found[row].clone()
        along = (learner.image.weight[1 - right] - learner.image.weight[right]).view(REGIONS, WIDTH).abs().sum(1)
        there = one.image.values[row][one.image.mask[row]]
        worst[1 - right] += size * there.square().mean().sqrt() * along[one.image.mask[row]].sum()
        along = (learner.text.weight[1 - right] - learner.text.weight[right]).abs().sum()
        words = learner.words(one.text.tokens[row][one.text.mask[row]])
        worst[1 - right] += size * words.square().mean().sqrt() * along * len(words)
        rows.append(worst)
    return torch.stack(rows)


@pytest.mark.parametrize(
    "attack",
    [Attack(0.2), Attack(0.2, steps=1, random=False), Attack(0.2, steps=5), Attack(0.2, steps=10, random=True)],
    ids=["fgsm", "one step", "pgd", "pgd from anywhere"],
)
def test_an_attack_on_a_linear_model_finds_the_worst_there_is(learner: Pairs, attack: Attack) -> None:
    one = batch()
    with torch.no_grad(), attack.on_batch(learner, one) as asked:
        found = learner.scores(asked)
    with torch.no_grad():
        wanted = worst_scores(learner, one, 0.2)
    assert one.target is not None
    gap, worst = (functional.cross_entropy(scores, one.target, reduction="none") for scores in (found, wanted))
    torch.testing.assert_close(gap, worst, rtol=1e-4, atol=1e-5)


def test_steps_of_pgd_are_those_of_a_slow_plain_version(learner: Pairs) -> None:
    one, size, steps = batch(), 0.3, 4
    attack = Attack(size, steps=steps, on=("image",))
    torch.manual_seed(1)
    learner.image = nn.Sequential(nn.Linear(REGIONS * WIDTH, 7), nn.Tanh(), nn.Linear(7, 2))  # type: ignore[assignment]
    assert one.image.mask is not None
    assert one.target is not None
    with torch.no_grad():
        (part,) = attack.found(learner, one)
    for row in range(ROWS):
        there = one.image.mask[row]
        most = size * float(one.image.values[row][there].square().mean().sqrt())
        added = torch.zeros(REGIONS, WIDTH)
        for _ in range(steps):
            asked = (one.image.values[row] + added).requires_grad_()
            alone = batch(rows=slice(row, row + 1))
            scores = learner.scores(alone._replace(image=alone.image._replace(values=asked[None])))
            functional.cross_entropy(scores, one.target[row : row + 1]).backward()
            assert asked.grad is not None
            added = (added + 2.5 * most / steps * asked.grad.sign() * there[:, None]).clamp(-most, most)
        torch.testing.assert_close(part.added[row], added, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.001, 2.0), steps=st.integers(1, 4), random=st.booleans())
def test_an_attack_never_leaves_its_ball_and_does_harm(seed: int, size: float, steps: int, random: bool) -> None:
    torch.manual_seed(seed)
    learner, one = Pairs().eval(), batch(seed)
    assert one.target is not None
    attack = Attack(size, steps=steps, random=random and steps > 2, seed=seed)
    with torch.no_grad():
        parts = attack.found(learner, one)
        with perturbed(one, parts) as seen:
            harmed = functional.cross_entropy(learner.scores(seen), one.target)
        clean = functional.cross_entropy(learner.scores(one), one.target)
    for part in parts:
        assert (part.added.abs() <= size * part.scale() * (1 + 1e-5)).all()
        assert not (part.added * ~part.exists).any()
    assert float(harmed) >= float(clean) - 1e-6  # the loss is convex in both


@settings(max_examples=50, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    radius=st.floats(0, 10),
    scale=st.floats(0, 1e6),
    seed=st.integers(0, 2**31),
)
def test_balls(shape: list[int], radius: float, scale: float, seed: int) -> None:
    rows = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    most = torch.full((shape[0], *[1] * (len(shape) - 1)), radius)
    short, small = within_norm(rows, most), within_box(rows, most)
    assert (frobenius(short) <= radius * (1 + 1e-5)).all()
    assert (small.abs() <= most).all()
    inside = frobenius(rows).flatten() <= radius
    torch.testing.assert_close(short[inside], rows[inside])
    torch.testing.assert_close(
        small[(rows.abs() <= most).flatten(1).all(1)], rows[(rows.abs() <= most).flatten(1).all(1)]
    )


def test_an_attack_gives_no_parameter_a_gradient_and_keeps_what_the_forward_pass_counts(learner: Pairs) -> None:
    with torch.no_grad(), Attack(0.1, steps=3).on_batch(learner, batch()):
        pass
    assert all(parameter.grad is None for parameter in learner.parameters())
    assert float(learner.get_buffer("seen")) == 0


def test_an_attack_does_not_depend_on_what_else_is_in_the_batch(learner: Pairs) -> None:
    torch.manual_seed(1)
    learner.image = nn.Sequential(nn.Linear(REGIONS * WIDTH, 7), nn.Tanh(), nn.Linear(7, 2))  # type: ignore[assignment]
    attack, whole, few = Attack(0.3, steps=4, random=True, seed=3), batch(), batch(rows=slice(2, 4))
    with torch.no_grad():
        together, alone = attack.found(learner, whole), attack.found(learner, few)
    for part, own in zip(together, alone, strict=True):
        torch.testing.assert_close(part.added[2:4], own.added)
        begun, begun_alone, begun_otherwise = (
            anywhere(held, seed, of.ids) for held, seed, of in ((part, 3, whole), (own, 3, few), (part, 4, whole))
        )
        assert torch.equal(begun[2:4], begun_alone)
        assert not torch.equal(begun, begun_otherwise)
        assert -1 <= float(begun.min()) < -0.8 < 0.8 < float(begun.max()) <= 1


def test_answers_under_attack_are_fewer_right_ones_and_none_of_size_zero_is_made(
    learner: Pairs, cpu: Accelerator
) -> None:
    batches = [batch(seed) for seed in range(8)]
    right = {name: int(label) for one in batches for name, label in zip(one.ids, one.target, strict=True)}  # type: ignore[arg-type]

    def correct(**values: object) -> tuple[int, dict[str, Given]]:
        asked = ask(learner, batches, total=48, accelerator=cpu, attack=attack_of(recipe(**values)))
        return sum(given.answer == right[name] for name, given in asked.given.items()), asked.given

    clean, given = correct()
    assert correct(attack="pgd", attack_size=0.0)[1] == given
    assert correct(attack="fgsm", attack_size=1e-9)[0] == clean
    weak, strong = (correct(attack="pgd", attack_size=size)[0] for size in (0.1, 1.0))
    assert clean > weak > strong == 0
    assert correct(attack="fgsm", attack_size=1.0, attack_on="image")[0] < clean
    assert correct(attack="fgsm", attack_size=1.0, attack_on="text")[0] < clean


def test_answers_that_are_not_known_cannot_be_attacked(learner: Pairs, cpu: Accelerator) -> None:
    with pytest.raises(Misuse, match="right answers"):
        ask(learner, [batch()._replace(target=None)], total=ROWS, accelerator=cpu, attack=Attack(0.1))


def test_what_nothing_depends_on_cannot_be_attacked(learner: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "forward", lambda batch: {"answer": learner.image.bias.sum()})
    with torch.no_grad(), pytest.raises(Fault, match="nothing to perturb"):
        Attack(0.1).found(learner, batch())


@pytest.mark.parametrize("fold", [(1, 1), (2, 1), (1, 3)])
def test_examples_apart_are_the_same_examples(fold: tuple[int, int]) -> None:
    """Images and texts that several examples share are held once for each; within an example they stay shared."""
    count, (images, texts) = 4, fold
    pairs = torch.arange(count * images * texts).view(count, images, texts)
    shown, said = (pairs // 3) % 3, (pairs * 2) % 5
    shown, said = shown[:, :, :1].expand_as(pairs), said[:, :1].expand_as(pairs)
    tokens = torch.arange(5 * LENGTH).view(5, LENGTH)
    image = Image(
        torch.randn(3, REGIONS, WIDTH), torch.rand(3, REGIONS, 4), None, None, shown.flatten(), torch.arange(3)
    )
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool), said.flatten())
    found = apart(Batch(("a", "b", "c", "d"), image, text, None, fold))
    rows = torch.arange(count * images * texts)
    image_rows = rows if found.image.rows is None else found.image.rows
    text_rows_ = rows if found.text.rows is None else found.text.rows
    torch.testing.assert_close(found.image.values[image_rows], image.values[shown.flatten()])
    torch.testing.assert_close(found.text.tokens[text_rows_], tokens[said.flatten()])
    assert len(found.image.values) == count * images
    assert len(found.text.tokens) == count * texts
    assert found.image.boxes is not None
    assert found.image.boxes.shape[0] == count * images


def test_which_look_ups_are_of_the_texts_of_a_batch() -> None:
    tokens = torch.zeros(3, LENGTH, dtype=torch.long)
    rows = torch.tensor([0, 0, 2, 2, 1, 1])
    compared = Batch((), Image(torch.zeros(6, 1, 1)), Text(tokens, tokens == 0, rows), None, (2, 1))

    def of(count: int, length: int = LENGTH) -> list[int] | None:
        found = text_rows(torch.zeros(count, length, dtype=torch.long), compared)
        return None if found is None else found.tolist()

    assert of(3) == [0, 1, 2]
    assert of(6) == rows.tolist()
    assert of(6, LENGTH + 2) == rows.tolist()
    assert of(5) is None
    assert of(6, LENGTH - 1) is None
    four = compared._replace(text=Text(tokens, tokens == 0, torch.tensor([0, 0, 2, 2, 1, 1, 1, 1])))
    assert text_rows(torch.zeros(4, LENGTH), four).tolist() == [0, 2, 1, 1]  # type: ignore[union-attr]


def test_an_ascent_is_a_step_of_a_share_of_the_features_norm_within_the_ball() -> None:
    clean = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    exists = torch.tensor([[True, True], [True, False], [True, True]])[..., None]
    part = Part("text", clean, exists, clean)
    part.put(torch.zeros_like(clean))
    gradient = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    gradient[2] = 0
    part.added.grad = gradient.clone()
    ascend(part, rate=0.1, size=0.15)
    norm = (clean * exists).flatten(1).norm(dim=1)
    torch.testing.assert_close(part.added.detach().flatten(1).norm(dim=1)[:2], 0.1 * norm[:2])
    assert not part.added[2].any()
    part.added.grad = gradient.clone()
    ascend(part, rate=0.1, size=0.15)
    torch.testing.assert_close(part.added.detach().flatten(1).norm(dim=1)[:2], 0.15 * norm[:2])
    assert not part.added[1, 1].any()


def test_the_divergence_is_symmetric_and_that_of_torch() -> None:
    one, other = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    found = symmetric_divergence(one, other)
    torch.testing.assert_close(found, symmetric_divergence(other, one))
    ways = [
        functional.kl_div(a.log_softmax(-1), b.softmax(-1), reduction="batchmean")
        for a, b in ((one, other), (other, one))
    ]
    torch.testing.assert_close(found, ways[0] + ways[1])
    assert float(symmetric_divergence(one, one)) == 0


def gradients_of(learner: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def test_a_step_of_villa_is_that_of_a_slow_plain_version(tmp_path: Path, cpu: Accelerator) -> None:
    """Its gradient is that of the objective at perturbations that are found and written down one after another."""
    values = {"adversary": "villa", "adversary_steps": 3, "adversary_rate": 0.1, "adversary_size": 0.15}
    torch.manual_seed(0)
    learner, one = Pairs(), batch()
    training = Training(learner, recipe(**values, adversary_smoothing=2.0), cpu, tmp_path)

    def go(seen: Batch, scale: float = 1.0, last: bool = False, more: object = None) -> object:
        return training._pass(seen, weights={}, share=1.0, last=last, scale=scale, more=more)  # type: ignore[arg-type]

    assert training.adversary is not None
    told = training.adversary.learn(one, go, last=True)  # type: ignore[arg-type]
    found = gradients_of(learner)

    learner.zero_grad()
    learner.predicts = True
    with torch.no_grad():
        clean = learner.scores(one)
    assert one.target is not None
    added: dict[str, Tensor] = {}
    total = functional.cross_entropy(learner.scores(one), one.target)
    parts = {part.modality: part for part in parts_of(one, [learner.words], ("image", "text"))}
    harder = dict.fromkeys(parts, 0.0)
    gradient = dict(zip(parts, _at(learner, one, list(parts.values()), clean, 2.0), strict=True))
    for _ in range(3):
        for name, part in parts.items():
            norm = (part.clean * part.exists).flatten(1).norm(dim=1).view(-1, 1, 1)
            g = gradient[name] * part.exists
            moved = added.get(name, torch.zeros_like(g)) + 0.1 * norm * g / g.flatten(1).norm(dim=1).view(-1, 1, 1)
            length = moved.flatten(1).norm(dim=1).view(-1, 1, 1)
            added[name] = torch.where(length > 0.15 * norm, moved * 0.15 * norm / length, moved)
            part.put(added[name])
            (gradient[name],) = _at(learner, one, [part], clean, 2.0)
            with perturbed(one, [part]) as seen:
                scores = learner.scores(seen)
            loss = functional.cross_entropy(scores, one.target)
            harder[name] += loss.item() / 3
            total = total + (loss + 2.0 * symmetric_divergence(clean, scores)) / 3
    total.backward()
    for name, wanted in gradients_of(learner).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    assert float(told["adversarial_image"]) == pytest.approx(harder["image"], rel=1e-4)
    assert float(told["adversarial_text"]) == pytest.approx(harder["text"], rel=1e-4)
    assert float(told["adversarial_image"]) > float(told["answer"])
    assert float(told["smoothing"]) > 0


def _at(learner: Pairs, one: Batch, parts: list[Part], clean: Tensor, weight: float) -> tuple[Tensor, ...]:
    assert one.target is not None
    with perturbed(one, parts) as seen:
        scores = learner.scores(seen)
    loss = functional.cross_entropy(scores, one.target) + weight * symmetric_divergence(clean, scores)
    return torch.autograd.grad(loss, [part.added for part in parts])


class Feeding:
    """Batches made of the step's number alone, in as many parts as are accumulated."""

    per_epoch = 4

    def __init__(self, parts: int = 1) -> None:
        self.parts, self.asked = parts, list[int]()

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        for step in range(first, last):
            self.asked.append(step)
            size = ROWS // self.parts
            yield [batch(step, slice(part * size, (part + 1) * size)) for part in range(self.parts)]

    def examples_until(self, step: int) -> int:
        return ROWS * step


def go(
    folder: Path, cpu: Accelerator, feed: Feeding | None = None, *, stop_after: int = 0, dropout: float = 0.0,
    **values: object,
) -> tuple[Pairs, list[dict[str, object]]]:  # fmt: skip
    folder.mkdir(exist_ok=True)
    seed_everything(1)
    learner, events = Pairs(dropout), list[dict[str, object]]()
    count = iter(range(10**6))
    train(
        learner, feed or Feeding(), recipe(**{"adversary": "villa", **values}), steps=STEPS, accelerator=cpu,
        log=lambda event: events.append(dict(event)), folder=folder,
        keep_going=lambda: not stop_after or next(count) < stop_after - 1,
    )  # fmt: skip
    return learner, events


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, cpu: Accelerator) -> None:
    whole, _ = go(tmp_path / "whole", cpu, dropout=0.3)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", cpu, dropout=0.3, stop_after=3)
    feed = Feeding()
    resumed, _ = go(tmp_path / "cut", cpu, feed, dropout=0.3)
    assert feed.asked[0] > 0
    assert weights_hash(resumed.state_dict()) == weights_hash(whole.state_dict())


def test_accumulation_changes_nothing_but_memory(tmp_path: Path, cpu: Accelerator) -> None:
    one, two = (go(tmp_path / str(parts), cpu, Feeding(parts))[0].state_dict() for parts in (1, 2))
    for name in ("words.weight", "image.weight", "text.bias"):
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_perturbed_passes_draw_as_the_clean_one_and_leave_no_trace(tmp_path: Path, cpu: Accelerator) -> None:
    """With perturbations of next to nothing every pass has the clean one's dropout, and so its loss."""
    _, events = go(tmp_path / "a", cpu, dropout=0.5, adversary_size=1e-9, adversary_rate=1e-9)
    for event in events:
        values = event["values"]
        assert isinstance(values, dict)
        assert values["adversarial_image"] == pytest.approx(values["answer"], rel=1e-5)
        assert values["adversarial_text"] == pytest.approx(values["answer"], rel=1e-5)
        assert values["smoothing"] == pytest.approx(0, abs=1e-6)
    learner, _ = go(tmp_path / "b", cpu)
    assert float(learner.get_buffer("seen")) == STEPS  # one look a step: of the clean pass


def test_half_precision_is_perturbed_too(tmp_path: Path, cpu: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Pairs()
    monkeypatch.setattr(learner, "forward", torch.autocast("cpu", torch.bfloat16)(learner.forward))
    training = Training(learner, recipe(adversary="villa", adversary_size=0.3), cpu, tmp_path)
    told = training.update([batch()], {}, STEPS)
    assert learner(batch())["answer"].dtype == torch.float32  # of scores in half precision
    assert float(told["adversarial_image"].detach()) > float(told["answer"].detach())
    assert float(told["adversarial_text"].detach()) > float(told["answer"].detach())
    assert all(parameter.dtype == torch.float32 for parameter in learner.parameters())


def test_compiled_code_is_refused(tmp_path: Path, cpu: Accelerator) -> None:
    with pytest.raises(Misuse, match="compile=on"):
        Training(Pairs(), recipe(adversary="villa", compile="on"), cpu, tmp_path)


def test_losses_are_weighted_under_a_perturbation_too(tmp_path: Path, cpu: Accelerator) -> None:
    found = []
    for weight in (1.0, 3.0):
        learner = Pairs(predicts=False)
        learner.load_state_dict(Pairs().state_dict() if not found else found[0][0])
        begun = {name: value.clone() for name, value in learner.state_dict().items()}
        training = Training(learner, recipe(adversary="villa"), cpu, tmp_path)
        found.append((begun, training.update([batch()], {"answer": weight, "other": 1.0}, STEPS)))
    (_, one), (_, three) = found
    assert float(three["answer"]) == pytest.approx(float(one["answer"]))
    assert float(three["adversarial_text"]) == pytest.approx(3 * float(one["adversarial_text"]), rel=1e-5)


def test_without_predictions_there_is_no_divergence(tmp_path: Path, cpu: Accelerator) -> None:
    learner = Pairs(predicts=False)
    training = Training(learner, recipe(adversary="villa"), cpu, tmp_path)
    told = training.update([batch()], {}, STEPS)
    assert set(told) == {"answer", "adversarial_image", "adversarial_text"}


def test_a_batch_without_images_is_perturbed_in_its_words(tmp_path: Path, cpu: Accelerator) -> None:
    learner = Pairs()
    learner.scores = lambda batch: learner.text(learner.words(batch.text.tokens).sum(1))  # type: ignore[method-assign]
    training = Training(learner, recipe(adversary="villa"), cpu, tmp_path)
    told = training.update([batch()._replace(image=Image(torch.zeros(0)))], {}, STEPS)
    assert set(told) == {"answer", "adversarial_text", "smoothing"}
    assert isinstance(training.adversary, Villa)


def test_training_against_attacks_leaves_more_under_attack(tmp_path: Path, cpu: Accelerator) -> None:
    """Two features tell the answer: one clearly, one hardly but always; only adversarial training leaves the latter."""
    generator = torch.Generator().manual_seed(0)

    def made(step: int) -> Batch:
        one = batch(step)
        target = torch.randint(0, 2, (ROWS,), generator=generator)
        values = 0.05 * (2 * target[:, None, None] - 1).expand(ROWS, REGIONS, WIDTH).clone().float()
        values[:, 0, 0] = (2 * target - 1) * (torch.rand(ROWS, generator=generator) < 0.85).float() * 2
        return one._replace(image=Image(values), target=target)

    class Made(Feeding):
        def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
            return ([made(step)] for step in range(first, last))

    harmed = {}
    for adversary in ("", "villa"):
        seed_everything(0)
        learner = Pairs()
        (tmp_path / f"of {adversary}").mkdir()
        asked = recipe(adversary=adversary, rate=0.05, adversary_size=0.3, adversary_rate=0.15)
        train(learner, Made(), asked, steps=60, accelerator=cpu, log=lambda event: None,
              folder=tmp_path / f"of {adversary}")  # fmt: skip
        generator.manual_seed(1)
        losses = []
        for step in range(20):
            one = made(step)
            with torch.no_grad(), Attack(0.3, on=("image",)).on_batch(learner, one) as asked:
                losses.append(float(learner(asked)["answer"]))
        harmed[adversary] = sum(losses) / len(losses)
    assert harmed["villa"] < harmed[""]
