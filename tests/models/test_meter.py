"""METER: what recorded cases cannot show, the choices that no recorded case has, and what must not matter."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine import checkpoint
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner, build_model
from vlbench.models.meter import METER, OBJECTIVES
from vlbench.nn.attention import Attention
from vlbench.nn.layers import CrossLayer, Layer
from vlbench.nn.masking import mask_patches
from vlbench.nn.positions import resize_positions
from vlbench.nn.ranking import RankingHead, draw_others, exchange_images
from vlbench.nn.towers import VisionLayer
from vlbench.plan import plan
from vlbench.proof.parity import read_case
from vlbench.recipe import Recipe
from vlbench.types import Batch, Image, Misuse, Text, Tokens

SIZES = {
    "width": 24, "heads": 3, "inner": 40, "fusion_layers": 2, "patch": 8, "vision_width": 32, "vision_layers": 2,
    "vision_heads": 4, "text_width": 16, "text_layers": 2, "text_heads": 2, "positions": 20,
}  # fmt: skip
VOCABULARY, SIDE, PADDING, START, END, MASK = 40, 24, 0, 1, 2, 3
CHOICES = {
    "default": {},
    "merged": {"fusion": "merged"},
    "regions": {"vision": "regions"},
    "grid": {"vision": "test_resnet"},
    "patches": {"vision": "test_vit"},
    "bert": {"text": "bert"},
    "electra": {"text": "electra"},
    "albert": {"text": "albert"},
    "deberta": {"text": "deberta"},
    "embedding": {"text": "embedding"},
}
EVERYTHING = {"decoder_layers": 1, "objectives": " ".join(OBJECTIVES)}


def model(**changed: object) -> METER:
    torch.manual_seed(0)
    given = {"vocabulary": VOCABULARY, "feature_dim": 11, "image_size": SIDE, "dropout": 0.0, "text_length": 8}
    special = {"mask_token": MASK, "special_tokens": (PADDING, START, END)}
    return METER(**{**given, **SIZES, **special, **changed})


def inputs(built: METER, pairs: int = 5, length: int = 8) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, VOCABULARY, (pairs, length), generator=generator)
    tokens[:, 0] = START
    lengths = torch.randint(3, length + 1, (pairs, 1), generator=generator)
    tokens.scatter_(1, lengths - 1, END)
    mask = torch.arange(length) < lengths
    text = Text(tokens.where(mask, PADDING), mask)
    if built.vision.prefix == 0 and hasattr(built.vision, "embedding"):
        there = torch.arange(4) < torch.randint(1, 5, (pairs, 1), generator=generator)
        values, boxes = torch.randn(pairs, 4, 11, generator=generator), torch.rand(pairs, 4, 4, generator=generator)
        return Image(values, boxes, there), text
    side = 64 if hasattr(built.vision, "model") else SIDE
    return Image(torch.randn(pairs, 3, side, side, generator=generator)), text


def chosen(name: str, **changed: object) -> METER:
    side = {"image_size": 64} if name in ("grid", "patches") else {}
    return model(**CHOICES[name], **side, **changed)


def test_what_a_recorded_case_cannot_show() -> None:
    built = model(dropout=0.1, pretraining=True, decoder_layers=1)
    epsilons = {
        part: {m.eps for m in getattr(built, part).modules() if isinstance(m, nn.LayerNorm)}
        for part in ("vision", "text", "fusion", "word_head")
    }
    assert epsilons == {"vision": {1e-5}, "text": {1e-5}, "fusion": {1e-12}, "word_head": {1e-12}}
    assert {m.eps for m in model(text="bert").text.modules() if isinstance(m, nn.LayerNorm)} == {1e-12}
    assert {m.eps for m in built.head("classify", 3).modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    drops = {
        part: {m.p for m in getattr(built, part).modules() if isinstance(m, nn.Dropout)}
        | {m.dropout for m in getattr(built, part).modules() if isinstance(m, Attention)}
        for part in ("vision", "text", "fusion", "writer")
    }
    assert drops == {"vision": {0.0}, "text": {0.1}, "fusion": {0.1}, "writer": {0.1}}
    assert not any(isinstance(m, nn.Dropout) for m in built.head("classify", 3).modules())


def test_initial_weights() -> None:
    built = model(pretraining=True, width=96, text_width=48, vision_width=64, form="compare")

    def spread(part: nn.Module, leaf: str = "") -> float:
        weights = [m.weight for name, m in part.named_modules() if isinstance(m, nn.Linear) and name.endswith(leaf)]
        return float(torch.cat([weight.detach().flatten() for weight in weights]).std())

    assert spread(built.fusion) == pytest.approx(0.02 * (768 / 96) ** 0.5, rel=0.03)
    assert spread(built.text) == pytest.approx(0.02 * (768 / 48) ** 0.5, rel=0.03)
    assert float(built.text.embedding.words.weight.detach().std()) == pytest.approx(0.08, rel=0.1)
    # CLIP's own: 64 ** -0.5, on the residual path over the root of twice the layers with the one left out
    assert spread(built.vision.layers, "qkv") == pytest.approx(1 / 8, rel=0.03)
    assert spread(built.vision.layers, "contract") == pytest.approx(1 / 8 / 6**0.5, rel=0.03)
    assert spread(built.vision.layers, "expand") == pytest.approx(1 / 8 / 2**0.5, rel=0.03)
    assert torch.equal(built.token_types.weight[2], built.token_types.weight[1])
    assert all((m.bias == 0).all() for m in built.fusion.modules() if isinstance(m, nn.Linear))


def test_three_rates_and_the_authors_list_of_what_does_not_decay() -> None:
    built = model(pretraining=True)
    learner = Learner(built, built.head("classify", 3))
    recipe = Recipe(model="meter", task="vqa", rate=1.0, fusion_rate=5.0, head_rate=50.0, decay=0.01)
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    found = {
        names[id(p)]: (group["multiple"], group["decay"]) for group in parameter_groups(learner, recipe)
        for p in group["params"]
    }  # fmt: skip
    assert len(found) == len(names)
    assert found["model.vision.layers.0.attention.part.qkv.weight"] == (1.0, 0.01)
    assert found["model.vision.layers.0.attention.part.qkv.bias"] == (1.0, 0.0)
    assert found["model.vision.layers.0.attention.norm.weight"] == (1.0, 0.01)  # CLIP's ln_* decay
    assert found["model.vision.norm_before.bias"] == (1.0, 0.0)
    assert found["model.vision.first_token"] == (1.0, 0.01)
    assert found["model.text.embedding.norm.weight"] == (1.0, 0.0)
    assert found["model.text.embedding.words.weight"] == (1.0, 0.01)
    assert found["model.token_types.weight"] == (1.0, 0.01)
    assert found["model.image_transform.weight"] == found["model.text_pooler.dense.weight"] == (5.0, 0.01)
    assert found["model.fusion.text_layers.0.cross.norm.weight"] == (5.0, 0.0)
    assert found["model.word_head.2.weight"] == (5.0, 0.0)
    assert found["head.classifier.0.weight"] == (50.0, 0.01)
    assert found["head.classifier.1.weight"] == (50.0, 0.01)  # as 'norm' is in none of its name
    assert found["head.classifier.1.bias"] == (50.0, 0.0)
    ranking = model(form="match")
    assert not any(p.requires_grad for p in ranking.matching_head.parameters())


def test_a_part_wider_than_usual_is_drawn_as_the_usual() -> None:
    wide = model(text_width=1024, text_layers=1)
    assert float(wide.text.embedding.words.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    published = model(text="electra", text_width=1024, text_layers=1)
    assert float(published.text.model.embeddings.word_embeddings.weight.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_only_what_uses_the_projections_of_contrast_holds_them() -> None:
    asked = {"objectives": "masked_lm matching contrastive"}
    held = {
        name: any(key.startswith("contrast.") for key in built.state_dict())
        for name, built in {
            "vqa": model(**asked), "match": model(**asked, form="match"), "unasked": model(form="match"),
            "pretraining": model(**asked, pretraining=True),
        }.items()
    }  # fmt: skip
    assert held == {"vqa": False, "match": True, "pretraining": True, "unasked": False}
    built = model(**asked)
    assert built.vectors(*inputs(built)) is None
    ranking = model(**asked, form="match")
    head = ranking.head("match", 0)
    sum(head.losses(ranking, Batch((), *inputs(ranking))).values()).backward()
    untouched = {name for name, p in ranking.named_parameters() if p.requires_grad and p.grad is None}
    assert not untouched
    assert head.answers(ranking, Batch((), *inputs(ranking)))[0].answer.image is not None


def test_roberta_counts_positions_over_words_and_learns_its_start_mark() -> None:
    built = model(special_tokens=(1, 0, 2))
    text = Text(torch.tensor([[0, 5, 2, 1], [0, 5, 6, 2]]), torch.tensor([[True, True, True, False], [True] * 4]))
    assert built.text.embedding.places(text).tolist() == [[2, 3, 4, 1], [2, 3, 4, 5]]
    built.text.embedding(text).square().sum().backward()
    gradient = built.text.embedding.words.weight.grad
    assert (gradient[0] != 0).any()
    assert (gradient[1] == 0).all()
    long = torch.full((1, 19), 5)
    with pytest.raises(Misuse, match="18 positions"):
        built.text(Text(long, long > 0))


@pytest.mark.parametrize("name", CHOICES)
def test_padding_changes_nothing(name: str) -> None:
    built = chosen(name).eval()
    image, text = inputs(built)
    long = Text(nn.functional.pad(text.tokens, (0, 5)), nn.functional.pad(text.mask, (0, 5)))
    wide = image
    if image.mask is not None:
        values, boxes = (nn.functional.pad(part, (0, 0, 0, 3), value=9.0) for part in image[:2])
        wide = Image(values, boxes, nn.functional.pad(image.mask, (0, 3)))
    torch.testing.assert_close(built.encode(image, text).pooled, built.encode(wide, long).pooled, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["default", "merged", "regions"])
def test_shared_images_and_texts_equal_copies(name: str) -> None:
    built = chosen(name, form="match", **EVERYTHING).eval()
    image, text = inputs(built, 3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    shared = image._replace(rows=image_rows), text._replace(rows=text_rows)
    parts = [None if part is None else part[image_rows] for part in image[:3]]
    copied = Image(*parts), Text(text.tokens[text_rows], text.mask[text_rows])
    close = {"atol": 1e-5, "rtol": 1e-5}
    for made, wanted in zip(built.encode(*shared), built.encode(*copied), strict=True):
        torch.testing.assert_close(made, wanted, **close)
    for made, wanted in zip(built.vectors(*shared), built.vectors(*copied), strict=True):
        torch.testing.assert_close(made, wanted, **close)
    for form in ("match", "write"):
        head = built.head(form, 0)
        ours, theirs = (head.answers(built, Batch((), *pairs)) for pairs in (shared, copied))
        if form == "write":
            assert ours == theirs
        assert [one.probability for one in ours] == pytest.approx([one.probability for one in theirs], abs=1e-5)
    captions = [head.losses(built, Batch((), *pairs))["captioning"] for pairs in (shared, copied)]
    torch.testing.assert_close(*captions, **close)


def test_both_streams_of_a_pair_of_layers_read_the_other_as_it_was() -> None:
    fusion = model().fusion.eval()
    words, image, mask = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.ones(2, 5, dtype=torch.bool)
    made = fusion(words, image, mask, None)
    for read, see in zip(fusion.text_layers, fusion.image_layers, strict=True):
        before = words
        words = read(words, mask, image)
        image = see(image, None, before, mask)
    torch.testing.assert_close(made, (words, image))


def test_merged_attention_sees_both_modalities_with_one_set_of_weights() -> None:
    merged, pairs = model(fusion="merged", fusion_layers=1).fusion.eval(), 3
    states = torch.randn(pairs, 9, 24)
    mask = torch.ones(pairs, 9, dtype=torch.bool)
    split = [torch.cat(merged(states[:, :at], states[:, at:], mask[:, :at], None), dim=1) for at in (2, 5)]
    torch.testing.assert_close(*split, atol=1e-6, rtol=1e-5)
    kinds = {type(m) for m in merged.modules()}
    assert Layer in kinds
    assert not {CrossLayer, VisionLayer} & kinds


@pytest.mark.parametrize("name", CHOICES)
def test_all_objectives_are_learned(name: str) -> None:
    asked = {} if name == "embedding" else EVERYTHING
    built = chosen(name, pretraining=True, **asked)
    learner, pairs = Learner(built), 8
    image, text = inputs(built, pairs)
    batch = Batch(tuple(map(str, range(pairs))), image, text)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)

    def drawn() -> dict[str, Tensor]:
        torch.manual_seed(1)  # the same words, patches and images each time
        return learner(batch)

    first = {loss: value.item() for loss, value in drawn().items()}
    assert set(first) == set(OBJECTIVES if asked else ("masked_lm", "matching"))
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(drawn().values())).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()
    last = {loss: value.item() for loss, value in drawn().items()}
    assert all(last[loss] < 0.9 * first[loss] for loss in first), (first, last)
    unused = [name for name, p in learner.named_parameters() if p.grad is None]
    assert not unused


def test_exchanged_images_and_false_texts_are_of_other_images() -> None:
    torch.manual_seed(0)
    rows = torch.tensor([0, 0, 1, 2, 3, 3, 3])
    image = Image(torch.zeros(4, 3, 8, 8), rows=rows)
    shown, matched = exchange_images(image)
    assert int(matched.sum()) == 3  # half of seven, rounded down
    assert torch.equal(shown == rows, matched)
    drawn, possible = draw_others(image, 15)
    assert possible.all()
    assert drawn.shape == (7, 15)
    assert (rows[drawn] != rows[:, None]).all()
    alone = Image(torch.zeros(2, 3, 8, 8), ids=torch.tensor([7, 7]))
    assert exchange_images(alone)[1].all()
    assert not draw_others(alone, 2)[1].any()


def test_blank_patches_are_whole_cells() -> None:
    image = Image(torch.ones(6, 3, 20, 20))
    hidden, blank = mask_patches(image, 25, rate=0.3, generator=torch.Generator().manual_seed(0))
    cells = hidden.values[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).reshape(6, 25, 16)
    assert torch.equal(cells.sum(-1) == 0, blank)
    assert set(cells.sum(-1).unique().tolist()) == {0.0, 16.0}
    assert 0.15 < blank.float().mean() < 0.45


def test_forms_follow_the_choices() -> None:
    with pytest.raises(Misuse, match="no decoder"):
        model().head("write", 0)
    with pytest.raises(Misuse, match="no regions"):
        model().head("point", 0)
    regions = model(vision="regions")
    image, text = inputs(regions)
    assert regions.head("point", 0).scores(regions, Batch((), image, text)).shape == (5, 4)
    assert METER.sees_at({"vision": "regions"}) == "regions"
    assert METER.sees_at({"width": 3}) == METER.sees_at({"vision": "resnet50"}) == "pixels"
    writer = model(decoder_layers=2).eval()
    written = writer.head("write", 0).answers(writer, Batch((), *inputs(writer)))
    assert all(isinstance(one.answer, Tokens) and len(one.answer.ids) < 8 for one in written)


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"vision": "clipp"}, "did you mean 'clip'"),
        ({"text": "robert"}, "did you mean 'roberta'"),
        ({"fusion": "co_attention"}, "did you mean 'co-attention'"),
        ({"objectives": "masked_lm maching"}, "did you mean 'matching'"),
        ({"objectives": "captioning"}, "needs a decoder"),
        ({"objectives": "contrastive", "text": "embedding"}, "needs a text encoder"),
    ],
)
def test_what_no_configuration_can_do_is_refused(choices: dict[str, str], complaint: str) -> None:
    with pytest.raises(Misuse, match=complaint):
        model(**choices)


def test_a_caption_is_written_from_the_image_alone() -> None:
    """The decoder's words depend on the image and on words before, never on the text to be written."""
    built = model(decoder_layers=1).eval()
    image, text = inputs(built)
    source = built.look(image)
    logits = built.writer(text, source)
    later = text._replace(tokens=text.tokens.clone())
    later.tokens[:, 4:] = 9
    torch.testing.assert_close(built.writer(later, source)[:, :4], logits[:, :4])
    assert not torch.allclose(built.writer(text, built.look(image._replace(values=-image.values))), logits, atol=1e-3)


def test_official_checkpoints_load(official_folder: Path, tmp_path: Path) -> None:
    case = read_case(official_folder, "meter", "pretrain")
    config, weights = case.config, dict(case.weights)
    weights["vit_model.token_embedding.weight"] = torch.zeros(3, 8)  # the authors' files hold it
    path = tmp_path / "meter.ckpt"
    torch.save({"state_dict": weights, "epoch": 3, "global_step": 9}, path)
    sizes = {
        "vocabulary": config["vocab_size"], "width": config["hidden_size"], "heads": config["num_heads"],
        "inner": config["hidden_size"] * config["mlp_ratio"], "fusion_layers": config["num_top_layer"],
        "patch": config["patch_size"], "vision_width": config["vit_width"], "vision_heads": config["vit_heads"],
        "vision_layers": config["vit_blocks_built"], "text_width": config["text_hidden"],
        "text_layers": config["text_layers"], "text_heads": config["text_heads"], "text_inner": config["text_ffn"],
        "positions": len(weights["text_transformer.embeddings.position_embeddings.weight"]),
    }  # fmt: skip
    table = checkpoint.read_table("meter")

    # at another image size, for two images: positions are resized, the second image begins as the first
    compare = model(**sizes, image_size=2 * config["image_size"], form="compare")
    found = checkpoint.load(Learner(compare, compare.head("compare", 2)), path, table)
    assert all(name.startswith("head.") for name in found.new)
    stored = weights["vit_model.visual.positional_embedding"]
    assert torch.equal(compare.vision.positions.data, resize_positions(stored, len(compare.vision.positions)))
    types = weights["token_type_embeddings.weight"]
    assert torch.equal(compare.token_types.weight.data, types[[0, 1, 1]])

    # positions that no square image has, or of another width, do not fit
    wanted = compare.vision.positions
    for other in (torch.zeros(9, stored.shape[1]), torch.zeros(10, stored.shape[1] + 1)):
        assert compare.resized("model.vision.positions", other, wanted) is None

    # to rank: the score begins as that of matching pairs
    match = model(**sizes, image_size=config["image_size"], form="match")
    learner = Learner(match, match.head("match", 0))
    assert isinstance(learner.head, RankingHead)
    checkpoint.load(learner, path, table)
    assert torch.equal(learner.head.score.weight.data, weights["itm_score.fc.weight"][1:])
    assert torch.equal(learner.head.score.bias.data, weights["itm_score.fc.bias"][1:])


@pytest.mark.parametrize("size", [name for name in find(ModelCard, "meter").sizes if name.startswith("base")])
def test_published_sizes_can_be_built(size: str) -> None:
    card = find(ModelCard, "meter")
    shown = card.sizes[size].get("image_size", 0)
    facts = {"vocabulary": 50265, "feature_dim": 2048, "image_size": shown, "pretraining": True}
    with torch.device("meta"):  # shapes only
        built = build_model(METER, card.constructor_sizes(size), facts)
    assert 200e6 < sum(p.numel() for p in built.parameters()) < 500e6
    if size == "base":
        parts = 11 * 7_087_872, 3 * 16 * 16 * 768, (18 * 18 + 1) * 768, 768, 4 * 768  # layers, patches, positions, ...
        assert sum(p.numel() for p in built.vision.parameters()) == sum(parts)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("base", "roberta-base"),
        ("base-bert", "bert-base-uncased"),
        ("base-embedding", "bert-base-uncased"),  # BERT's input layer
        ("base-electra", "google/electra-base-discriminator"),
        ("base-albert", "albert/albert-base-v2"),
        ("base-deberta", "microsoft/deberta-base"),
    ],
)
def test_words_are_those_of_the_text_encoder(size: str, words: str) -> None:
    typed = {"dataset": "vqa-v2", "size": size}
    assert plan("meter", "vqa", typed=typed).tokeniser == words
    assert plan("meter", "vqa", typed={**typed, "tokeniser": "mine"}).tokeniser == "mine"
    assert "tokeniser" not in find(ModelCard, "meter").constructor_sizes(size)


def test_recipe_is_the_published_one() -> None:
    import json

    from vlbench.paths import card_folder

    path = card_folder("registry") / "published" / "hyperparameters.json"
    sources = json.loads(path.read_text(encoding="utf-8"))["METER"]
    card = find(ModelCard, "meter")
    for task, name in (("vqa", "VQA v2"), ("nlvr2", "NLVR2"), ("snli-ve", "SNLI-VE")):
        made, source = card.finetune[task], sources[f"finetune/{name}"]
        assert (made["rate"], made["batch"], made["epochs"]) == (source["lr"], source["batch_size"], source["epochs"])
        assert (made["image_size"], made["text_length"]) == (source["image_size"], source["max_text_len"])
        assert made["head_rate"] == source["extra"]["lr_multiplier_head"]
        assert made["fusion_rate"] == source["extra"]["lr_multiplier_cross_modal"]


def test_the_default_needs_neither_timm_nor_transformers() -> None:
    code = (
        "import sys; from vlbench.models.meter import METER\n"
        "METER(vocabulary=9, image_size=32, width=8, heads=2, vision_width=8, text_width=8, text_heads=2)\n"
        "assert not {'timm', 'transformers', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
