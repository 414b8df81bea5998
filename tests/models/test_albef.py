"""ALBEF: what recorded cases cannot show, what must not matter, and the files that the authors publish."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlbench.cards import ModelCard
from vlbench.catalog import find
from vlbench.engine.checkpoint import load, read_table
from vlbench.learner import Learner
from vlbench.models.albef import ALBEF
from vlbench.nn.attention import Attention
from vlbench.nn.contrast import Negatives
from vlbench.nn.distilled import DistilledAnswers, DistilledLabels
from vlbench.nn.masking import two_images
from vlbench.nn.positions import resize_positions
from vlbench.proof import albef as proof
from vlbench.types import BadData, Batch, Image, Misuse, Text

SIZES = {
    "vocabulary": 40, "image_size": 32, "width": 24, "heads": 3, "inner": 40, "layers": 3, "fusion_from": 1,
    "decoder_layers": 2, "patch": 8, "vision_width": 20, "vision_heads": 2, "vision_layers": 2, "embed": 12,
    "queue": 10, "positions": 16, "mask_token": 3, "special_tokens": (0, 1, 2),
}  # fmt: skip
OFFICIAL = Path(__file__).parents[1] / "official" / "parity" / "albef"


def model(**changed: object) -> ALBEF:
    torch.manual_seed(0)
    return ALBEF(**{**SIZES, "dropout": 0.0, **changed})


def inputs(pairs: int = 6) -> tuple[Image, Text]:
    """Texts from [CLS] 1 to [SEP] 2, padded with 0."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(4, 40, (pairs, 8), generator=generator)
    length = torch.randint(3, 8, (pairs, 1), generator=generator)
    place = torch.arange(8)
    tokens = tokens.masked_fill(place == 0, 1).masked_fill(place == length, 2).masked_fill(place > length, 0)
    return Image(torch.randn(pairs, 3, 32, 32, generator=generator)), Text(tokens, place <= length)


def answers(count: int = 5) -> Text:
    tokens = torch.tensor([[1, 10 + number // 2, 20 + number, 2] for number in range(count)])
    return Text(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_what_a_recorded_case_cannot_show() -> None:
    built = model(dropout=0.1, pretraining=True)
    fast = built.encoders
    assert {m.eps for m in fast.image.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert {m.eps for m in (*fast.text.modules(), *fast.words.modules()) if isinstance(m, nn.LayerNorm)} == {1e-12}
    for part, width in ((fast.text, 24), (fast.words, 24), (fast.image, 20)):
        linear = torch.cat([m.weight.flatten() for m in part.modules() if isinstance(m, nn.Linear)]).detach()
        assert float(linear.std()) == pytest.approx(0.02 * (768 / width) ** 0.5, rel=0.05)
    assert float(fast.image.positions.detach().std()) == pytest.approx(0.02 * (768 / 20) ** 0.5, rel=0.2)
    assert {m.eps for m in model(vision_epsilon=1e-5).encoders.image.modules() if hasattr(m, "eps")} == {1e-5}
    # dropout in the text layers only: an embedding, and in each layer after attention, fusion and feed-forward
    assert sum(m.p == 0.1 for m in fast.text.modules() if isinstance(m, nn.Dropout)) == 1 + 2 + 3 + 3
    assert {m.dropout for m in fast.text.modules() if isinstance(m, Attention)} == {0.1}
    assert {m.p for m in fast.image.modules() if isinstance(m, nn.Dropout)} == {0.0}
    assert built.temperature.item() == pytest.approx(0.07)
    assert (built.keep, built.alpha, model(queue=65536, form="match").queue.size) == (0.995, 0.4, 65536)


def test_decay_follows_the_authors() -> None:
    built = model(pretraining=True)
    kept = {name for name, parameter in built.named_parameters() if not built.decays(name, parameter)}
    assert all(dict(built.named_parameters())[name].dim() == 1 for name in kept)
    for name in ("encoders.image.first_token", "encoders.image.positions", "temperature"):
        assert name not in kept
    assert not any(p.requires_grad for p in built.momentum.parameters())


def test_twins_exist_where_they_teach() -> None:
    assert model(form="classify").momentum is not None
    assert model(form="compare").momentum is not None
    assert model(form="choose").momentum is None
    assert model(form="classify", distill=False).momentum is None
    assert model(form="match", distill=False).momentum is not None  # its features are contrasted with
    built = model(form="classify")
    built.epoch = 0.25
    assert (built.share(), built.share(ramp=False)) == (pytest.approx(0.1), pytest.approx(0.4))
    built.epoch = 7.0
    assert built.share() == pytest.approx(0.4)
    assert not built.head("classify", 3).ramp
    assert built.head("compare", 2).ramp


def test_padding_and_end_marks_change_nothing() -> None:
    built = model().eval()
    image, text = inputs()
    long = Text(nn.functional.pad(text.tokens, (0, 5)), nn.functional.pad(text.mask, (0, 5)))
    bare = text._replace(tokens=text.tokens.masked_fill(text.tokens == 2, 0), mask=text.mask & (text.tokens != 2))
    for other in (long, bare):
        torch.testing.assert_close(
            built.encode(image, text).pooled, built.encode(image, other).pooled, atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("form", ["classify", "compare"])
def test_shared_images_and_texts_equal_copies(form: str) -> None:
    built = model(form=form).eval()
    image, text = inputs(3)
    shown, told = torch.tensor([0, 2, 1, 2, 0, 1]), torch.tensor([0, 0, 1, 1, 0, 0])
    shared = built.encode(image._replace(rows=shown), text._replace(rows=told))
    copied = built.encode(Image(image.values[shown]), Text(text.tokens[told], text.mask[told]))
    assert len(shared.pooled) == (3 if form == "compare" else 6)
    torch.testing.assert_close(shared.text, copied.text, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(shared.image, copied.image, atol=1e-6, rtol=1e-5)


def fall(learner: Learner, batch: Batch) -> tuple[dict[str, float], dict[str, float]]:
    """Losses before and after some steps, with the same draws and from the same queue."""
    optimiser = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=3e-3)
    queue = [b.clone() for b in learner.buffers()]

    def drawn() -> dict[str, Tensor]:
        torch.manual_seed(1)
        for buffer, before in zip(learner.buffers(), queue, strict=True):
            buffer.copy_(before)
        return learner(batch)

    first = {name: loss.item() for name, loss in drawn().items()}
    for _ in range(40):
        optimiser.zero_grad()
        torch.stack(list(drawn().values())).sum().backward()
        optimiser.step()
    return first, {name: loss.item() for name, loss in drawn().items()}


def test_all_objectives_are_learned() -> None:
    image, text = inputs(8)
    image = Image(image.values[:6], rows=torch.tensor([0, 1, 2, 3, 4, 5, 0, 1]))
    batch = Batch(tuple("abcdefgh"), image, text)
    for form, names in ((None, {"contrastive", "matching", "masked_lm"}), ("compare", {"text_assignment"})):
        learner = Learner(model(pretraining=True, form=form, keep=0.9))
        learner.begin(0.5)
        first, last = fall(learner, batch)
        assert set(first) == names
        assert all(last[name] < 0.9 * first[name] for name in names), (first, last)


def test_retrieval_knows_images_across_batches() -> None:
    image, text = inputs()
    learner = Learner(built := model(form="match", queue=8), built.head("match", 0))
    built.begin_anew([], {})
    learner(Batch(tuple("abcdef"), image._replace(ids=torch.tensor([7, 8, 9, 10, 11, 12])), text))
    assert built.queue.ids[0].tolist() == [7, 8, 9, 10, 11, 12, -100, -100]
    found = built.contrast(image._replace(ids=torch.tensor([7, 7, 9, 3, 4, 5])), text, alpha=0.0)[2]
    assert found.same.sum() == 6 + 2
    assert built.queue.ids[0].tolist() == [9, 3, 4, 5, 11, 12, 7, 7]  # round the end
    for _ in range(20):
        drawn = found.negatives()
        assert not found.same[torch.arange(6), drawn.images].any()
        assert not found.same[torch.arange(6), drawn.texts].any()


def test_a_wrong_pair_is_fused_with_the_image_it_names() -> None:
    built = model(form="match").eval()
    image, text = inputs(3)
    text = built.encoders.unended(text)
    alone = built.encoders.alone(image, text)
    images, texts = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])
    mixed = built.fuse_mixed(alone, text.mask, None, Negatives(images, texts))
    one = built.encoders(Image(image.values[images]), text).text
    other = built.encoders(image, Text(text.tokens[texts], text.mask[texts])).text
    torch.testing.assert_close(mixed[3:], torch.cat([one, other]), atol=1e-6, rtol=1e-5)


def test_text_assignment_draws_as_the_paper_says() -> None:
    torch.manual_seed(0)
    likeness = (torch.ones(3000, 3000) - torch.eye(3000)).softmax(1).masked_fill(torch.eye(3000, dtype=torch.bool), 0)
    drawn, own = two_images(likeness), torch.arange(3000)
    shares = [float((drawn.labels == label).float().mean()) for label in range(3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)
    assert (drawn.first[drawn.labels == 0] == own[drawn.labels == 0]).all()
    assert (drawn.second[drawn.labels == 1] == own[drawn.labels == 1]).all()
    assert not ((drawn.first == own) | (drawn.second == own))[drawn.labels == 2].any()


def test_answers_are_learned_by_their_shares_and_ranked() -> None:
    image, text = inputs()
    shares = torch.zeros(6, 5)
    shares[:, 1], shares[0, 3], shares[5] = 0.7, 0.3, 0.0  # the last question's answers are none of the list
    built = model(form="classify")
    learner = Learner(built, head := built.head("classify", 5, answers()))
    batch = Batch(tuple("abcdef"), image, text, shares)
    learner.begin(1.0)
    first, last = fall(learner, batch)
    assert last["answer"] < 0.7 * first["answer"]
    assert [given.answer for given in learner.eval().answers(batch)] == [1] * 6
    with torch.no_grad():
        scores = head.scores(built, batch)
        head.candidates = 2
        assert (head.scores(built, batch).isfinite().sum(1) == 2).all()
    torch.testing.assert_close(scores.softmax(-1).sum(1), torch.ones(6))
    assert Learner(built, head)(batch._replace(target=torch.zeros(6, 5)))["answer"] == 0


def test_answers_are_ranked_alike_in_one_pass_or_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlbench.nn import answering

    image, text = inputs()
    built = model(form="classify").eval()
    head = built.head("classify", 5, answers()).eval()
    head.candidates = 4
    batch = Batch(tuple("abcdef"), image, text)
    with torch.no_grad():
        whole = head.scores(built, batch)
        monkeypatch.setattr(answering, "AT_ONCE", 3)  # parts end within a question
        torch.testing.assert_close(head.scores(built, batch), whole)


def test_labels_may_be_shares() -> None:
    built = model(form="classify")
    head = built.head("classify", 3)
    image, text = inputs(3)
    labels = torch.tensor([0, 2, 1])
    head.momentum = None  # the twin's step would change what it teaches
    batch = Batch(tuple("abc"), image, text, labels)
    one_hot = batch._replace(target=nn.functional.one_hot(labels).float())
    torch.testing.assert_close(head.losses(built, batch), head.losses(built, one_hot))


def test_what_it_cannot_do_is_refused() -> None:
    for form in ("point", "write"):
        with pytest.raises(Misuse, match=form):
            model().head(form, 2)


def official(case: str, folder: Path, **more: Tensor) -> tuple[dict[str, Tensor], Path]:
    """Write a case's weights as the authors write theirs: named tensors under "model", beside other things."""
    weights = {**load_file(OFFICIAL / case / "weights.safetensors"), **more}
    torch.save({"model": weights, "epoch": 3, "config": {"alpha": 0.4}}, folder / f"{case}.pth")
    return weights, folder / f"{case}.pth"


def fitting(case: str, **changed: object) -> ALBEF:
    """Build a model of a case's sizes for another purpose."""
    config = json.loads((OFFICIAL / case / "case.json").read_text(encoding="utf-8"))["config"]
    built = proof._model({**config, "image_res": changed.pop("image_res", config["image_res"])}, **changed)
    return built.eval()


def test_a_pretrained_file_begins_question_answering_at_another_image_size(tmp_path: Path) -> None:
    weights, path = official("pretrain", tmp_path)
    built = fitting("pretrain", form="classify", image_res=48)
    learner = Learner(built, head := built.head("classify", 5, answers()))
    found = load(learner, path, read_table("albef"))
    assert not found.fatal
    assert all(name.startswith("head.") for name in found.new)
    assert {"itm_head.weight", "image_queue", "vision_proj_m.bias"} <= set(found.not_needed)
    wanted = resize_positions(weights["visual_encoder.pos_embed"][0], 37)
    torch.testing.assert_close(built.encoders.image.positions.detach(), wanted)
    slow = resize_positions(weights["visual_encoder_m.pos_embed"][0], 37)
    torch.testing.assert_close(built.slow.image.positions, slow)
    assert isinstance(head, DistilledAnswers)
    # the decoder is what the fusion was, its output of words that of pre-training, and so are their twins
    for prefix, decoder, encoders in (("", head.decoder, built.encoders), ("_m", head.slow_decoder, built.slow)):
        name = f"text_encoder{prefix}.bert.encoder.layer.1.intermediate.dense.weight"
        torch.testing.assert_close(decoder.layers[0].feed_forward.part.expand.weight.detach(), weights[name])
        embedding = weights[f"text_encoder{prefix}.bert.embeddings.word_embeddings.weight"]
        torch.testing.assert_close(decoder.embedding.words.weight.detach(), embedding)
        bias = weights[f"text_encoder{prefix}.cls.predictions.bias"]
        torch.testing.assert_close(encoders.words.bias.detach(), bias)


def test_a_pretrained_file_begins_retrieval_with_its_twin_and_queue(tmp_path: Path) -> None:
    weights, path = official("pretrain", tmp_path)
    built = fitting("pretrain", form="match")
    found = load(Learner(built, built.head("match", 0)), path, read_table("albef"))
    assert found.new == ["model.queue.ids"]
    torch.testing.assert_close(built.queue.get_buffer("image"), weights["image_queue"])
    torch.testing.assert_close(built.slow.image_projection.weight, weights["vision_proj_m.weight"])


def test_a_file_for_one_image_begins_a_model_for_two(tmp_path: Path) -> None:
    weights, path = official("pretrain", tmp_path)
    config = json.loads((OFFICIAL / "pretrain" / "case.json").read_text(encoding="utf-8"))["config"]
    doubled = {**config["text"], "num_hidden_layers": 5}  # as the authors count: 1 and 2 x 2
    built = proof._model({**config, "text": doubled}, form="compare").eval()
    learner = Learner(built, built.head("compare", 2))
    load(learner, path, read_table("albef"))
    one = fitting("pretrain")
    load(Learner(one), path, read_table("albef"))
    assert not torch.equal(*(one.encoders.text.layers[n].cross.part.key.weight for n in (1, 2)))
    for place, layer in ((0, 0), (1, 1), (2, 1), (3, 2), (4, 2)):
        wanted = one.encoders.text.layers[layer].state_dict()
        for encoders in (built.encoders, built.slow):  # the twin of a new shape begins anew
            found_state = encoders.text.layers[place].state_dict()
            assert found_state.keys() == wanted.keys()
            assert all(torch.equal(found_state[name], part) for name, part in wanted.items()), place
    for first in (1, 3):
        cross = [built.encoders.text.layers[n].cross.part for n in (first, first + 1)]
        assert cross[0].key is cross[1].key
        assert cross[0].query is not cross[1].query
    lacking = {name: part for name, part in weights.items() if ".layer.0." not in name}
    torch.save({"model": lacking}, tmp_path / "lacking.pth")
    with pytest.raises(BadData, match="missing"):
        load(learner, tmp_path / "lacking.pth", read_table("albef"))


def test_text_assignment_begins_from_a_pretrained_file(tmp_path: Path) -> None:
    weights, path = official("pretrain", tmp_path)
    config = json.loads((OFFICIAL / "pretrain" / "case.json").read_text(encoding="utf-8"))["config"]
    doubled = {**config["text"], "num_hidden_layers": 5}
    built = proof._model({**config, "text": doubled}, form="compare", pretraining=True)
    found = load(Learner(built), path, read_table("albef"))
    layers = {f"model.encoders.text.layers.{place}." for place in (3, 4)}
    assert {name for name in found.new if not name.startswith(tuple(layers))} == {
        "model.assignment_head.weight",
        "model.assignment_head.bias",
    }
    torch.testing.assert_close(built.encoders.image_projection.weight.detach(), weights["vision_proj.weight"])
    name = "text_encoder.bert.encoder.layer.1.crossattention.self.value.weight"
    torch.testing.assert_close(built.encoders.text.layers[2].cross.part.value.weight.detach(), weights[name])


def test_a_file_of_entailment_needs_no_words_and_keeps_its_twin(tmp_path: Path) -> None:
    weights, path = official("ve", tmp_path)
    built = fitting("ve", form="classify")
    found = load(Learner(built, built.head("classify", 3)), path, read_table("albef"))
    assert found.new
    assert all(".encoders.words." in name for name in found.new)
    name = "encoder.layer.0.attention.self.query.weight"
    slow = built.slow.text.layers[0].attention.part.query.weight
    torch.testing.assert_close(slow, weights[f"text_encoder_m.{name}"])
    assert not torch.equal(slow, weights[f"text_encoder.{name}"])
    told = fitting("ve", form="classify")
    with pytest.raises(BadData, match=r"missing: model\.encoders\.words"):
        load(Learner(told, told.head("classify", 5, answers())), path, read_table("albef"))


def test_a_queue_of_another_size_begins_anew(tmp_path: Path) -> None:
    weights, path = official("retrieval", tmp_path)
    config = json.loads((OFFICIAL / "retrieval" / "case.json").read_text(encoding="utf-8"))["config"]
    built = proof._model({**config, "queue_size": 7}, form="match")
    drawn = built.queue.get_buffer("image").clone()
    found = load(Learner(built, built.head("match", 0)), path, read_table("albef"))
    assert set(found.new) == {"model.queue.image", "model.queue.text", "model.queue.ids"}
    assert {"image_queue", "text_queue", "idx_queue"} <= set(found.not_needed)
    assert torch.equal(built.queue.get_buffer("image"), drawn)
    torch.testing.assert_close(built.slow.image_projection.weight, weights["vision_proj_m.weight"])


def test_a_fine_tuned_file_without_a_twin_keeps_its_decoder(tmp_path: Path) -> None:
    weights, _ = official("vqa", tmp_path)
    alone = {name: part for name, part in weights.items() if "_m." not in name}
    torch.save({"model": alone}, tmp_path / "alone.pth")
    built = fitting("vqa", form="classify")
    head = built.head("classify", 5, answers())
    load(Learner(built, head), tmp_path / "alone.pth", read_table("albef"))
    stored = weights["text_decoder.bert.encoder.layer.0.attention.self.query.weight"]
    assert isinstance(head, DistilledAnswers)
    torch.testing.assert_close(head.decoder.layers[0].attention.part.query.weight.detach(), stored)
    torch.testing.assert_close(head.slow_decoder.layers[0].attention.part.query.weight, stored)


def test_our_own_file_of_shared_projections_comes_back(tmp_path: Path) -> None:
    from vlbench.engine.checkpoint import save_weights

    built = model(form="compare")
    learner = Learner(built, built.head("compare", 2))
    save_weights(learner, tmp_path / "weights.safetensors")
    other = Learner(again := model(form="compare"), again.head("compare", 2))
    assert not load(other, tmp_path / "weights.safetensors").new
    layers = again.encoders.text.layers
    assert layers[1].cross.part.key.weight is layers[2].cross.part.key.weight
    assert isinstance(other.head, DistilledLabels)


def test_sizes_and_recipes_are_the_published_ones() -> None:
    card = find(ModelCard, "albef")
    path = Path(card.path).parents[1] / "published" / "hyperparameters.json"
    source = json.loads(path.read_text(encoding="utf-8"))["ALBEF"]
    pairs = {
        "vqa": "VQA v2", "snli-ve": "SNLI-VE", "nlvr2": "NLVR2", "retrieval": "COCO retrieval",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        made, published = card.finetune[ours], source[f"finetune/{theirs}"]
        for one, other in (("rate", "lr"), ("epochs", "epochs"), ("decay", "weight_decay"), ("image_size",) * 2):
            assert made[one] == published[other], (ours, one)
        assert published["batch_size"].startswith(f"{made['batch']} ")
        assert published["schedule"] == f"cosine to {made['rate'] * made['final_rate']:.0e}".replace("e-0", "e-")
    extra = source["pretrain"]["extra"]
    sizes = card.sizes["base"]
    assert (sizes["embed"], sizes["queue"]) == (extra["embed_dim"], extra["queue_size"])
    mini = ALBEF(**{**card.sizes["mini"], "vocabulary": 2000, "form": "classify"})
    count = Learner(mini, mini.head("classify", 5, answers())).size()
    assert 300_000 < count < 2_000_000
