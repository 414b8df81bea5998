"""The image tokeniser: codes, what it learns, and the published file's layout against a slow plain restatement."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlbench.engine.checkpoint import load, read_table
from vlbench.learner import Learner
from vlbench.models.beit3 import BEiT3
from vlbench.nn.image_tokeniser import ImageTokeniser, normalised_patches
from vlbench.types import BadData

CODED = ("image_codes", "pair_codes")


def tokeniser(**changed: object) -> ImageTokeniser:
    torch.manual_seed(0)
    sizes = {"codes": 24, "code_width": 8, "width": 32, "heads": 2, "layers": 2, "decoder_layers": 1}
    return ImageTokeniser(16, 4, **{**sizes, **changed})


def pictures(count: int = 24, seed: int = 2) -> Tensor:
    """Plain pictures of two colours, the border between them anywhere."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 2, (2, count, 3, 1, 1), generator=generator) * 1.6 - 0.8
    border = torch.randint(2, 15, (count, 1, 1, 1), generator=generator)
    return torch.where(torch.arange(16) < border, colours[0], colours[1]).expand(count, 3, 16, 16).contiguous()


def train(made: ImageTokeniser, steps: int) -> list[dict[str, float]]:
    optimiser = torch.optim.AdamW(made.parameters(), lr=3e-3)
    told = []
    for _ in range(steps):
        losses = made.losses(pictures())
        told.append({name: loss.item() for name, loss in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return told


def test_it_learns_to_tell_pictures_by_more_than_a_few_codes() -> None:
    made = tokeniser().train()
    told = train(made, 60)
    assert set(told[0]) == {"reconstruction", "commitment"}
    assert told[-1]["reconstruction"] < 0.5 * told[0]["reconstruction"]
    assert all(parameter.grad is not None for parameter in made.parameters())
    codes = made.eval().codes(pictures())
    assert codes.shape == (24, 16)
    assert len(codes.unique()) >= 6
    assert made.quantiser.perplexity() > 4
    assert made.told().endswith("of 24 codes in use (perplexity)")


def test_codes_are_the_same_in_any_company_and_change_nothing() -> None:
    made = tokeniser().train()
    train(made, 5)
    state = {name: part.clone() for name, part in made.state_dict().items()}
    whole = made.codes(pictures())
    assert torch.equal(made.codes(pictures()), whole)
    for rows in ([3], [3, 0], [7, 3, 3, 20, 1]):
        assert torch.equal(made.codes(pictures()[rows]), whole[rows])
    assert torch.equal(made.eval().codes(pictures()), whole)
    assert all(torch.equal(part, state[name]) for name, part in made.state_dict().items())
    assert not whole.requires_grad


def test_where_it_is_frozen_it_only_answers() -> None:
    around = nn.ModuleDict({"tokeniser": tokeniser(), "other": nn.Linear(2, 2)})
    around["tokeniser"].requires_grad_(False)
    around.train()
    assert around["other"].training
    assert not any(part.training for part in around["tokeniser"].modules())
    around["tokeniser"].requires_grad_(True)
    assert around.train()["tokeniser"].quantiser.training


def test_patches_are_normalised_one_by_one() -> None:
    pixels = torch.randn(2, 3, 8, 12)
    made = normalised_patches(pixels, 4)
    assert made.shape == (2, 6, 48)
    patch = pixels[1, :, 4:8, 8:12].flatten()
    torch.testing.assert_close(made[1, 5], (patch - patch.mean()) / (patch.var(unbiased=False) + 1e-4).sqrt())
    plain = torch.full((1, 3, 4, 4), 0.7)
    assert float(normalised_patches(plain, 4).abs().max()) < 1e-3
    assert float(normalised_patches(plain + 0.001 * torch.randn(1, 3, 4, 4), 4).abs().max()) < 1  # not mere noise
    plain[:, 0] = -0.7  # a colour is still told
    assert float(normalised_patches(plain, 4).abs().min()) > 0.5


def test_weights_are_drawn_smaller_the_later_the_layer() -> None:
    made = tokeniser(layers=3)
    spread = 0.02 * math.sqrt(768 / 32)
    for number, layer in enumerate(made.encoder.layers, 1):
        for part in (layer.attention.part.output, layer.feed_forward.part.contract):
            assert float(part.weight.detach().std()) == pytest.approx(spread / math.sqrt(2 * number), rel=0.1)
        assert float(layer.attention.part.qkv.weight.detach().std()) == pytest.approx(spread, rel=0.1)
    assert float(made.decoder.patches.weight.detach().std()) == pytest.approx(
        1 / math.sqrt(3 * 8), rel=0.15
    )  # as torch draws it
    assert {norm.eps for norm in made.modules() if isinstance(norm, nn.LayerNorm)} == {1e-6}


def test_half_precision_leaves_the_codes_nearly_all_the_same() -> None:
    made = tokeniser().train()
    train(made, 30)
    with torch.autocast("cpu", torch.bfloat16):
        halved = made.eval().codes(pictures())
        losses = made.losses(pictures())
    assert float((halved == made.codes(pictures())).float().mean()) > 0.9
    assert all(loss.dtype == torch.float32 for loss in losses.values())


# --- the published file: the names of BEiT v2's code, at small sizes ------------------------------------------------

WIDTH, HEADS, LAYERS, CODES, NARROW, SIDE = 12, 3, 2, 20, 4, 4


def transformer(patch: tuple[int, ...], layers: int) -> dict[str, Tensor]:
    """The weights of one transformer of beit2/modeling_finetune.py, as its modules name them."""
    vector, square = (WIDTH,), (WIDTH, WIDTH)
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, SIDE**2 + 1, WIDTH)}
    shapes |= {"patch_embed.proj.weight": patch, "patch_embed.proj.bias": vector}
    shapes |= {"fc_norm.weight": vector, "fc_norm.bias": vector}
    for number in range(layers):
        own = {"attn.q_bias": vector, "attn.v_bias": vector, "attn.qkv.weight": (3 * WIDTH, WIDTH)}
        own |= {"attn.proj.weight": square, "attn.proj.bias": vector, "mlp.fc2.bias": vector}
        own |= {f"norm{which}.{part}": vector for which in (1, 2) for part in ("weight", "bias")}
        own |= {
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
        }
        shapes |= {f"blocks.{number}.{name}": shape for name, shape in own.items()}
    return {name: torch.randn(shape) * 0.5 for name, shape in shapes.items()}


def mapped(name: str, output: int) -> dict[str, Tensor]:
    sizes = {"0.weight": (WIDTH, WIDTH), "0.bias": (WIDTH,), "2.weight": (output, WIDTH), "2.bias": (output,)}
    return {f"{name}.{key}": torch.randn(shape) for key, shape in sizes.items()}


def published() -> dict[str, Tensor]:
    """The state of a trained VQKD (beit2/modeling_vqkd.py), drawn at random."""
    torch.manual_seed(4)
    weights = {f"encoder.{name}": part for name, part in transformer((WIDTH, 3, 4, 4), LAYERS).items()}
    weights |= {f"decoder.{name}": part for name, part in transformer((WIDTH, NARROW, 1, 1), 1).items()}
    weights |= mapped("encode_task_layer", NARROW) | mapped("decode_task_layer", 7)
    codebook = functional.normalize(torch.randn(CODES, NARROW), dim=1)
    weights |= {"quantize.embedding.weight": codebook, "quantize.embedding.embed_avg": codebook.clone()}
    weights |= {"quantize.embedding.cluster_size": torch.rand(CODES), "quantize.embedding.initted": torch.ones(1)}
    return {**weights, "quantize.cluster_size": torch.rand(CODES)}


def named_plainly(weights: dict[str, Tensor], pixels: Tensor) -> list[list[int]]:
    """The codes of images, by a loop over images, patches and heads, from the authors' names."""

    def norm(states: Tensor, name: str) -> Tensor:
        centred = states - states.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[f"encoder.{name}.weight"] + weights[f"encoder.{name}.bias"]

    def linear(states: Tensor, name: str) -> Tensor:
        return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    found = []
    for image in pixels:
        tokens = [weights["encoder.cls_token"][0, 0]]
        for row in range(SIDE):
            for column in range(SIDE):
                patch = image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                kernel = weights["encoder.patch_embed.proj.weight"]
                tokens.append((kernel * patch).sum((1, 2, 3)) + weights["encoder.patch_embed.proj.bias"])
        states = torch.stack(tokens) + weights["encoder.pos_embed"][0]
        for number in range(LAYERS):
            block = f"encoder.blocks.{number}"
            normed = norm(states, f"blocks.{number}.norm1")
            query, key, value = (normed @ part.T for part in weights[f"{block}.attn.qkv.weight"].chunk(3))
            query, value = query + weights[f"{block}.attn.q_bias"], value + weights[f"{block}.attn.v_bias"]
            mixed = []
            for head in range(HEADS):
                own = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
                scores = query[:, own] @ key[:, own].T / math.sqrt(WIDTH // HEADS)
                mixed.append(scores.softmax(-1) @ value[:, own])
            states = states + linear(torch.cat(mixed, dim=1), f"{block}.attn.proj")
            inside = linear(norm(states, f"blocks.{number}.norm2"), f"{block}.mlp.fc1")
            states = states + linear(0.5 * inside * (1 + torch.erf(inside / math.sqrt(2))), f"{block}.mlp.fc2")
        latents = norm(states[1:], "fc_norm")
        latents = linear(linear(latents, "encode_task_layer.0").tanh(), "encode_task_layer.2")
        latents = latents / latents.norm(dim=1, keepdim=True)
        apart = (latents[:, None] - weights["quantize.embedding.weight"][None]).pow(2).sum(-1)
        found.append(apart.argmin(1).tolist())
    return found


def learner(**changed: object) -> Learner:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch": 4, "width": 24, "heads": 3, "layers": 1, "positions": 14, "codes": CODES}
    own = {"tokeniser_width": WIDTH, "tokeniser_heads": HEADS, "tokeniser_layers": LAYERS}
    built = BEiT3(**{"vocabulary": 50, "pretraining": True, "wanted_losses": CODED, **sizes, **own, **changed})
    if built.image_tokeniser is not None:  # the width of codes is one for all sizes; here it is small
        tokeniser = built.image_tokeniser
        tokeniser.projection[2] = nn.Linear(WIDTH, NARROW)
        tokeniser.quantiser.codebook = torch.zeros(CODES, NARROW)
    return Learner(built)


def test_the_published_layout_gives_the_same_codes_as_a_plain_restatement(tmp_path: Path) -> None:
    weights, path = published(), tmp_path / "vqkd.pth"
    torch.save({"model": weights, "epoch": 99}, path)
    built = learner()
    before = {name: part.clone() for name, part in built.state_dict().items()}
    below = "model.image_tokeniser."
    found = load(built, path, read_table("beit2-tokeniser"), below=below)
    assert built.model.image_tokeniser.quantiser.begun
    assert not found.new
    assert not found.fatal
    expected = [name for name in weights if name.startswith("decod")] + ["quantize.embedding.embed_avg"]
    assert set(found.not_needed) == {*expected, "quantize.embedding.cluster_size"}
    assert len(found.used) + len(found.not_needed) == len(weights)
    assert all(torch.equal(part, before[n]) for n, part in built.state_dict().items() if not n.startswith(below))
    pixels = torch.randn(3, 3, 16, 16)
    codes = built.model.image_tokeniser.codes(pixels)
    assert codes.tolist() == named_plainly(weights, pixels)
    assert len(codes.unique()) > 5


def test_a_published_file_that_lacks_something_or_holds_too_much_is_refused(tmp_path: Path) -> None:
    weights, path, table = published(), tmp_path / "vqkd.pth", read_table("beit2-tokeniser")
    for changed, said in (
        ({n: part for n, part in weights.items() if n != "encoder.fc_norm.bias"}, r"missing: model\.image_tokeniser"),
        ({**weights, "encoder.blocks.0.gamma_1": torch.ones(WIDTH)}, r"surplus: encoder\.blocks\.0\.gamma_1"),
        ({**weights, "quantize.embedding.weight": torch.ones(9, NARROW)}, r"shape: quantize\.embedding\.weight"),
    ):
        torch.save({"model": changed}, path)
        with pytest.raises(BadData, match=said):
            load(learner(), path, table, below="model.image_tokeniser.")


def test_positions_of_the_published_file_are_brought_to_another_image_size(tmp_path: Path) -> None:
    weights, path = published(), tmp_path / "vqkd.pth"
    torch.save({"model": weights}, path)
    wider = learner(image_size=24)
    load(wider, path, read_table("beit2-tokeniser"), below="model.image_tokeniser.")
    table, stored = wider.model.image_tokeniser.encoder.positions.detach(), weights["encoder.pos_embed"][0]
    assert torch.equal(table[0], stored[0])
    grid = functional.interpolate(stored[1:].T.view(1, WIDTH, 4, 4), size=(6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(table[1:], grid.flatten(2)[0].T)
    assert wider.model.image_tokeniser.codes(torch.randn(2, 3, 24, 24)).shape == (2, 36)
