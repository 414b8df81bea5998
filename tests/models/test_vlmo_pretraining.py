"""VLMo's stages before pairs: the image tokeniser, hidden patches of images alone, texts with the attention frozen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner
from vlbench.models.vlmo import VLMo
from vlbench.nn.masked_data import cover
from vlbench.nn.masking import IGNORED
from vlbench.recipe import Recipe
from vlbench.types import Batch, Image, Text

LEARNS, ASKS = ("reconstruction", "commitment"), ("image_codes",)
LAYERS = 3


def model(*objectives: str, **changed: object) -> VLMo:
    torch.manual_seed(0)
    given = {
        "vocabulary": 50, "distances": 16, "special_tokens": (0, 1, 2), "mask_token": 3, "image_size": 16, "patch": 4,
        "width": 24, "heads": 3, "inner": 40, "layers": LAYERS, "fusion_layers": 1, "codes": 20, "pretraining": True,
        "layer_scale": 0.5, "wanted_losses": objectives,
    }  # fmt: skip
    return VLMo(**{**given, **changed})


def images(count: int = 8, side: int = 4, patch: int = 4) -> Image:
    """Pictures of plain patches, each of a colour of its own."""
    colours = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return Image(colours.repeat_interleave(patch, 2).repeat_interleave(patch, 3))


def pictures(count: int = 8) -> Batch:
    none = torch.zeros(0, 0, dtype=torch.long)
    return Batch(tuple("abcdefgh"[:count]), images(count), Text(none, none.bool()), fold=(1, 0))


def texts(count: int = 8) -> Batch:
    tokens = torch.randint(4, 50, (count, 9), generator=torch.Generator().manual_seed(4))
    return Batch(
        tuple("abcdefgh"[:count]), Image(torch.zeros(0, 3, 16, 16)), Text(tokens, tokens > 0), fold=(0, 1)
    )  # fmt: skip


def trained(learner: Learner, batch: Batch, steps: int) -> list[dict[str, float]]:
    """Train with a strong decay, which would change whatever is in an optimiser."""
    groups = parameter_groups(learner, Recipe(model="vlmo", task="pretraining", decay=0.5, decay_all=True))
    optimiser = torch.optim.AdamW(
        [{"params": group["params"], "weight_decay": group["decay"]} for group in groups], 1e-2
    )
    learner.train()
    told = []
    for _ in range(steps):
        torch.manual_seed(1)  # the same words and patches hidden each time
        losses = learner(batch)
        told.append({name: loss.item() for name, loss in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return told


def changed_by(learner: Learner, batch: Batch, steps: int) -> tuple[set[str], list[dict[str, float]]]:
    """Train, and name what is no longer the same."""
    before = {name: part.clone() for name, part in learner.state_dict().items()}
    told = trained(learner, batch, steps)
    now = learner.state_dict()
    return {name.removeprefix("model.") for name in before if not torch.equal(now[name], before[name])}, told


def begun_from(earlier: Learner, built: VLMo, stage: str) -> Learner:
    """Load what an earlier stage left, as a run does, and enter the next."""
    learner = Learner(built)
    wanted = learner.state_dict()
    missing = learner.load_state_dict(
        {name: part for name, part in earlier.state_dict().items() if name in wanted}, strict=False
    ).missing_keys
    assert all(built.may_be_new(name.removeprefix("model.")) for name in missing)
    built.enter(stage)
    return learner


def with_tokeniser(**changed: object) -> Learner:
    learner = Learner(model(*LEARNS, **changed))
    learner.model.enter("image-tokeniser")
    return learner


@pytest.mark.parametrize("positions", [0, 9])
def test_each_stage_trains_its_own_and_leaves_the_rest_bit_for_bit(positions: int) -> None:
    sizes = {"positions": positions, "layer_scale": 0.0 if positions else 0.5}
    first = with_tokeniser(**sizes)
    assert first.model.learns_from == ("images",)
    touched, told = changed_by(first, pictures(), 20)
    assert set(told[0]) == set(LEARNS)
    assert touched == {name for name in first.model.state_dict() if name.startswith("image_tokeniser.")}
    assert "codes in use" in first.model.remark()

    second = begun_from(first, model(*ASKS, **sizes), "vision")
    assert second.model.learns_from == ("images",)
    assert second.model.remark() == ""
    assert not second.model.needs("vision")
    assert not any("tokeniser.decoder" in name for name in second.state_dict())  # codes need no decoder
    touched, told = changed_by(second, pictures(), 40)
    assert set(told[0]) == {"image_codes"}
    assert told[-1]["image_codes"] < 0.5 * told[0]["image_codes"]
    linear = ("weight", "bias")
    shared = {"first_token", "mask_patch"} | {
        f"{part}.{leaf}" for part in ("patches.projection", "trunk.norm", "code_output") for leaf in linear
    }
    shared |= {"image_positions"} if positions else {"trunk.bias.table"}
    for number in range(LAYERS):
        shared |= {f"trunk.layers.{number}.{name}" for name in (
            "attention_norm.weight", "attention_norm.bias", "attention.qkv.weight", "attention.query_bias",
            "attention.value_bias", "attention.output.weight", "attention.output.bias",
            "expert_norms.image.weight", "expert_norms.image.bias",
            *(() if positions else ("attention_scale", "expert_scale")),
            *(f"experts.image.{part}.{leaf}" for part in ("expand", "contract") for leaf in linear),
        )}  # fmt: skip
    assert touched == shared
    if not positions:  # distances of words, and between words and patches, begin with the stage on text
        across = second.model.trunk.bias.across
        assert not second.model.trunk.bias.table[across:].any()

    third = begun_from(second, model("masked_lm", **sizes), "text")
    assert third.model.learns_from == ("texts",)
    assert not any(name.startswith(("model.image_tokeniser", "model.code_output")) for name in third.state_dict())
    assert third.model.mask_patch is None
    touched, told = changed_by(third, texts(), 10)
    assert set(told[0]) == {"masked_lm"}
    assert told[-1]["masked_lm"] < told[0]["masked_lm"]
    kept = ("patches.", "first_token", "image_positions", "pooler.")
    assert not any(name.startswith(kept) for name in touched)
    assert not any(".attention" in name or "_scale" in name or ".image." in name for name in touched)
    assert {"text_embedding.words.weight", "kinds.weight", "trunk.layers.0.experts.text.expand.weight"} <= touched

    last = begun_from(third, model(**sizes), "pairs")
    assert last.model.learns_from == ("pairs",)
    assert all(parameter.requires_grad for parameter in last.parameters())


def plainly_read(built: VLMo, pixels: Tensor, hidden: Tensor) -> Tensor:
    """Read one image [3, H, W] with some of its patches hidden, a patch and a pair of patches at a time: [1 + N, D]."""
    size, width = built.patches.projection.weight.shape[-1], built.width
    side = pixels.shape[-1] // size
    kernel = built.patches.projection.weight.reshape(width, -1)
    states = [built.first_token]
    for place in range(side * side):
        top, left = size * (place // side), size * (place % side)
        cut = pixels[:, top : top + size, left : left + size].reshape(-1)
        states.append(built.mask_patch if hidden[place] else kernel @ cut + built.patches.projection.bias)
    states = [state + built.kinds.weight[1] for state in states]
    if built.image_positions is not None:
        states = [state + built.image_positions[place] for place, state in enumerate(states)]
    made = torch.stack(states)

    def bias(layer: int, head: int, heads: int, query: int, key: int) -> Tensor | float:
        if built.trunk.bias is None:
            return 0.0
        last = (2 * side - 1) ** 2 + 3
        if query and key:
            (down, right), (up, left) = divmod(query - 1, side), divmod(key - 1, side)
            row = (down - up + side - 1) * (2 * side - 1) + right - left + side - 1
        else:
            row = last - 1 if not query and not key else last - 2 if query else last - 3
        return built.trunk.bias.table[row, layer * heads + head]

    def scaled(part: Tensor, scale: Tensor | None) -> Tensor:
        return part if scale is None else part * scale

    for number, layer in enumerate(built.trunk.layers):
        heads = layer.attention.heads
        each = width // heads
        normed = functional.layer_norm(made, (width,), *layer.attention_norm.parameters(), eps=1e-6)
        query, key, value = (normed @ layer.attention.qkv.weight.T).split(width, dim=1)
        query, value = query + layer.attention.query_bias, value + layer.attention.value_bias
        seen = []
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            rows = []
            for asking in range(len(made)):
                scores = [
                    query[asking, part] @ key[asked, part] / math.sqrt(each) + bias(number, head, heads, asking, asked)
                    for asked in range(len(made))
                ]
                rows.append(torch.stack(scores).softmax(0) @ value[:, part])
            seen.append(torch.stack(rows))
        mixed = torch.cat(seen, dim=1) @ layer.attention.output.weight.T + layer.attention.output.bias
        made = made + scaled(mixed, layer.attention_scale)
        normed = functional.layer_norm(made, (width,), *layer.expert_norms["image"].parameters(), eps=1e-6)
        expert = layer.experts["image"]
        inside = functional.gelu(normed @ expert.expand.weight.T + expert.expand.bias)
        made = made + scaled(inside @ expert.contract.weight.T + expert.contract.bias, layer.expert_scale)
    return functional.layer_norm(made, (width,), *built.trunk.norm.parameters(), eps=1e-6)


@pytest.mark.parametrize("positions", [0, 6])
@torch.no_grad()
def test_the_loss_of_hidden_patches_equals_a_plain_one_at_a_fresh_size(positions: int) -> None:
    sizes = {"image_size": 15, "patch": 3, "width": 28, "heads": 2, "inner": 33, "layers": 2, "codes": 11}
    placed = {"positions": positions, "tokeniser_width": 20, "tokeniser_heads": 5, "tokeniser_layers": 1}
    built = model(*ASKS, **sizes, **placed)
    for parameter in built.parameters():  # so that nothing is hidden by where it begins
        nn.init.normal_(parameter, std=0.3)
    tokeniser = built.image_tokeniser
    assert tokeniser is not None
    assert tokeniser.projection[0].weight.shape == (20, 20)
    given = torch.randn(3, 3, 15, 15, generator=torch.Generator().manual_seed(7))
    tokeniser.train().quantiser(tokeniser.latents(given))  # begins the codebook
    built.enter("vision")
    built.eval()
    latents = functional.normalize(tokeniser.latents(given), dim=-1)
    codes = [max(range(11), key=lambda code: float(one @ tokeniser.quantiser.codebook[code])) for one in latents]
    torch.manual_seed(5)
    hidden = cover(torch.tensor(codes).view(3, 25))[1]
    assert (hidden != IGNORED).sum(1).tolist() == [10] * 3
    wanted = []
    for pixels, asked in zip(given, hidden, strict=True):
        states = plainly_read(built, pixels, asked != IGNORED)
        for place, code in enumerate(asked.tolist()):
            if code != IGNORED:
                logits = built.code_output.weight @ states[1 + place] + built.code_output.bias
                wanted.append(logits.logsumexp(0) - logits[code])
    torch.manual_seed(5)
    losses = built.losses(Batch(tuple("abc"), Image(given), pictures(1).text, fold=(1, 0)))
    assert list(losses) == ["image_codes"]
    torch.testing.assert_close(losses["image_codes"], torch.stack(wanted).mean(), atol=1e-5, rtol=1e-5)


def test_the_card_has_the_papers_stages_and_one_before() -> None:
    card = find(ModelCard, "vlmo")
    assert card.stages() == ["image-tokeniser", "vision", "text", "pairs"]
    assert tuple(card.pretraining("image-tokeniser")["losses"]) == LEARNS
    assert tuple(card.pretraining("vision")["losses"]) == ASKS
    assert tuple(card.pretraining("text")["losses"]) == ("masked_lm",)
    other = find(ModelCard, "beit3").pretraining("image-tokeniser")
    own = card.pretraining("image-tokeniser")
    same = ("corpora", "losses", "epochs", "batch", "rate", "warmup", "schedule", "final_rate", "decay", "beta2",
            "epsilon", "clip", "drop_path", "crop", "smallest_crop", "mirror", "image_size")  # fmt: skip
    assert {name: own[name] for name in same} == {name: other[name] for name in same}
    assert {part.size for part in card.part} == {"base", "base_plus", "large"}
    for size in ("base", "base_plus", "large"):  # as the published tokeniser, at all sizes
        with torch.device("meta"):
            built = VLMo(vocabulary=100, pretraining=True, wanted_losses=ASKS, **card.constructor_sizes(size))
        assert built.image_tokeniser is not None
        counted = sum(part.numel() for part in built.image_tokeniser.parameters())
        assert counted == 85_798_656 - 9_216 + 768 * 768 + 768 + 768 * 32 + 32  # ViT-B/16 without biases of its keys


def test_codes_are_asked_of_a_tokeniser_that_was_trained() -> None:
    (need,) = model(*ASKS).needs("vision")
    assert (need.name, need.below, tuple(need.objectives)) == ("image-tokeniser", "image_tokeniser.", ASKS)
    assert not model(*LEARNS).needs("image-tokeniser")
    for objectives in ((), ("masked_lm",), ("contrastive", "matching")):
        built = model(*objectives)
        assert built.image_tokeniser is None
        assert not built.needs("pairs")
        assert not any(name.startswith(("image_tokeniser", "mask_patch", "code_")) for name in built.state_dict())


def test_what_decays_beside_the_tokeniser_is_by_the_authors_list() -> None:
    built = model(*LEARNS, *ASKS)
    for name in ("mask_patch", "code_output.weight", "image_tokeniser.encoder.layers.0.attention.part.qkv.weight"):
        assert built.decays(name, built.get_parameter(name)), name
    for name in ("code_output.bias", "image_tokeniser.encoder.positions", "image_tokeniser.encoder.first_token"):
        assert not built.decays(name, built.get_parameter(name)), name
    stored = torch.randn(1, 1 + 4, 24)  # of an image of half the side
    wanted = built.state_dict()["image_tokeniser.encoder.positions"]
    fitted = built.resized("model.image_tokeniser.encoder.positions", stored, wanted)
    assert fitted is not None
    assert fitted.shape == wanted.shape
