"""BEiT-3's stages: the image tokeniser alone, then masked data modelling with what it calls the patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner
from vlbench.models.beit3 import BEiT3
from vlbench.nn.masked_data import cover
from vlbench.nn.masking import IGNORED, mask_words, one_each
from vlbench.recipe import Recipe
from vlbench.types import Batch, Image, Text

LEARNS, ASKS = ("reconstruction", "commitment"), ("text_words", "image_codes", "pair_words", "pair_codes")


def model(*objectives: str, **changed: object) -> BEiT3:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch": 4, "width": 24, "heads": 3, "inner": 40, "layers": 2, "positions": 14}
    given = {"vocabulary": 50, "text_length": 9, "codes": 20, "pretraining": True, "wanted_losses": objectives}
    return BEiT3(**{**given, **sizes, **changed})


def batch(pairs: int = 8) -> Batch:
    """Pairs of which two each share an image."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 49, (pairs, 8), generator=generator)
    colours = torch.rand(pairs // 2, 3, 4, 4, generator=generator) * 2 - 1
    pixels = colours.repeat_interleave(4, 2).repeat_interleave(4, 3)
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    return Batch(tuple("abcdefgh"[:pairs]), Image(pixels, rows=torch.arange(pairs) // 2), text)


def trained(learner: Learner, steps: int, **recipe: object) -> list[dict[str, float]]:
    made = Recipe(model="beit3", task="pretraining", decay=0.5, decay_all=True, **recipe)
    groups = parameter_groups(learner, made)
    optimiser = torch.optim.AdamW(
        [{"params": group["params"], "weight_decay": group["decay"]} for group in groups], 1e-2
    )
    learner.train()
    told = []
    for _ in range(steps):
        torch.manual_seed(1)  # the same words and patches hidden each time
        losses = learner(batch())
        told.append({name: loss.item() for name, loss in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return told


def state(learner: Learner) -> dict[str, Tensor]:
    return {name: part.clone() for name, part in learner.state_dict().items()}


def changed(learner: Learner, before: dict[str, Tensor]) -> set[str]:
    return {name for name, part in learner.state_dict().items() if not torch.equal(part, before[name])}


def test_the_card_has_both_stages_and_their_losses() -> None:
    card = find(ModelCard, "beit3")
    assert card.stages() == ["image-tokeniser", "masked"]
    assert tuple(card.pretraining("image-tokeniser")["losses"]) == LEARNS
    assert set(card.pretraining("masked")["losses"]) == set(ASKS)
    assert {part.size for part in card.part} == {"base", "large"}
    assert {part.name for part in card.part} == {"image-tokeniser"}
    for size in ("base", "large"):  # as the published one, at both sizes
        with torch.device("meta"):
            built = BEiT3(vocabulary=100, pretraining=True, wanted_losses=ASKS, **card.constructor_sizes(size))
        assert built.image_tokeniser is not None
        counted = sum(part.numel() for part in built.image_tokeniser.parameters())
        assert counted == 85_798_656 - 9_216 + 768 * 768 + 768 + 768 * 32 + 32  # ViT-B/16 without biases of its keys


def test_the_first_stage_trains_the_tokeniser_and_nothing_else() -> None:
    learner = Learner(model(*LEARNS))
    learner.model.enter("image-tokeniser")
    assert not learner.model.needs("image-tokeniser")
    before = state(learner)
    told = trained(learner, 40)
    assert set(told[0]) == set(LEARNS)
    assert told[-1]["reconstruction"] < 0.7 * told[0]["reconstruction"]
    touched = changed(learner, before)
    assert all(name.startswith("model.image_tokeniser.") for name in touched)
    assert {name for name in before if name.startswith("model.image_tokeniser.")} == touched
    assert "codes in use" in learner.model.remark()


def test_the_second_stage_asks_for_all_four_and_leaves_the_tokeniser_bit_for_bit() -> None:
    first = Learner(model(*LEARNS))
    first.model.enter("image-tokeniser")
    trained(first, 20)
    learner = Learner(model(*ASKS))
    (need,) = learner.model.needs("masked")
    assert (need.name, need.objectives) == ("image-tokeniser", ("image_codes", "pair_codes"))
    kept = {name: part for name, part in first.state_dict().items() if name in learner.state_dict()}
    assert not any("tokeniser.decoder" in name for name in learner.state_dict())  # codes need no decoder
    learner.load_state_dict(kept)
    assert not learner.model.needs("masked")
    learner.model.enter("masked")
    assert learner.model.remark() == ""
    before = state(learner)
    told = trained(learner, 40)
    assert set(told[0]) == set(ASKS)
    assert all(told[-1][name] < 0.7 * told[0][name] for name in ASKS), (told[0], told[-1])
    touched = changed(learner, before)
    assert not any("image_tokeniser" in name for name in touched)
    assert {name for name in before if "image_tokeniser" not in name} == touched
    learner.model.enter("image-tokeniser")
    assert {name for name, p in learner.named_parameters() if p.requires_grad} == {
        name for name, _ in learner.named_parameters() if "image_tokeniser" in name
    }


def test_what_is_asked_is_what_the_tokeniser_calls_the_pixels_that_are_seen() -> None:
    built = model(*ASKS)
    tokeniser = built.image_tokeniser
    assert tokeniser is not None
    tokeniser.train().quantiser(tokeniser.latents(batch().image.values))  # begins the codebook
    built.eval()
    given = batch()
    with torch.no_grad():
        torch.manual_seed(5)
        own = built.losses(given)
        codes = tokeniser.codes(given.image.values)
        built.image_tokeniser = None
        torch.manual_seed(5)
        told = built.losses(given._replace(image=given.image._replace(codes=codes)))
        torch.manual_seed(5)
        other = built.losses(given._replace(image=given.image._replace(codes=(codes + 1) % 20)))
    assert own == told
    assert all(own[name] != other[name] for name in ("image_codes", "pair_codes"))
    assert all(own[name] == other[name] for name in ("text_words", "pair_words"))


def test_covered_patches_keep_their_codes_and_no_others() -> None:
    codes = torch.randint(20, (50, 16))
    covered, asked = cover(codes)
    assert (covered.sum(1) == 6).all()
    assert torch.equal(asked != IGNORED, covered)
    assert torch.equal(asked[covered], codes[covered])


@pytest.mark.parametrize("objectives", [("text_words", "pair_words"), ()])
def test_without_codes_no_tokeniser_is_built_and_words_alone_are_asked_for(objectives: tuple[str, ...]) -> None:
    built = model(*objectives)
    assert built.image_tokeniser is None
    assert not built.needs("masked")
    built.enter("masked")
    assert set(built.losses(batch())) == {"text_words", "pair_words"}
    assert not any("image_tokeniser" in name for name in model(pretraining=False, form="match").state_dict())


def test_positions_of_the_tokeniser_do_not_decay_and_no_rate_is_divided() -> None:
    built = model(*LEARNS)
    places = [name for name, _ in built.named_parameters() if name.endswith(".positions")]
    assert places == ["image_tokeniser.encoder.positions", "image_tokeniser.decoder.positions"]
    assert not any(built.decays(name, built.get_parameter(name)) for name in places)
    name = "image_tokeniser.encoder.layers.0.attention.part.qkv.weight"
    assert built.decays(name, built.get_parameter(name))
    assert built.distance(name) == 0


def test_the_four_losses_are_mean_cross_entropies_of_what_was_hidden() -> None:
    """A plain restatement: the same draws, one loop over what is hidden."""
    built = model(*ASKS).eval()
    tokeniser = built.image_tokeniser
    assert tokeniser is not None
    tokeniser.train().quantiser(tokeniser.latents(batch().image.values))
    tokeniser.eval()
    given = batch()
    codes_of = tokeniser.codes(given.image.values)
    words_of = {"vocabulary": 50, "mask": built.mask_token, "kept": built.special_tokens}

    def plain(output: torch.nn.Module, states: Tensor, hidden: Tensor) -> float:
        logs, total, count = output(states).log_softmax(-1), 0.0, 0
        for row in range(len(hidden)):
            for place in range(hidden.shape[1]):
                if (label := int(hidden[row, place])) != IGNORED:
                    total, count = total - float(logs[row, place, label]), count + 1
        assert count
        return total / count

    with torch.no_grad():
        torch.manual_seed(5)
        own = built.losses(given)
        torch.manual_seed(5)
        hidden = mask_words(given.text, rate=0.15, **words_of)  # type: ignore[arg-type]
        text_words = plain(built.word_output, built.read_text(hidden.text), hidden.labels)  # type: ignore[arg-type]
        image, text = one_each(given.image._replace(codes=codes_of), given.text)
        hidden = mask_words(text, rate=0.5, **words_of)  # type: ignore[arg-type]
        covered, codes = cover(image.codes)  # type: ignore[arg-type]
        pair = built.fuse(built.see(image, covered), hidden.text)
        pair_words = plain(built.word_output, pair.text, hidden.labels)  # type: ignore[arg-type]
        pair_codes = plain(built.code_output, pair.image[:, 1:], codes)  # type: ignore[arg-type]
        covered, codes = cover(codes_of)
        image_codes = plain(built.code_output, built.read_image(given.image, covered)[:, 1:], codes)  # type: ignore[arg-type]
    found = {name: float(loss) for name, loss in own.items()}
    wanted = {"text_words": text_words, "pair_words": pair_words, "pair_codes": pair_codes, "image_codes": image_codes}
    assert found == pytest.approx(wanted, rel=1e-5)
