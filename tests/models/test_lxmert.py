"""LXMERT: what recorded cases cannot show, what must not matter, and transformers' port at fresh sizes."""

import pytest
import torch
from torch import nn

from vlbench.engine.checkpoint import read_table, sort_keys
from vlbench.learner import Learner
from vlbench.models.lxmert import LXMERT, Targets, drawn_answers
from vlbench.nn.masking import IGNORED
from vlbench.types import Batch, Image, RegionLabels, Text

SIZES = {"width": 24, "heads": 3, "inner": 40, "text_layers": 2, "image_layers": 1, "cross_layers": 2}


def model(**changed: object) -> LXMERT:
    torch.manual_seed(0)
    given = {
        "vocabulary": 50,
        "feature_dim": 11,
        "positions": 16,
        "objects": 7,
        "attributes": 5,
        "answers": 6,
    }
    return LXMERT(**{**given, **SIZES, "dropout": 0.0, "special_tokens": (0, 1, 2), "mask_token": 3, **changed})


def inputs(pairs: int = 5, length: int = 8, regions: int = 4) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 50, (pairs, length), generator=generator)
    mask = torch.arange(length) < torch.randint(3, length + 1, (pairs, 1), generator=generator)
    there = torch.arange(regions) < torch.randint(1, regions + 1, (pairs, 1), generator=generator)
    image = Image(
        torch.randn(pairs, regions, 11, generator=generator),
        torch.rand(pairs, regions, 4, generator=generator),
        there,
    )
    return image, Text(tokens.where(mask, 0), mask)


def test_what_a_recorded_case_cannot_show() -> None:
    built = model(dropout=0.1, pretraining=True)
    norms = [m for m in built.modules() if isinstance(m, nn.LayerNorm)]
    assert {m.eps for m in norms} == {1e-12}
    linear = torch.cat([m.weight.flatten() for m in built.modules() if isinstance(m, nn.Linear)])
    assert float(linear.detach().std()) == pytest.approx(0.02 * (768 / SIZES["width"]) ** 0.5, rel=0.05)
    full = LXMERT(vocabulary=30, text_layers=1, image_layers=0, cross_layers=0)  # the published width
    assert float(full.text_layers.layers[0].feed_forward.part.expand.weight.detach().std()) == pytest.approx(
        0.02, rel=0.02
    )
    assert built.text_embedding.words.weight[0].abs().sum() > 0  # the padding row is drawn too
    assert all((m.bias == 0).all() for m in built.modules() if isinstance(m, nn.Linear))
    drops = [m.p for m in built.modules() if isinstance(m, nn.Dropout)]
    attending, forward = 2 + 1 + 2 * 3, 2 + 1 + 2 * 2
    assert len(drops) == attending + forward + 2  # one a sub-layer, one an embedding
    assert set(drops) == {0.1}
    assert {m.dropout for m in built.modules() if hasattr(m, "query")} == {0.1}


def test_first_rows_get_no_gradient_from_the_look_up() -> None:
    built = model()
    image, text = inputs()
    built.encode(image, text).pooled.sum().backward()
    for table in (built.text_embedding.words, built.text_embedding.positions, built.text_embedding.segments):
        assert table.weight.grad is not None
        assert (table.weight.grad[0] == 0).all()
    assert (built.text_embedding.positions.weight.grad[1] != 0).any()


def test_padding_changes_nothing() -> None:
    built = model().eval()
    image, text = inputs()
    long = Text(nn.functional.pad(text.tokens, (0, 5)), nn.functional.pad(text.mask, (0, 5)))
    wide = Image(
        nn.functional.pad(image.values, (0, 0, 0, 3), value=9.0),
        nn.functional.pad(image.boxes, (0, 0, 0, 3), value=9.0),
        nn.functional.pad(image.mask, (0, 3)),
    )
    torch.testing.assert_close(built.encode(image, text).pooled, built.encode(wide, long).pooled, atol=1e-6, rtol=1e-5)


def test_regions_have_no_order() -> None:
    built = model().eval()
    image, text = inputs()
    order = torch.tensor([2, 0, 3, 1])
    turned = Image(image.values[:, order], image.boxes[:, order], image.mask[:, order])
    before, after = built.encode(image, text), built.encode(turned, text)
    torch.testing.assert_close(before.pooled, after.pooled, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(before.image[:, order], after.image, atol=1e-6, rtol=1e-5)


def test_pairs_do_not_see_each_other() -> None:
    built = model().eval()
    image, text = inputs()
    whole = built.encode(image, text).pooled
    alone = built.encode(Image(*(part[2:3] for part in image[:3])), Text(text.tokens[2:3], text.mask[2:3])).pooled
    torch.testing.assert_close(whole[2:3], alone, atol=1e-6, rtol=1e-5)


def test_shared_images_and_texts_equal_copies() -> None:
    built = model().eval()
    image, text = inputs(3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    shared = built.encode(image._replace(rows=image_rows), text._replace(rows=text_rows))
    copied = built.encode(
        Image(*(part[image_rows] for part in image[:3])), Text(text.tokens[text_rows], text.mask[text_rows])
    )
    torch.testing.assert_close(shared.pooled, copied.pooled, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(shared.image, copied.image, atol=1e-6, rtol=1e-5)


def test_all_five_objectives_are_learned() -> None:
    built = model(pretraining=True)
    learner = Learner(built)
    image, text = inputs(16)
    labels = RegionLabels(torch.randint(7, (16, 4)), torch.rand(16, 4), torch.randint(5, (16, 4)), torch.rand(16, 4))
    batch = Batch(tuple("abcdefghijklmnop"), image._replace(labels=labels), text, torch.eye(6)[torch.randint(6, (16,))])
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)

    def drawn() -> dict[str, torch.Tensor]:
        torch.manual_seed(1)  # the same words and regions hidden each time
        return learner(batch)

    first = {name: loss.item() for name, loss in drawn().items()}
    assert set(first) == {
        "masked_lm", "region_features", "region_objects", "region_attributes", "matching", "image_qa"
    }  # fmt: skip
    for _ in range(60):
        optimiser.zero_grad()
        torch.stack(list(drawn().values())).sum().backward()
        optimiser.step()
    last = {name: loss.item() for name, loss in drawn().items()}
    assert all(last[name] < 0.9 * first[name] for name in first), (first, last)


def test_answers_are_drawn_in_proportion_and_only_for_matched_pairs() -> None:
    torch.manual_seed(0)
    target = torch.tensor([[0.0, 0.25, 0.75]]).expand(4000, 3).clone()
    target[:10] = 0
    matched = torch.arange(4000) % 2 == 0
    drawn = drawn_answers(target, matched)
    assert (drawn[~matched] == IGNORED).all()
    assert (drawn[:10] == IGNORED).all()
    kept = drawn[matched & (torch.arange(4000) >= 10)]
    assert set(kept.tolist()) == {1, 2}
    assert (kept == 2).float().mean() == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_transformers_at_fresh_sizes(seed: int) -> None:
    from transformers import LxmertConfig, LxmertForPreTraining

    generator = torch.Generator().manual_seed(seed)

    def any_of(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    heads, size = any_of(1, 5), any_of(3, 9)
    config = LxmertConfig(
        vocab_size=any_of(20, 90), hidden_size=heads * size, num_attention_heads=heads, intermediate_size=any_of(8, 50),
        l_layers=any_of(1, 4), r_layers=any_of(1, 3), x_layers=any_of(1, 4), max_position_embeddings=any_of(12, 30),
        visual_feat_dim=any_of(4, 30), num_qa_labels=any_of(2, 12), num_object_labels=any_of(2, 9),
        num_attr_labels=any_of(2, 9), initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(seed)
    theirs = LxmertForPreTraining(config).eval()
    ours = LXMERT(
        vocabulary=config.vocab_size, feature_dim=config.visual_feat_dim, width=config.hidden_size, heads=heads,
        inner=config.intermediate_size, text_layers=config.l_layers, image_layers=config.r_layers,
        cross_layers=config.x_layers, positions=config.max_position_embeddings, objects=config.num_object_labels,
        attributes=config.num_attr_labels, answers=config.num_qa_labels, pretraining=True,
    ).eval()  # fmt: skip
    learner = Learner(ours)
    found = sort_keys(theirs.state_dict(), learner.state_dict(), read_table("lxmert"))
    assert not found.fatal
    learner.load_state_dict(found.used)
    pairs, length, regions = 4, 9, 6
    tokens = torch.randint(3, config.vocab_size, (pairs, length), generator=generator)
    mask = torch.arange(length) < torch.tensor([9, 4, 7, 2])[:, None]
    features = torch.randn(pairs, regions, config.visual_feat_dim, generator=generator)
    boxes = torch.rand(pairs, regions, 4, generator=generator)
    labels = torch.where(mask, tokens, -100)
    matched = torch.tensor([1, 0, 1, 1])
    with torch.no_grad():
        answer = torch.randint(config.num_qa_labels, (pairs,), generator=generator)
        wanted = theirs(
            input_ids=tokens, attention_mask=mask.long(), visual_feats=features, visual_pos=boxes, labels=labels,
            matched_label=matched, ans=answer,
        )  # fmt: skip
        states = ours.encode(Image(features, boxes), Text(tokens, mask))
        targets = Targets(
            labels.where(labels >= 0, IGNORED), features, torch.zeros(pairs, regions), None, matched, answer
        )
        losses = ours.objectives(states, targets)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(ours.word_logits(states.text), wanted.prediction_logits, **close)
    torch.testing.assert_close(ours.matching_head(states.pooled), wanted.cross_relationship_score, **close)
    torch.testing.assert_close(ours.answer_head(states.pooled), wanted.question_answering_score, **close)
    total = losses["masked_lm"] + losses["matching"] + losses["image_qa"]
    torch.testing.assert_close(total, wanted.loss.squeeze(), **close)
