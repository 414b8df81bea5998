"""CoCa: what recorded cases cannot show, what must not matter, and open_clip itself at fresh sizes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.checkpoint import load, read_table, sort_keys
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner
from vlbench.models.coca import CoCa
from vlbench.nn.captioner import continued
from vlbench.nn.heads import ScoringHead
from vlbench.plan import plan
from vlbench.proof.coca import CASES
from vlbench.proof.parity import read_case
from vlbench.types import BadData, Batch, Image, Misuse, Text, Tokens, Vectors

SIZES = {
    "vocabulary": 40, "image_size": 16, "patch": 4, "image_width": 20, "image_heads": 2, "image_layers": 2,
    "queries": 5, "pooler_heads": 3, "width": 24, "heads": 3, "fusion_heads": 4, "text_layers": 2,
    "fusion_layers": 2, "positions": 13,
}  # fmt: skip
START, END = 38, 39
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def model(**changed: int) -> CoCa:
    torch.manual_seed(0)
    return CoCa(**{**SIZES, **changed})


def inputs(pairs: int = 5, length: int = 8) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(1, START, (pairs, length), generator=generator)
    lengths = torch.randint(3, length + 1, (pairs, 1), generator=generator)
    lengths[0] = length
    tokens[:, 0] = START
    tokens.scatter_(1, lengths - 1, END)
    mask = torch.arange(length) < lengths
    return Image(torch.randn(pairs, 3, 16, 16, generator=generator)), Text(tokens.where(mask, 0), mask)


def closed_answers() -> Text:
    tokens = torch.tensor([[START, 5, END, 0], [START, 6, 7, END], [START, 8, END, 0]])
    return Text(tokens, tokens != 0)


def test_what_a_recorded_case_cannot_show() -> None:
    built = model()
    assert {m.eps for m in built.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    assert not [m for m in built.modules() if isinstance(m, nn.Dropout) and m.p]  # it has none
    assert built.log_scale.exp().item() == pytest.approx(1 / 0.07)
    learner = Learner(built, built.head("classify", 3, closed_answers()))
    recipe = plan("coca", "vqa", suite="paper").recipe
    groups = parameter_groups(learner, recipe)
    rates = {id(p): g["multiple"] for g in groups for p in g["params"]}
    decays = {id(p): g["decay"] for g in groups for p in g["params"]}
    named = dict(learner.named_parameters())
    assert {rates[id(p)] for n, p in named.items() if n.startswith("head.")} == {25.0}  # pooler and classifier
    assert {rates[id(p)] for n, p in named.items() if n.startswith("model.")} == {1.0}
    assert all(
        (decays[id(p)] > 0)
        == (p.dim() > 1)  # as open_clip: tables of positions and queries too, but no token and no temperature
        for p in named.values()
    )
    assert built.part_of("fusion.0.cross.norm.weight") == "fusion"
    assert built.part_of("text.words.weight") == "tower"


def test_the_scale_of_similarities_stays_in_its_bounds_in_training() -> None:
    built, (image, text) = model(), inputs()
    for given, kept in ((9.0, 100.0), (-1.0, 1.0)):
        nn.init.constant_(built.log_scale, given)
        built.train().losses(Batch((), image, text))
        assert built.log_scale.exp().item() == pytest.approx(kept)
    nn.init.constant_(built.log_scale, 9.0)
    built.eval().losses(Batch((), image, text))
    assert built.log_scale.item() == 9.0


@pytest.mark.parametrize("length", [8, 12])  # 12: one text as long as may be, where the class token sees itself
def test_padding_changes_nothing(length: int) -> None:
    built, (image, text) = model().eval(), inputs(length=length)
    more = 12 - length
    for filler in (0, 17):  # whatever id the tokeniser pads with
        tokens = nn.functional.pad(text.tokens.where(text.mask, filler), (0, more), value=filler)
        long = Text(tokens, nn.functional.pad(text.mask, (0, more)))
        for one, other in zip(built.embed(image, text), built.embed(image, long), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
        torch.testing.assert_close(built.encode(image, text).pooled, built.encode(image, long).pooled, **CLOSE)
        losses = [built.losses(Batch((), image, given)) for given in (text, long)]
        torch.testing.assert_close(losses[0], losses[1], **CLOSE)
    with pytest.raises(Misuse, match="12 positions"):
        built.read(Text(torch.ones(1, 13, dtype=torch.long), torch.ones(1, 13, dtype=torch.bool)))


def test_padding_positions_hold_the_row_that_is_named() -> None:
    (image, text), usual, other = inputs(), model().eval(), model(padding_row=7).eval()
    other.load_state_dict(usual.state_dict())
    assert not torch.allclose(usual.embed(image, text)[1], other.embed(image, text)[1], atol=1e-4)
    with torch.no_grad():
        other.text.words.weight[[0, 7]] = other.text.words.weight[[7, 0]]
    swapped = torch.where(text.tokens == 7, 0, text.tokens).where(text.mask, 7)
    assert not (text.tokens[text.mask] == 0).any()
    torch.testing.assert_close(usual.embed(image, text), other.embed(image, text._replace(tokens=swapped)), **CLOSE)


def test_the_losses_weigh_as_recorded(official_folder: Path) -> None:
    inputs_of = read_case(official_folder, "coca", "pretrain").inputs
    assert find(ModelCard, "coca").pretrain["losses"] == {
        "contrastive": pytest.approx(float(inputs_of["clip_loss_weight"])),
        "captioning": pytest.approx(float(inputs_of["caption_loss_weight"])),
    }


def test_a_case_of_another_architecture_is_refused(official_folder: Path) -> None:
    case = read_case(official_folder, "coca", "zeroshot")
    for changed in ({"act": "quick gelu"}, {"text_cfg": {**case.config["text_cfg"], "correct_cls_mask": True}}):
        with pytest.raises(BadData, match="was recorded with"):
            CASES["zeroshot"](case._replace(config={**case.config, **changed}))


def test_positions_that_no_square_image_has_do_not_fit() -> None:
    built = model()
    wanted = built.vision.positions
    for rows, width in ((9, wanted.shape[1]), (10, wanted.shape[1] + 1)):
        assert built.resized("model.vision.positions", torch.zeros(rows, width), wanted) is None


def test_shared_images_and_texts_equal_copies() -> None:
    built, (image, text) = model().eval(), inputs(3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    shared = image._replace(rows=image_rows), text._replace(rows=text_rows)
    copied = Image(image.values[image_rows]), Text(text.tokens[text_rows], text.mask[text_rows])
    for one, other in zip(built.encode(*shared), built.encode(*copied), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    torch.testing.assert_close(built.losses(Batch((), *shared)), built.losses(Batch((), *copied)), **CLOSE)
    head = built.head("classify", 3, closed_answers())
    target = torch.tensor([0, 1, 2, 1, 0])
    losses = [head.losses(built, Batch((), *given, target)) for given in (shared, copied)]
    torch.testing.assert_close(losses[0], losses[1], **CLOSE)
    assert [g.answer for g in built.head("write", 0).answers(built, Batch((), *shared))] == [
        g.answer for g in built.head("write", 0).answers(built, Batch((), *copied))
    ]


def test_both_objectives_are_learned() -> None:
    built, (image, text) = model(), inputs(8)
    learner, batch = Learner(built), Batch((), image, text)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=3e-3)
    first = {name: loss.item() for name, loss in learner(batch).items()}
    assert set(first) == {"contrastive", "captioning"}
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(learner(batch).values())).sum().backward()
        optimiser.step()
    unmoved = [name for name, parameter in learner.named_parameters() if parameter.grad is None]
    assert not unmoved  # every weight serves pre-training
    last = {name: loss.item() for name, loss in learner(batch).items()}
    assert all(last[name] < 0.5 * first[name] for name in first), (first, last)
    assert [g.answer.ids for g in built.eval().head("write", 0).answers(built, batch)] != []


def test_a_question_is_read_alike_with_an_answer_behind_it() -> None:
    built, (image, text) = model().eval(), inputs()
    head, target = built.head("classify", 3, closed_answers()).eval(), torch.eye(3)[[0, 1, 2, 1, 0]]
    target[4] = 0  # nobody's answer is in the list
    batch = Batch((), image, text, target)
    assert isinstance(head, ScoringHead)
    told = head.losses(built, batch)
    torch.testing.assert_close(told["answer"], head.loss(head.scores(built, batch), batch), **CLOSE)
    whole = continued(
        text, Text(closed_answers().tokens[[0, 1, 2, 1, 0], 1:], closed_answers().mask[:, 1:][[0, 1, 2, 1, 0]]), 12
    )
    for row, length in enumerate(text.mask.sum(1).tolist()):
        answer = closed_answers().tokens[[0, 1, 2, 1, 0][row], 1:]
        expected = [*text.tokens[row, :length].tolist(), *answer[answer != 0].tolist()]
        assert whole.tokens[row, whole.mask[row]].tolist() == expected[:12]
    whole.mask[4, text.mask[4].sum() :] = False
    fused = built.fuse(built.read(whole).states, built.look(image).states)
    torch.testing.assert_close(told["captioning"], built.captioning(fused, whole), **CLOSE)
    assert set(built.head("classify", 3).losses(built, batch)) == {"answer"}


def test_answers_of_each_form() -> None:
    built, (image, text) = model().eval(), inputs()
    batch = Batch((), image, text)
    vectors = built.head("match", 0).answers(built, batch)
    images, texts = built.embed(image, text)
    for row, given in enumerate(vectors):
        assert isinstance(given.answer, Vectors)
        assert (given.answer.image == images[row].detach().numpy()).all()
        assert (given.answer.text == texts[row].detach().numpy()).all()
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(5))
    for given in built.head("write", 0).answers(built, batch):
        assert isinstance(given.answer, Tokens)
        assert 3 <= len(given.answer.ids) <= 11  # within the positions there are, both marks counted
        assert not {START, END} & set(given.answer.ids[-1:])
    two = Batch((), image._replace(rows=torch.tensor([0, 1, 2, 3])), text._replace(rows=torch.tensor([0, 0, 1, 1])))
    assert built.head("compare", 2).scores(built, two._replace(fold=(2, 1))).shape == (2, 2)
    assert built.head("choose", 4).scores(built, two._replace(fold=(1, 2))).shape == (2, 2)
    with pytest.raises(Misuse, match="point"):
        built.head("point", 0)


def test_an_official_file_at_another_image_size(tmp_path: Path) -> None:
    """The authors' training checkpoints nest the weights and name them as their parallel wrapper does."""
    place = Path(__file__).parents[1] / "official" / "parity" / "coca" / "zeroshot" / "weights.safetensors"
    weights = load_file(place)
    torch.save(
        {"epoch": 3, "name": "x", "state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "a.pt"
    )
    width, vocabulary = weights["text_decoder.text_projection"].shape
    built = CoCa(
        vocabulary=vocabulary, image_size=24, patch=8, image_width=40, image_heads=5, image_layers=2, queries=7,
        pooler_heads=4, width=width, heads=3, fusion_heads=6, text_layers=2, fusion_layers=3, positions=15,
    )  # fmt: skip
    learner = Learner(built, built.head("classify", 3))
    found = load(learner, tmp_path / "a.pt", read_table("coca"))
    assert {name.split(".")[0] for name in found.new} == {"head"}
    assert not found.not_needed
    theirs = open_clip_model(vocabulary=vocabulary, image_size=24)
    state = {name: tensor.clone() for name, tensor in weights.items()}
    from open_clip.model import resize_pos_embed

    resize_pos_embed(state, theirs)
    torch.testing.assert_close(built.vision.positions.detach(), state["visual.positional_embedding"])


def open_clip_model(
    vocabulary: int = 40,
    image_size: int = 16,
    *,
    image_width: int = 40,
    patch: int = 8,
    width: int = 48,
    heads: int = 3,
    layers: tuple[int, int, int] = (2, 2, 3),
    length: int = 14,
) -> nn.Module:
    from open_clip.coca_model import CoCa as Theirs

    words = {"context_length": length, "vocab_size": vocabulary, "width": width}
    return Theirs(
        embed_dim=width,
        vision_cfg={
            "image_size": image_size, "layers": layers[0], "width": image_width, "head_width": 8, "patch_size": patch,
            "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 7, "output_tokens": True,
        },
        text_cfg={**words, "heads": heads, "layers": layers[1], "embed_cls": True, "output_tokens": True},
        multimodal_cfg={**words, "heads": 6, "layers": layers[2], "attn_pooler_heads": 4},
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_open_clip_at_fresh_sizes(seed: int) -> None:
    """Of open_clip 3.3, whose forward pass leaves out the last word's logits."""
    generator = torch.Generator().manual_seed(seed)

    def any_of(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    heads, patch, length = any_of(1, 4), any_of(3, 9), any_of(6, 20)
    vocabulary, width = any_of(20, 90), 12 * heads
    image_width = width if seed == 2 and width % 8 == 0 else 8 * any_of(2, 6)  # of one width: one matrix in theirs
    sizes = {"image_width": image_width, "patch": patch, "width": width, "heads": heads, "length": length}
    layers = (any_of(1, 4), any_of(1, 4), any_of(1, 4))
    torch.manual_seed(seed)
    theirs = open_clip_model(vocabulary, patch * any_of(2, 5), layers=layers, **sizes).eval()
    nn.init.normal_(theirs.text_decoder.text_projection)  # which they leave as memory was
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias") or ".ln_" in name:
            nn.init.normal_(parameter, std=0.5)
    ours = CoCa(
        vocabulary=vocabulary, image_size=theirs.visual.image_size[0], patch=patch, image_width=image_width,
        image_heads=image_width // 8, image_layers=layers[0], queries=7, pooler_heads=4, width=width, heads=heads,
        fusion_heads=6, text_layers=layers[1], fusion_layers=layers[2], positions=length + 1,
    ).eval()  # fmt: skip
    learner = Learner(ours)
    found = sort_keys(theirs.state_dict(), learner.state_dict(), read_table("coca"))
    assert not found.fatal + found.not_needed + found.new
    learner.load_state_dict(found.used)
    pixels = torch.randn(4, 3, *theirs.visual.image_size, generator=generator)
    mask = torch.arange(length) < torch.tensor([length, 2, length - 1, length // 2])[:, None]
    tokens = torch.randint(1, vocabulary, (4, length), generator=generator).where(mask, 0)
    with torch.no_grad():
        wanted = theirs(pixels, tokens)
        image, text = Image(pixels), Text(tokens, mask)
        vectors, logits = ours.embed(image, text), ours.word_logits(ours.encode(image, text).text)
        short = ours.embed(image, Text(tokens[1:2, :3], mask[1:2, :3]))  # not padded as far as theirs
    close = {"atol": 2e-5, "rtol": 2e-5}
    torch.testing.assert_close(vectors[0], wanted["image_features"], **close)
    torch.testing.assert_close(vectors[1], wanted["text_features"], **close)
    torch.testing.assert_close(short[1], wanted["text_features"][1:2], **close)
    torch.testing.assert_close(logits[:, :-1][mask[:, :-1]], wanted["logits"][mask[:, :-1]], **close)


def test_weights_are_drawn_as_open_clip_draws_them() -> None:
    torch.manual_seed(0)
    theirs = open_clip_model(2000, 64, image_width=256, width=528, heads=6, layers=(1, 1, 1))
    ours = CoCa(
        vocabulary=2000, image_size=64, patch=8, image_width=256, image_heads=8, image_layers=1, queries=7,
        pooler_heads=4, width=528, heads=6, fusion_heads=6, text_layers=1, fusion_layers=1, positions=15,
    )  # fmt: skip
    drawn = {f"model.{name}": parameter for name, parameter in ours.named_parameters()}
    for key, parameter in theirs.named_parameters():
        translated = read_table("coca").translate(key)
        assert translated is not None
        if key == "text_decoder.text_projection" or parameter.numel() < 100:
            continue
        for name, part in zip(translated[0], parameter.chunk(len(translated[0])), strict=True):
            assert drawn[name].mean().item() == pytest.approx(part.mean().item(), abs=0.2 * part.std().item() + 1e-6), (
                key
            )
            assert drawn[name].std().item() == pytest.approx(part.std().item(), rel=0.2, abs=1e-6), key
            peak = part.abs().max().item() / (part.std().item() or 1)
            if peak < 2:  # an even distribution, not a normal one
                assert drawn[name].abs().max().item() == pytest.approx(part.abs().max().item(), rel=0.1, abs=1e-6), key
    narrow = model(width=24)
    assert narrow.text.words.weight.std().item() == pytest.approx(0.02 * (512 / 24) ** 0.5, rel=0.1)
