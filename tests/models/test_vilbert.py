"""ViLBERT: what recorded cases cannot show, what must not matter, and the authors' files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vlbench.engine.checkpoint import load, read_table
from vlbench.learner import Learner
from vlbench.models.vilbert import ViLBERT
from vlbench.nn.embed import with_whole_image
from vlbench.nn.heads import PointHead
from vlbench.nn.layers import WeightNormedLinear
from vlbench.nn.masking import four_options, mask_regions
from vlbench.nn.objectives import class_distribution, region_distribution_loss
from vlbench.nn.task_heads import OptionHead, TaskHead
from vlbench.proof.parity import read_case
from vlbench.proof.vilbert import CASES as RUNNERS
from vlbench.types import BadData, Batch, Form, Image, Misuse, RegionLabels, Text, Vectors

CASES = Path(__file__).resolve().parents[1] / "official"
SIZES = {
    "width": 24, "heads": 3, "inner": 40, "text_layers": 3, "image_width": 32, "image_heads": 4, "image_inner": 20,
    "image_layers": 2, "co_width": 20, "co_heads": 2, "co_layers": 2,
}  # fmt: skip
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def model(**changed: object) -> ViLBERT:
    torch.manual_seed(0)
    given = {"vocabulary": 50, "feature_dim": 11, "positions": 16, "classes": 8, "dropout": 0.0}
    return ViLBERT(**{**given, **SIZES, "special_tokens": (0, 1, 2), "mask_token": 3, **changed})


def recorded_model(config: Mapping[str, Any], **changed: object) -> ViLBERT:
    sizes = {
        "vocabulary": config["vocab_size"], "feature_dim": config["v_feature_size"], "width": config["hidden_size"],
        "heads": config["num_attention_heads"], "inner": config["intermediate_size"],
        "text_layers": config["num_hidden_layers"], "image_width": config["v_hidden_size"],
        "image_heads": config["v_num_attention_heads"], "image_inner": config["v_intermediate_size"],
        "image_layers": config["v_num_hidden_layers"], "co_width": config["bi_hidden_size"],
        "co_heads": config["bi_num_attention_heads"], "co_layers": len(config["v_biattention_id"]),
        "positions": config["max_position_embeddings"],
    }  # fmt: skip
    return ViLBERT(**{**sizes, **changed})


def inputs(pairs: int = 5, length: int = 8, regions: int = 4) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 50, (pairs, length), generator=generator)
    mask = torch.arange(length) < torch.randint(3, length + 1, (pairs, 1), generator=generator)
    there = torch.arange(regions) < torch.randint(1, regions + 1, (pairs, 1), generator=generator)
    corners = torch.rand(pairs, regions, 2, 2, generator=generator).sort(2).values.flatten(2)
    image = Image(torch.randn(pairs, regions, 11, generator=generator), corners, there)
    return image, Text(tokens.where(mask, 0), mask)


def test_what_a_recorded_case_cannot_show() -> None:
    built = model(dropout=0.1, pretraining=True)
    assert {m.eps for m in built.modules() if isinstance(m, nn.LayerNorm)} == {1e-12}
    linear = torch.cat([m.weight.flatten() for m in built.modules() if isinstance(m, nn.Linear)])
    assert float(linear.detach().std()) == pytest.approx(0.02 * (768 / SIZES["width"]) ** 0.5, rel=0.05)
    assert all((m.bias == 0).all() for m in built.modules() if isinstance(m, nn.Linear))
    drops = [m.p for m in built.modules() if isinstance(m, nn.Dropout)]
    streams, joined = 2 * (SIZES["text_layers"] + SIZES["image_layers"]), 4 * SIZES["co_layers"]
    assert len(drops) == streams + joined + 3  # one a sub-layer, one an embedding, one on what is pooled
    assert set(drops) == {0.1}
    assert {m.dropout for m in built.modules() if hasattr(m, "query")} == {0.1}
    decayed = {name for name, parameter in built.named_parameters() if built.decays(name, parameter)}
    assert not [name for name in decayed if name.endswith("bias") or ".norm." in name]
    assert "region_embedding.boxes.weight" in decayed
    for width in (768, 1152):
        wide = model(width=width, heads=12, text_layers=2, image_layers=2)
        assert float(wide.text_pooler.weight.detach().std()) == pytest.approx(0.02, rel=0.03)


def test_joins_are_the_last_layers_of_each_stream() -> None:
    narrow = {"width": 12, "inner": 4, "image_width": 8, "image_inner": 4, "co_width": 8}
    built = ViLBERT(vocabulary=30, feature_dim=4, **narrow)  # the depths are the published ones
    assert built.text_joins == (6, 7, 8, 9, 10, 11)
    assert built.image_joins == (0, 1, 2, 3, 4, 5)


def test_the_whole_image_is_added_as_the_authors_store_it() -> None:
    case = read_case(CASES, "vilbert", "backbone").inputs
    features, boxes, mask = case["image_feat"], case["image_loc"], case["image_attention_mask"].bool()
    sides = boxes[..., 2:4] - boxes[..., :2]
    torch.testing.assert_close(sides.prod(-1), boxes[..., 4], atol=1e-7, rtol=0)  # the fifth number is the area
    made = with_whole_image(Image(features[:, 1:], boxes[:, 1:, :4], mask[:, 1:]))
    torch.testing.assert_close(made.values, features, **CLOSE)
    torch.testing.assert_close(made.boxes, boxes[..., :4])
    assert (made.mask == mask).all()
    built = model(feature_dim=features.shape[-1]).eval()
    torch.testing.assert_close(
        built.region_embedding(made), built.region_embedding(Image(features, boxes, mask)), **CLOSE
    )
    complete = model(feature_dim=features.shape[-1], global_row=False).eval()
    text = Text(case["input_ids"] % 50, case["attention_mask"].bool())
    added = built.encode(Image(features[:, 1:], boxes[:, 1:, :4], mask[:, 1:]), text)
    given = complete.encode(Image(features, boxes, mask), text)
    torch.testing.assert_close(added.pooled, given.pooled, **CLOSE)
    torch.testing.assert_close(added.image, given.image[:, 1:], **CLOSE)


@pytest.mark.parametrize("tasks", [0, 3])
def test_padding_changes_nothing_and_rows_are_those_given(tasks: int) -> None:
    built = model(tasks=tasks).eval()
    image, text = inputs()
    long = Text(nn.functional.pad(text.tokens, (0, 5)), nn.functional.pad(text.mask, (0, 5)))
    wide = Image(
        nn.functional.pad(image.values, (0, 0, 0, 3), value=9.0),
        nn.functional.pad(image.boxes, (0, 0, 0, 3), value=9.0),
        nn.functional.pad(image.mask, (0, 3)),
    )
    narrow = built.encode(image, text)
    torch.testing.assert_close(narrow.pooled, built.encode(wide, long).pooled, **CLOSE)
    assert (narrow.text.shape[:2], narrow.image.shape[:2]) == (text.tokens.shape, image.values.shape[:2])


def test_shared_images_and_texts_equal_copies() -> None:
    # image layers before the first co-attention run once an image, too
    built = model(image_layers=3, image_joins=(1, 2)).eval()
    image, text = inputs(3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    shared = built.encode(image._replace(rows=image_rows), text._replace(rows=text_rows))
    copied = built.encode(
        Image(*(part[image_rows] for part in image[:3])), Text(text.tokens[text_rows], text.mask[text_rows])
    )
    for made, wanted in zip(shared, copied, strict=True):
        torch.testing.assert_close(made, wanted, **CLOSE)


@pytest.mark.parametrize("matched_only", [False, True])
def test_all_three_objectives_are_learned(matched_only: bool) -> None:
    learner = Learner(model(pretraining=True, matched_only=matched_only))
    image, text = inputs(32)
    labels = RegionLabels(torch.randint(7, (32, 4)), torch.rand(32, 4), torch.zeros(32, 4).long(), torch.rand(32, 4))
    batch = Batch((), image._replace(labels=labels), text)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)

    def drawn() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # the same words and regions hidden each time
        return learner(batch)

    first = {name: loss.item() for name, loss in drawn().items()}
    assert set(first) == {"masked_lm", "masked_regions", "matching"}
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(drawn().values())).sum().backward()
        optimiser.step()
    last = {name: loss.item() for name, loss in drawn().items()}
    assert all(last[name] < 0.9 * first[name] for name in first), (first, last)
    assert "masked_regions" not in learner(batch._replace(image=image))  # without a detector's labels


def test_hidden_regions_are_zeroed_or_kept_and_asked_for_a_distribution() -> None:
    torch.manual_seed(0)
    image = Image(torch.rand(400, 10, 2) + 1, torch.rand(400, 10, 4))
    hidden = mask_regions(image, rate=0.15, zeroed=0.9, replaced=0.0)
    zeroed = (hidden.image.values == 0).all(-1)
    kept = (hidden.image.values == image.values).all(-1)
    assert (zeroed | kept).all()
    assert not (zeroed & ~hidden.chosen).any()
    assert hidden.chosen.float().mean() == pytest.approx(0.15, abs=0.02)
    assert zeroed.sum() / hidden.chosen.sum() == pytest.approx(0.9, abs=0.04)
    sure = torch.tensor([[0.7, 1.0, 0.3]])
    labels = RegionLabels(torch.tensor([[0, 3, -1]]), sure, torch.zeros(1, 3).long(), sure)
    spread = class_distribution(labels, 5)
    torch.testing.assert_close(spread.sum(-1), torch.ones(1, 3))
    torch.testing.assert_close(spread[0, :2], torch.tensor([[0.075, 0.7, *[0.075] * 3], [0, 0, 0, 0, 1.0]]))
    known = torch.rand(1, 3, 5).softmax(-1)
    assert class_distribution(labels._replace(class_probabilities=known.half()), 5).equal(known.half().float())
    with pytest.raises(BadData, match="of 5 classes, the model knows 6"):
        class_distribution(labels._replace(class_probabilities=known), 6)
    loss = region_distribution_loss(spread.clamp(min=1e-30).log(), spread, torch.tensor([[True, True, False]]))
    assert float(loss) == pytest.approx(0, abs=1e-6)  # where the target is 0, 0 log 0 = 0
    assert region_distribution_loss(spread, spread, torch.zeros(1, 3, dtype=torch.bool)) == 0


def test_heads_are_those_of_the_authors() -> None:
    built = model(dropout=0.1)
    found: dict[tuple[Form, int], set[str]] = {}
    for form, answers in (
        ("classify", 3129), ("classify", 1533), ("classify", 3), ("classify", 4), ("compare", 2), ("choose", 4),
        ("match", 2), ("point", 2),
    ):  # fmt: skip
        head = built.head(form, answers)
        found[form, answers] = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert list(found.values()) == [
        {"vqa"}, {"gqa"}, {"entailment"}, {"classifier"}, {"nlvr2"}, {"option"}, {"option"}, {"score"}
    ]  # fmt: skip
    point = built.head("point", 2)
    assert isinstance(point, PointHead)
    assert point.dropout.p == 0.1
    with pytest.raises(Misuse, match="write"):
        built.head("write", 2)


def test_the_task_token_is_that_of_the_head_unless_it_is_given() -> None:
    built, (image, text) = model(tasks=20).eval(), inputs()
    put_in: list[int] = []
    for form, answers in (
        ("classify", 3129), ("classify", 4), ("classify", 1533), ("classify", 3), ("choose", 4), ("match", 0),
        ("point", 0), ("compare", 2),
    ):  # fmt: skip
        built.head(form, answers)
        with_token = built.embed(text)[0][:, 1]
        others = [built.text_embedding.norm(row) for row in built.task_embedding.weight]
        put_in += [place for place, other in enumerate(others) if torch.allclose(with_token, other, atol=1e-6)]
    assert put_in == [1, 1, 15, 13, 5, 8, 10, 12]  # vilbert_tasks.yml of the authors
    fixed = model(tasks=20, task=9)
    fixed.head("point", 0)
    assert (fixed.task, model(tasks=20).task) == (9, 1)
    first = built.encode(image, text).pooled
    built.head("point", 0)
    assert not torch.allclose(first, built.encode(image, text).pooled)


def test_twelve_in_one_begins_from_the_pre_trained_file(tmp_path: Path) -> None:
    recorded, path = read_case(CASES, "vilbert", "pretrain"), tmp_path / "pretrained_model.bin"
    torch.save(dict(recorded.weights), path)
    built = recorded_model(recorded.config, tasks=20)
    learner = Learner(built, built.head("compare", 2))
    found = load(learner, path, read_table("vilbert"))
    assert {name for name in found.new if not name.startswith("head.")} == {"model.task_embedding.weight"}
    assert built.may_be_new("momentum.any")
    torch.save({name: one for name, one in recorded.weights.items() if "v_pooler" not in name}, path)
    with pytest.raises(BadData, match="image_pooler"):
        load(learner, path, read_table("vilbert"))


def test_a_recorded_setting_that_is_not_ours_is_refused() -> None:
    case = read_case(CASES, "vilbert", "backbone")
    for key, value in (("fusion_method", "sum"), ("v_hidden_act", "relu"), ("layer_norm_eps", 1e-5)):
        with pytest.raises(BadData, match=key):
            RUNNERS["backbone"](case._replace(config={**case.config, key: value}))


def test_matched_only_drops_hidden_words_of_id_0_as_the_authors_do() -> None:
    case = read_case(CASES, "vilbert", "pretrain")
    labels = case.inputs["masked_lm_labels"].clone()
    pair = int((case.inputs["next_sentence_label"] == 0).nonzero()[0])
    labels[pair, int((labels[pair] > 0).nonzero()[0])] = 0
    with torch.no_grad():
        zero, dropped = (
            RUNNERS["pretrain"](case._replace(inputs={**case.inputs, "masked_lm_labels": given}))
            for given in (labels, labels.where(labels != 0, -1))
        )
    torch.testing.assert_close(zero["loss_masked_lm_objective1"], dropped["loss_masked_lm_objective1"])
    assert not torch.allclose(zero["loss_masked_lm"], dropped["loss_masked_lm"])


def test_labels_are_learned_as_the_one_right_answer() -> None:
    scores, labels = torch.randn(3, 4), torch.tensor([1, 0, 3])
    image, text = inputs(3)
    for summed in (True, False):
        head = TaskHead("any", nn.Linear(20, 4), summed=summed)
        named = head.loss(scores, Batch((), image, text, labels))
        torch.testing.assert_close(named, head.loss(scores, Batch((), image, text, torch.eye(4)[labels])))
    option = OptionHead(20).loss(scores, Batch((), image, text, labels))
    torch.testing.assert_close(option, nn.functional.cross_entropy(scores, labels))


def test_the_first_release_classifier_keeps_its_length() -> None:
    head = model(weight_normed=True, dropout=0.1).head("classify", 3129)
    maps = [part for part in head.modules() if isinstance(part, WeightNormedLinear)]
    assert len(maps) == 2
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.5]
    for one in maps:
        assert one.scale.dim() == 0
        torch.testing.assert_close(one.scale, one.direction.norm())  # as the linear map that was drawn
        assert one.direction.abs().max() <= one.direction.shape[1] ** -0.5
        assert (one.bias == 0).all()


def test_wrong_options_are_of_other_images_and_the_hard_one_of_the_nearest() -> None:
    image, text = inputs(4)
    image = image._replace(values=torch.tensor([0.0, 1.0, 10.0])[:, None, None].expand(3, 4, 11), mask=None)
    shown = torch.tensor([0, 0, 1, 2])
    own_images, own_texts = four_options(image._replace(rows=shown), text)
    options = torch.stack([own_images.rows, own_texts.rows], -1).view(4, 4, 2)
    for pair, (true, caption, other, hard) in enumerate(options.tolist()):
        assert true == [shown[pair], pair]
        assert caption[0] == shown[pair]
        assert shown[caption[1]] != shown[pair]
        assert other[0] != shown[pair]
        assert other[1] == pair
        assert hard == [shown[pair], [2, 2, 0, 2][pair]]


def test_retrieval_is_learned_and_begins_as_the_alignment_head() -> None:
    built = model(form="match")
    learner, (image, text) = Learner(built, built.head("match", 0)), inputs(8)
    assert not built.matching_head.weight.requires_grad
    nn.init.normal_(built.matching_head.bias)
    learner.begin_anew(["head.option.weight", "head.option.bias"], {})
    rows = torch.arange(8)
    every = Batch((), image._replace(rows=rows.repeat_interleave(8)), text._replace(rows=rows.repeat(8)), fold=(1, 1))
    given = learner.eval().answers(every)
    aligned = built.matching_head(built.encode(every.image, every.text).pooled).softmax(-1)[:, 0]
    torch.testing.assert_close(torch.tensor([one.probability for one in given]), aligned, **CLOSE)
    assert given[0].answer == Vectors(None, None)
    optimiser = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=2e-3)
    learner.train()
    for _ in range(40):
        loss = learner(Batch((), image, text))["answer"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    scores = torch.tensor([one.probability for one in learner.eval().answers(every)]).view(8, 8)
    assert (scores.argmax(1) == rows).float().mean() > 0.8


@pytest.mark.parametrize(
    ("case", "form", "answers"),
    [("vqa", "match", 0), ("gqa", "classify", 0), ("vqa_beta", "point", 0), ("vqa_task_token", "compare", 2)],
)
def test_the_authors_files_are_read(case: str, form: Form, answers: int, tmp_path: Path) -> None:
    """A fine-tuned model's file holds the heads of all tasks; one is taken, and none is mistaken for another."""
    recorded = read_case(CASES, "vilbert", case)
    config, weights = recorded.config, dict(recorded.weights)
    path = tmp_path / "pytorch_model_19.bin"
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    built = recorded_model(config, tasks=20 if config.get("task_specific_tokens") else 0, form=form)
    learner = Learner(built, built.head(form, answers or 5))
    found = load(learner, path, read_table("vilbert"))
    own = {name for name in learner.state_dict() if name.startswith("head.")}
    assert set(found.new) == (own if form == "classify" else set())  # a list of five answers is no task of theirs
    source = {"match": ("vil_logit", "option"), "point": ("vision_logit", "score")}
    if form in source:
        theirs, ours = source[form]
        torch.testing.assert_close(learner.state_dict()[f"head.{ours}.weight"], weights[f"{theirs}.weight"])
    unused = len([name for name in weights if "q_dense" in name])
    assert unused == 4 * len(config["v_biattention_id"])
    assert len(found.used) + len(found.not_needed) == len(weights)
