"""BEiT-3: what recorded cases cannot show, what must not matter, and the authors' files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.checkpoint import load, read_table
from vlbench.engine.optimise import parameter_groups
from vlbench.learner import Learner
from vlbench.models.beit3 import BEiT3
from vlbench.nn.mask_decode import MaskedCaptionHead
from vlbench.nn.masking import IGNORED, mask_blocks, mask_share
from vlbench.nn.multiway import MultiwayLayer
from vlbench.nn.objectives import mean_of_best, smoothed_divergences
from vlbench.nn.reader_heads import ContrastiveHead
from vlbench.recipe import Recipe
from vlbench.types import BadData, Batch, Form, Image, Misuse, Text, Tokens

START, PADDING, END = 0, 1, 2
PARITY = Path(__file__).parents[1] / "official" / "parity" / "beit3"


def model(**changed: object) -> BEiT3:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch": 4, "width": 24, "heads": 3, "inner": 40, "layers": 3, "positions": 14}
    return BEiT3(**{"vocabulary": 50, "text_length": 9, "codes": 20, **sizes, **changed})


def inputs(pairs: int = 4, length: int = 8) -> tuple[Image, Text]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 49, (pairs, length), generator=generator)
    lengths = torch.randint(4, length + 1, (pairs, 1), generator=generator)
    tokens[:, 0] = START
    tokens = tokens.scatter(1, lengths - 1, END)
    mask = torch.arange(length) < lengths
    return Image(torch.randn(pairs, 3, 16, 16, generator=generator)), Text(tokens.where(mask, PADDING), mask)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("width", [24, 768, 1024])
def test_weights_are_drawn_as_the_authors_do(width: int) -> None:
    built = model(width=width, heads=2, inner=64, layers=1, vocabulary=400, positions=100)
    spread = 0.02 * max(1.0, 768 / width) ** 0.5
    linear = torch.cat([m.weight.detach().flatten() for m in built.layers.modules() if isinstance(m, nn.Linear)])
    assert linear.abs().max() <= spread  # cut at one deviation, which leaves 0.54 of it
    assert float(linear.std()) == pytest.approx(0.5396 * spread, rel=0.02)
    assert all((m.bias == 0).all() for m in built.modules() if isinstance(m, nn.Linear))
    assert float(built.words.weight.detach().std()) == pytest.approx(width**-0.5, rel=0.05)
    for table in (built.image_positions, built.text_positions):
        assert float(table.detach().std()) == pytest.approx(1.0, rel=0.1)
    assert not built.first_token.any()
    assert not built.mask_patch.any()
    assert {m.eps for m in built.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    small = [m.weight for m in built.head("compare", 2).modules() if isinstance(m, nn.Linear)]
    assert all(weight.abs().max() <= 0.001 * spread for weight in small)
    head = built.head("match", 1)
    assert isinstance(head, ContrastiveHead)
    assert head.log_scale.exp().item() == pytest.approx(1 / 0.07)


def test_stochastic_depth_rises_and_leaves_out_image_and_text_together() -> None:
    rates = [layer.drop_path.rate for layer in model(drop_path=0.2, form="write").layers]
    assert rates == pytest.approx([0, 0.1, 0.2])
    assert not [m for m in model().modules() if isinstance(m, nn.Dropout)]
    layer = MultiwayLayer(8, 2, drop_path=0.5)
    image, text = torch.randn(200, 3, 8), torch.randn(200, 2, 8)
    read = layer(image, text)
    kept = [(made - given).abs().sum((1, 2)) > 0 for made, given in ((read.image, image), (read.text, text))]
    assert (kept[0] == kept[1]).all()
    assert 0.1 < float((~kept[0]).float().mean()) < 0.4  # both parts left out: a quarter of the pairs


@pytest.mark.parametrize(("form", "multiple"), [("classify", 1.0), ("match", 0.65)])
def test_rates_and_decay(form: Form, multiple: float) -> None:
    built = model(form=form)
    learner = Learner(built, built.head(form, 5))
    recipe = Recipe(model="beit3", task="vqa", decay=0.2, layer_decay=multiple, head_rate=20.0)
    groups = parameter_groups(learner, recipe)
    found = {id(p): group for group in groups for p in group["params"]}  # type: ignore[attr-defined]
    rate = {name: found[id(p)]["multiple"] for name, p in learner.named_parameters()}
    decay = {name for name, p in learner.named_parameters() if found[id(p)]["decay"]}
    for name in ("words.weight", "patches.projection.weight", "first_token", "image_positions", "text_positions"):
        assert rate[f"model.{name}"] == pytest.approx(multiple**4), name  # before the first of three layers
    assert rate["model.layers.0.image.query.weight"] == pytest.approx(multiple**3)
    assert rate["model.layers.2.text.feed_forward.1.bias"] == pytest.approx(multiple)
    assert {"model.words.weight", "model.text_positions", "model.patches.projection.weight"} <= decay
    assert (
        not {"model.image_positions", "model.first_token", "head.log_scale", "model.layers.1.text.norm.weight"} & decay
    )
    if form == "classify":
        assert (rate["head.pooler.1.weight"], rate["head.classifier.0.weight"]) == (1.0, 20.0)
    else:
        assert rate["model.text_norm.weight"] == 1.0


def test_padding_changes_nothing_and_pairs_do_not_see_each_other() -> None:
    built = model().eval()
    image, text = inputs()
    states = built.encode(image, text)
    long = Text(functional.pad(text.tokens, (0, 4), value=7), functional.pad(text.mask, (0, 4)))
    padded = built.encode(image, long)
    close(states.image, padded.image)
    close(states.text[text.mask], padded.text[long.mask])
    close(built.read_text(text)[:, 0], built.read_text(long)[:, 0])
    alone = built.encode(Image(image.values[2:3]), Text(text.tokens[2:3], text.mask[2:3]))
    close(states.pooled[2:3], alone.pooled)
    with pytest.raises(Misuse, match="13 word pieces, but this size has 12"):
        built.embed(Text(torch.zeros(1, 13, dtype=torch.long), torch.ones(1, 13, dtype=torch.bool)))


def test_shared_images_and_texts_equal_copies() -> None:
    image, text = inputs(3)
    image_rows, text_rows = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0])
    shared = Batch((), image._replace(rows=image_rows), text._replace(rows=text_rows))
    copied = Batch((), Image(image.values[image_rows]), Text(text.tokens[text_rows], text.mask[text_rows]))
    for form, what in (("choose", "scores"), ("classify", "scores"), ("match", "embeddings")):
        built = model(form=form)
        head = built.head(form, 3)
        one, other = (getattr(head, what)(built, batch) for batch in (shared, copied))
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)
    built = model(form="write")
    asked = copied.text.mask
    close(*(built.masked_logits(batch.image, copied.text, asked) for batch in (shared, copied)))


@torch.no_grad()
def test_a_caption_is_written_for_each_image_and_scored_by_what_is_left_of_each_word() -> None:
    built = model(form="write").eval()
    head = built.head("write", 0)
    assert isinstance(head, MaskedCaptionHead)
    assert built.word_output is not None
    nn.init.normal_(built.word_output.weight, std=0.5)
    with torch.no_grad():
        built.word_output.bias[END] = 3.0
        built.word_output.bias[built.mask_token] = -5.0  # masks could be written, but would not be read again
    image, text = inputs(6)
    for beams in (1, 3):
        ended = 0
        for row, one in enumerate(built.write(image, beams=beams)):
            ids = [*one.words, END]
            total = 0.0
            for place, word in enumerate(ids):  # every step from the beginning, with nothing remembered
                tokens = torch.tensor([[START, *ids[:place], built.mask_token]])
                last = torch.arange(tokens.shape[1]) == tokens.shape[1] - 1
                seen = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
                logits = built.masked_logits(Image(image.values[row : row + 1]), seen, last[None])
                total += float(logits.log_softmax(-1)[0, word])
            if len(ids) < built.text_length - 2:  # else the word drawn last is lost
                assert one.score == pytest.approx(total / (len(ids) + 1) ** 0.6, rel=1e-4)
                ended += 1
        assert ended
    rows = torch.tensor([5, 0, 5])
    answers = head.answers(built, Batch((), image._replace(rows=rows), text))
    assert [one.answer for one in answers] == [Tokens(built.write(image)[row].words) for row in rows.tolist()]


def test_masked_data_modelling_is_learned_with_and_without_codes() -> None:
    image, text = inputs(8)
    codes = torch.randint(20, (8, 16))
    for given, names in (
        (image, {"text_words", "pair_words"}),
        (image._replace(codes=codes), {"text_words", "pair_words", "pair_codes", "image_codes"}),
    ):
        learner = Learner(model(pretraining=True))
        optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-2)
        losses: list[dict[str, float]] = []
        for _ in range(25):
            torch.manual_seed(1)  # the same words and patches hidden each time
            made = learner(Batch((), given, text))
            losses.append({name: loss.item() for name, loss in made.items()})
            optimiser.zero_grad()
            torch.stack(list(made.values())).sum().backward()
            optimiser.step()
        assert set(losses[0]) == names
        assert all(losses[-1][name] < 0.7 * losses[0][name] for name in names), (losses[0], losses[-1])


@pytest.mark.parametrize("side", [2, 4, 14, 30])
def test_exactly_the_share_of_patches_is_hidden_in_blocks(side: int) -> None:
    hidden = mask_blocks(300, side, share=0.4, generator=torch.Generator().manual_seed(0))
    assert (hidden.sum(1) == round(0.4 * side * side)).all()
    again = mask_blocks(300, side, share=0.4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hidden, again)
    assert float(hidden.float().mean(0).min()) > 0  # no place is spared
    if side >= 14:
        grid = hidden.view(-1, side, side)
        beside = (grid[:, :, 1:] & grid[:, :, :-1]).float().mean()
        assert beside > 0.3  # 0.16 where patches were drawn one by one


def test_a_share_of_each_caption_is_hidden() -> None:
    text = Text(
        torch.randint(4, 39, (3000, 12)), (torch.arange(12) < torch.tensor([12, 7, 2])[:, None]).repeat(1000, 1)
    )
    hidden = mask_share(text, vocabulary=40, mask=39, share=0.7, generator=torch.Generator().manual_seed(0))
    chosen = hidden.labels != IGNORED
    assert chosen.view(1000, 3, 12).sum(2).unique(dim=0).tolist() == [[8, 5, 1]]  # int(0.7 n + 0.5), n - 1 at most
    assert not chosen[:, 0].any()
    assert not (chosen & ~text.mask).any()
    assert torch.equal(hidden.labels[chosen], text.tokens[chosen])
    same, masked = hidden.text.tokens[chosen] == text.tokens[chosen], hidden.text.tokens[chosen] == 39
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float(same.float().mean()) == pytest.approx(0.1, abs=0.02)


def test_the_loss_of_a_hidden_word_is_a_divergence_and_the_worst_are_left_out() -> None:
    logits, words = torch.randn(10, 7), torch.randint(7, (10,))
    wanted = torch.full((10, 7), 0.1 / 6).scatter(1, words[:, None], 0.9)
    each = functional.kl_div(logits.log_softmax(1), wanted, reduction="none").sum(1)
    close(smoothed_divergences(logits, words, smoothing=0.1), each)
    close(smoothed_divergences(logits, words, smoothing=0), functional.cross_entropy(logits, words, reduction="none"))
    close(mean_of_best(each, 0.8), each.sort().values[:8].mean())
    assert mean_of_best(each[:0], 0.8) == 0
    built = model(form="write")
    head, batch = built.head("write", 0), Batch((), *inputs())
    made = []
    for built.epoch in (0.0, 9.0):
        torch.manual_seed(0)
        made.append(float(head.losses(built, batch)["caption"]))
    assert made[1] < made[0]


def test_a_hidden_word_becomes_any_piece_but_no_row_that_none_has() -> None:
    built = model(vocabulary=50, word_rows=500, mask_token=4, form="write")  # special pieces first, as where learned
    assert built.words.weight.shape == (500, 24)
    assert built.word_output is not None
    assert built.word_output.weight.shape == (500, 24)
    seen: list[Text] = []
    built.masked_logits = lambda image, text, asked: seen.append(text) or torch.randn(int(asked.sum()), 500)
    head = built.head("write", 0)
    text = inputs(2000)[1]
    head.losses(built, Batch((), Image(torch.zeros(2000, 3, 16, 16)), text))
    changed = seen[0].tokens[(seen[0].tokens != text.tokens) & (seen[0].tokens != 4)]
    assert changed.unique().tolist() == [3, *range(5, 50)]


def test_the_share_of_hidden_words_is_rounded_as_python_rounds() -> None:
    for share in (0.7, 0.6, 0.1, 0.9):
        lengths = torch.arange(2, 130)
        text = Text(torch.full((128, 130), 9), torch.arange(130) < lengths[:, None])
        hidden = mask_share(text, vocabulary=40, mask=39, share=share).labels != IGNORED
        assert hidden.sum(1).tolist() == [max(1, min(int(n * share + 0.5), n - 1)) for n in lengths.tolist()]


def test_the_caption_head_smooths_and_leaves_out_what_it_is_told() -> None:
    logits, words = torch.randn(10, 7), torch.randint(7, (10,))
    head = MaskedCaptionHead(smoothing=0.3, left_out=0.5)
    each = smoothed_divergences(logits, words, smoothing=0.3)
    close(head.loss(logits, words), each.mean())
    close(head.loss(logits, words, worst=False), each.sort().values[:5].mean())


def authors_file(path: Path, case: str, nest: str, **more: Tensor) -> dict[str, Tensor]:
    """Write a recorded case's weights as the authors write theirs."""
    weights = {**load_file(PARITY / case / "weights.safetensors"), **more}
    torch.save({nest: weights, "epoch": 3, "optimizer": {"state": {}}}, path)
    return weights


def recorded(form: Form | None, answers: int = 13, image_size: int = 40, *, pretraining: bool = False) -> Learner:
    sizes = {"image_size": image_size, "patch": 8, "width": 48, "heads": 4, "inner": 112, "layers": 4, "positions": 21}
    built = model(vocabulary=120, form=form, pretraining=pretraining, **sizes)
    return Learner(built, built.head(form, answers) if form else None)


def test_a_pre_trained_file_begins_every_task_at_another_image_size(tmp_path: Path) -> None:
    path = tmp_path / "beit3_base_patch16_224.pth"
    mim = {"mim_head.weight": torch.zeros(20, 48), "mim_head.bias": torch.zeros(20)}
    weights = authors_file(path, "captioning", "model", **mim)
    unused = {"mlm_head.weight", "mlm_head.bias", *mim}
    for form, also in (("classify", 4), ("compare", 0), ("match", 0), ("choose", 0), ("write", -2)):
        learner = recorded(form, image_size=56)
        found = load(learner, path, read_table("beit3"))
        assert len(found.not_needed) == len(unused) + also, form  # a classifier has no last norm; captions need words
        assert all(name.startswith("head.") for name in found.new)
        assert len(found.used) == len(weights) - len(found.not_needed)
        table, stored = learner.model.image_positions.detach(), weights["beit3.encoder.embed_positions.A.weight"]
        close(table[:3], stored[:3])
        grid = stored[3:].T.view(1, 48, 5, 5)
        wider = functional.interpolate(grid, size=(7, 7), mode="bicubic", align_corners=False)
        close(table[3:], wider.flatten(2)[0].T)
    assert recorded("write").model.resized("model.image_positions", torch.zeros(27, 48), table) is None


def test_fine_tuned_files_fit_their_own_task_only(tmp_path: Path) -> None:
    path = tmp_path / "vqa.pth"
    authors_file(path, "vqa", "module")
    found = load(recorded("classify"), path, read_table("beit3"))
    assert not found.new
    assert not found.not_needed
    with pytest.raises(BadData, match=r"missing: model\.image_norm\.weight"):
        load(recorded("compare", 2), path, read_table("beit3"))
    authors_file(path, "retrieval", "model")
    assert not load(recorded("match"), path, read_table("beit3")).new
    found = load(recorded("compare", 2), path, read_table("beit3"))  # as the authors begin retrieval from contrast
    assert set(found.not_needed) == {"language_head.weight", "vision_head.weight", "logit_scale"}


def without(path: Path, *names: str) -> Path:
    """Write a recorded pre-trained file as one that lacks some of its weights."""
    weights = load_file(PARITY / "captioning" / "weights.safetensors")
    torch.save({"model": {name: tensor for name, tensor in weights.items() if not name.startswith(names)}}, path)
    return path


def test_outputs_that_a_file_lacks_begin_anew_but_no_norm(tmp_path: Path) -> None:
    table, outputs = read_table("beit3"), {f"model.word_output.{part}" for part in ("weight", "bias")}
    contrastive = without(tmp_path / "itc.pth", "mlm_head")
    assert set(load(recorded("write"), contrastive, table).new) == outputs
    continued = recorded("classify", pretraining=True)
    assert continued.model.image_norm is not None  # its losses read normed states, whatever is asked later
    plain = without(tmp_path / "plain.pth")
    found = load(Learner(continued.model), plain, table)
    assert {name.rpartition(".")[0] for name in found.new} == {"model.code_output"}
    with pytest.raises(BadData, match=r"missing: model\.word_output"):
        load(Learner(continued.model), contrastive, table)
    with pytest.raises(BadData, match=r"missing: model\.image_norm"):
        load(recorded("write"), without(tmp_path / "answers.pth", "beit3.encoder.layer_norm"), table)
    assert recorded(None).model.may_be_new("momentum.words.weight")


def test_the_card_begins_each_task_where_the_authors_do() -> None:
    card = find(ModelCard, "beit3")
    for size in ("base", "large"):
        files = {one.name: one for one in card.checkpoint if one.size == size}
        assert {name for name, one in files.items() if one.begins} == {"contrastive"}
        assert files["contrastive"].task == "retrieval"
        assert next(name for name, one in files.items() if not one.task) == "published"
        assert all(one.file.rpartition("/")[2] == one.url.rpartition("/")[2] for one in files.values())
        assert all(f"beit3_{size}_" in one.file for one in files.values())
    names = [{one.name for one in card.checkpoint if one.size == size} for size in ("base", "large")]
    assert names[0] == names[1]
    assert {task: card.finetune[task]["beta2"] for task in ("vqa", "nlvr2", "retrieval", "captioning")} == {
        "vqa": 0.98, "nlvr2": 0.999, "retrieval": 0.999, "captioning": 0.999
    }  # fmt: skip
