"""VLMo: what recorded cases cannot show, what must not matter, and the authors' files at other sizes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.checkpoint import load, read_table
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner
from vlbench.models.vlmo import VLMo
from vlbench.nn.contrast import together
from vlbench.proof import vlmo as proof
from vlbench.proof.parity import read_case
from vlbench.recipe import Recipe
from vlbench.types import BadData, Batch, Image, Misuse, Text

CASES = Path(__file__).resolve().parents[1] / "official" / "parity" / "vlmo"
SIZES = {"image_size": 16, "patch": 4, "width": 24, "heads": 3, "inner": 40, "layers": 4, "fusion_layers": 2}
RECORDED = {
    "vocabulary": 120, "image_size": 40, "patch": 8, "width": 48, "heads": 4, "inner": 144, "layers": 4,
    "fusion_layers": 2, "distances": 17,
}  # fmt: skip


def model(**changed: object) -> VLMo:
    torch.manual_seed(0)
    given = {"vocabulary": 50, "distances": 16, "special_tokens": (0, 1, 2), "mask_token": 3}
    return VLMo(**{**given, **SIZES, **changed})


def lively(built: VLMo) -> VLMo:
    """Give every parameter that begins as a constant a value, so that nothing is hidden by it."""
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.eval()


def inputs(pairs: int = 5, length: int = 8, side: int = 16) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 50, (pairs, length), generator=generator)
    mask = torch.arange(length) < torch.randint(3, length + 1, (pairs, 1), generator=generator)
    return Image(torch.randn(pairs, 3, side, side, generator=generator)), Text(tokens.where(mask, 0), mask)


def test_what_a_recorded_case_cannot_show() -> None:
    built = model(pretraining=True, form="compare", drop_path=0.3)
    epsilons = {name: m.eps for name, m in built.named_modules() if isinstance(m, nn.LayerNorm)}
    assert {e for name, e in epsilons.items() if name.startswith("trunk")} == {1e-6}
    assert {name: e for name, e in epsilons.items() if not name.startswith("trunk")} == {
        "text_embedding.norm": 1e-12, "word_head.2": 1e-12
    }  # fmt: skip
    assert {m.eps for m in built.head("classify", 3).modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    linear = torch.cat([m.weight.flatten() for m in built.modules() if isinstance(m, nn.Linear)])
    assert float(linear.detach().std()) == pytest.approx(0.02 * (768 / 24) ** 0.5, rel=0.05)
    assert float(model(width=544, heads=16).first_token.detach().std()) == pytest.approx(0.02, rel=0.15)
    assert all((m.bias == 0).all() for m in built.modules() if isinstance(m, nn.Linear) and m.bias is not None)
    assert (built.trunk.bias.table == 0).all()
    assert all(
        (layer.attention_scale == 0.1).all() and (layer.expert_scale == 0.1).all() for layer in built.trunk.layers
    )
    assert torch.equal(built.kinds.weight[2], built.kinds.weight[1])
    assert float(built.contrast.log_scale.detach().exp()) == pytest.approx(1 / 0.07)
    assert built.word_output.weight is not built.text_embedding.words.weight
    # the only dropout is the text embedding's, at the rate of drop path, which grows over the layers
    assert [m.p for m in built.modules() if isinstance(m, nn.Dropout)] == [0.3]
    assert [layer.drop_path.rate for layer in built.trunk.layers] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert {layer.attention.dropout for layer in built.trunk.layers} == {0.0}
    assert ["fusion" in layer.experts for layer in built.trunk.layers] == [False, False, True, True]


def test_words_and_patches_of_a_pair_are_dropped_independently() -> None:
    built = model(drop_path=0.5).train()
    layer = built.trunk.layers[1]
    layer.drop_path.rate = 0.5
    states = torch.randn(200, 6, 24)
    seen = layer.attention(layer.attention_norm(states)) * layer.attention_scale
    layer.attention_scale.data.zero_()  # what changes is the experts' alone
    changed = (layer(states, 2) != states).any(-1)
    assert seen.shape == states.shape
    words, patches = changed[:, 0], changed[:, -1]
    assert {(bool(w), bool(p)) for w, p in zip(words, patches, strict=True)} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip


def test_decay_is_by_the_authors_list_and_a_new_head_learns_at_its_own_rate() -> None:
    built = model(pretraining=True, positions=8)
    names = {name for name, parameter in built.named_parameters() if not built.decays(name, parameter)}
    norms = {"trunk.norm.weight", "text_embedding.norm.weight", "word_head.2.weight"}
    norms |= {f"trunk.layers.{number}.attention_norm.weight" for number in range(4)}
    assert names == norms | {name for name, _ in built.named_parameters() if "bias" in name}
    assert not model().decays("trunk.bias.table", model().trunk.bias.table)
    for name in ("first_token", "image_positions", "contrast.log_scale", "trunk.layers.0.expert_norms.text.weight"):
        assert built.decays(name, built.get_parameter(name))
    assert built.decays("trunk.layers.0.expert_scale", built.trunk.layers[0].expert_scale)
    learner = Learner(built, built.head("classify", 3))
    recipe = Recipe(model="vlmo", task="vqa", **find(ModelCard, "vlmo").finetune["vqa"])
    rates = {id(p): (g["multiple"], g["decay"]) for g in parameter_groups(learner, recipe) for p in g["params"]}
    assert {rates[id(p)][0] for p in built.parameters()} == {1.0}
    assert {rates[id(p)][0] for p in learner.head.parameters()} == {20.0}
    assert rates[id(learner.head.classifier[1].weight)][1] == 0.01  # the list has no name for this norm
    assert rates[id(learner.head.classifier[1].bias)][1] == 0.0
    assert {built.part_of(name) for name in names} == {"tower"}
    assert {built.distance(name) for name in names} == {0}


@pytest.mark.parametrize("positions", [0, 13])
def test_padding_changes_nothing(positions: int) -> None:
    built = lively(model(positions=positions, pretraining=True))
    image, text = inputs()
    long = Text(nn.functional.pad(text.tokens, (0, 5)), nn.functional.pad(text.mask, (0, 5)))
    short, padded = built.encode(image, text), built.encode(image, long)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(padded.pooled, short.pooled, **close)
    torch.testing.assert_close(padded.image, short.image, **close)
    torch.testing.assert_close(padded.text[:, :8][text.mask], short.text[text.mask], **close)
    for one, other in zip(built.embed(image, long, branch=True), built.embed(image, text, branch=True), strict=True):
        torch.testing.assert_close(one.text, other.text, **close)
    with pytest.raises(Misuse, match="text_length="):
        built.encode(*inputs(length=17))


@pytest.mark.parametrize("form", ["classify", "compare", "match"])
def test_shared_images_and_texts_equal_copies(form: str) -> None:
    built = lively(model(form=form))
    image, text = inputs(3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2, 1]), torch.tensor([0, 1, 1, 2, 0, 0])
    given = (image._replace(rows=image_rows), text._replace(rows=text_rows))
    laid_out = (Image(image.values[image_rows]), Text(text.tokens[text_rows], text.mask[text_rows]))
    close = {"atol": 1e-5, "rtol": 1e-5}
    if form == "match":
        for one, other in zip(built.embed(*given)[0], built.embed(*laid_out)[0], strict=True):
            torch.testing.assert_close(one, other, **close)
        return
    for one, other in zip(built.encode(*given), built.encode(*laid_out), strict=True):
        torch.testing.assert_close(one, other, **close)


def test_words_are_told_apart_by_their_order_and_patches_by_their_place() -> None:
    built = lively(model(layers=2, fusion_layers=0))  # the first token looks at all words alike, so one cannot tell
    nn.init.normal_(built.trunk.bias.table, std=3)
    image, text = inputs()
    turned = text._replace(tokens=text.tokens[:, [0, 2, 1, *range(3, 8)]], mask=text.mask)
    assert not torch.allclose(built.encode(image, text).pooled, built.encode(image, turned).pooled, atol=1e-4)
    mirrored = image._replace(values=image.values.unflatten(3, (4, 4)).flip(3).flatten(3))
    states, others = built.encode(image, text).image[:, 1:], built.encode(mirrored, text).image[:, 1:]
    assert not torch.allclose(states.unflatten(1, (4, 4)).flip(2).flatten(1, 2), others, atol=1e-3)


def test_all_objectives_are_learned() -> None:
    learner = Learner(model(pretraining=True, layer_scale=1.0))
    image, text = inputs(12)
    image = Image(image.values[:6], rows=torch.arange(12) // 2)
    batch = Batch(tuple("abcdefghijkl"), image, text)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)

    def drawn() -> dict[str, Tensor]:
        torch.manual_seed(1)
        return learner(batch)

    first = {name: loss.item() for name, loss in drawn().items()}
    assert set(first) == set(find(ModelCard, "vlmo").pretrain["losses"])
    for _ in range(60):
        optimiser.zero_grad()
        torch.stack(list(drawn().values())).sum().backward()
        optimiser.step()
    assert all(parameter.grad is not None for parameter in learner.parameters())
    last = {name: loss.item() for name, loss in drawn().items()}
    assert all(last[name] < 0.9 * first[name] for name in first), (first, last)


def test_pairs_that_share_an_image_or_a_text_belong_together() -> None:
    image, text = inputs(3)
    shared = image._replace(rows=torch.tensor([0, 0, 1, 2])), text._replace(rows=torch.tensor([0, 1, 1, 2]))
    assert together(*shared).int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(together(image, text), torch.eye(3, dtype=torch.bool))


def test_the_recorded_losses_are_weighed_by_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    case = read_case(CASES.parents[1], "vlmo", "pretrain")
    card = find(ModelCard, "vlmo")
    right = proof.pretrain(case)
    torch.testing.assert_close(right["total_loss"], case.outputs["total_loss"], atol=1e-5, rtol=1e-5)
    for name, changed in (("masked_lm", "mlm_loss"), ("branch_contrastive", "itc_loss"), ("matching", "itm_loss")):
        losses = {**card.pretrain["losses"], name: 0.75}
        wrong = card.model_copy(update={"pretrain": {**card.pretrain, "losses": losses}})
        monkeypatch.setattr(proof, "find", lambda kind, method, wrong=wrong: wrong)
        made = proof.pretrain(case)
        assert {key for key in right if not torch.allclose(made[key], right[key])} == {changed, "total_loss"}


def test_the_stage_on_text_leaves_the_attention_and_the_other_experts() -> None:
    built = model(pretraining=True)
    built.enter("text")
    image, text = inputs(12)
    loss = built.losses(Batch(tuple("abcdefghijkl"), image, text))["masked_lm"]
    loss.backward()
    trained = {name for name, parameter in built.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, parameter in built.named_parameters() if parameter.requires_grad}
    assert not any("attention" in name or "image" in name or "fusion" in name or "_scale" in name for name in trained)
    experts = {f"trunk.layers.{number}.experts.text.expand.weight" for number in range(4)}
    assert experts | {"trunk.bias.table", "trunk.norm.weight", "kinds.weight", "word_output.bias"} <= trained
    built.enter("pairs")
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_half_precision_gives_nearly_the_same() -> None:
    built = lively(model())
    image, text = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        halved = built.encode(image, text).pooled
    torch.testing.assert_close(halved.float(), built.encode(image, text).pooled, atol=0.1, rtol=0.1)


def written(folder: Path, case: str, *, without: str = "-") -> Path:
    """Write a case's weights as DeepSpeed did, with the buffers that older files hold."""
    weights = load_file(CASES / case / "weights.safetensors")
    kept = {f"module.{name}": tensor for name, tensor in weights.items() if without not in name}
    torch.save({"module": {**kept, "module.relative_position_index": torch.zeros(3, 3)}, "step": 7}, folder / "a.pt")
    return folder / "a.pt"


def test_the_authors_files_load_at_another_image_size(tmp_path: Path) -> None:
    path, table = written(tmp_path, "encode"), read_table("vlmo")
    same, wider = model(**RECORDED), model(**{**RECORDED, "image_size": 64})
    found = load(Learner(same, same.head("classify", 3)), path, table)
    assert {name.split(".")[1] for name in found.used} == {
        "text_embedding", "patches", "first_token", "kinds", "trunk", "pooler"
    }  # fmt: skip
    assert all(name.startswith("head.") for name in found.new)
    load(Learner(wider), path, table)
    image, text = inputs(3, side=64)
    assert wider.encode(image, text).pooled.isfinite().all()
    stored, resized = same.trunk.bias, wider.trunk.bias
    assert torch.equal(resized.table[resized.across - 3 :], stored.table[stored.across - 3 :])
    centre = torch.stack([bias.table[(bias.across - 3) // 2] for bias in (stored, resized)])
    torch.testing.assert_close(centre[0], centre[1])  # no distance stays no distance
    torch.testing.assert_close(same.patches.projection.weight, wider.patches.projection.weight)


def test_positions_are_resized_and_cut_and_a_second_image_begins_as_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, "encode_base_plus")
    placed = {**RECORDED, "layer_scale": 0.0, "image_size": 64, "positions": 9}
    built = model(**placed, form="compare")
    load(Learner(built, built.head("compare", 2)), path, read_table("vlmo"))
    weights = load_file(CASES / "encode_base_plus" / "weights.safetensors")
    words, kinds = weights["text_embeddings.position_embeddings.weight"], weights["token_type_embeddings.weight"]
    assert torch.equal(built.text_embedding.positions.weight, words[:9])
    assert torch.equal(built.kinds.weight, kinds[[0, 1, 1]])
    assert torch.equal(built.image_positions[0], weights["transformer.pos_embed"][0, 0])
    with pytest.raises(BadData, match="another architecture"):
        load(Learner(model(**RECORDED)), path, read_table("vlmo"))


def test_a_file_of_the_stage_before_begins_pre_training_on_pairs_but_no_fine_tuning(tmp_path: Path) -> None:
    path = written(tmp_path, "encode", without="_vl")
    built = model(**RECORDED, pretraining=True)
    found = load(Learner(built), path, read_table("vlmo"))
    assert found.new
    assert all("fusion" in name or "branch_contrast" in name for name in found.new)
    with pytest.raises(BadData, match="missing"):
        load(Learner(model(**RECORDED)), path, read_table("vlmo"))
    retrieving = model(**RECORDED, form="match")
    found = load(Learner(retrieving, retrieving.head("match", 0)), written(tmp_path, "vqa"), read_table("vlmo"))
    assert all(name.startswith("model.contrast.") for name in found.new)


def test_mini_is_small_and_published_sizes_are_those_of_the_paper() -> None:
    sizes = find(ModelCard, "vlmo").sizes
    mini = VLMo(vocabulary=2000, **sizes["mini"])
    assert 0.3e6 < sum(parameter.numel() for parameter in mini.parameters()) < 2e6
    with torch.device("meta"):
        counts = {
            name: Learner(VLMo(vocabulary=30522, **sizes[name])).size() / 1e6 for name in ("base", "base_plus", "large")
        }
    assert counts == pytest.approx({"base": 175, "base_plus": 167, "large": 562}, rel=0.03)  # the authors' README
