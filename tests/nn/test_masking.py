"""What is hidden, how often, and from whom."""

import torch

from vlbench.nn.masking import IGNORED, mask_regions, mask_words, mismatch, one_each
from vlbench.types import Image, RegionLabels, Text

MASK, KEPT, VOCABULARY = 3, (0, 1, 2), 500


def words(pairs: int = 400, length: int = 30) -> Text:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(10, VOCABULARY, (pairs, length), generator=generator)
    tokens[:, 0], tokens[:, -3] = 1, 2
    tokens[:, -2:] = 0
    return Text(tokens, tokens != 0)


def test_words_are_hidden_at_the_published_rates() -> None:
    text = words()
    masked = mask_words(
        text,
        vocabulary=VOCABULARY,
        mask=MASK,
        kept=KEPT,
        rate=0.15,
        generator=torch.Generator().manual_seed(0),
    )
    chosen = masked.labels != IGNORED
    eligible = text.mask & ~torch.isin(text.tokens, torch.tensor(KEPT))
    assert not (chosen & ~eligible).any()
    assert abs(chosen.sum() / eligible.sum() - 0.15) < 0.01
    assert (masked.labels[chosen] == text.tokens[chosen]).all()
    assert (masked.text.tokens[~chosen] == text.tokens[~chosen]).all()
    hidden = masked.text.tokens[chosen]
    assert abs((hidden == MASK).float().mean() - 0.8) < 0.03
    assert abs((hidden == text.tokens[chosen]).float().mean() - 0.1) < 0.02


def test_masking_repeats_with_its_generator() -> None:
    draws = [
        mask_words(words(), vocabulary=VOCABULARY, mask=MASK, kept=KEPT, generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0].text.tokens, draws[1].text.tokens)
    assert not torch.equal(draws[0].text.tokens, draws[2].text.tokens)


def test_regions_are_hidden_but_their_boxes_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(300, 20, 4, generator=generator) + 1
    mask = torch.rand(300, 20, generator=generator) < 0.9
    mask[:, 0] = True
    boxes = torch.rand(300, 20, 4, generator=generator)
    masked = mask_regions(Image(values, boxes, mask), generator=generator)
    assert torch.equal(masked.image.boxes, boxes)
    assert torch.equal(masked.features, values)
    assert not (masked.chosen & ~mask).any()
    assert abs(masked.chosen.sum() / mask.sum() - 0.15) < 0.01
    zero = (masked.image.values == 0).all(-1)[masked.chosen]
    kept = (masked.image.values == values).all(-1)
    assert abs(zero.float().mean() - 0.8) < 0.03
    assert kept[~masked.chosen].all()
    assert abs(kept[masked.chosen].float().mean() - 0.1) < 0.03


def test_mismatched_texts_come_from_other_images() -> None:
    rows = torch.tensor([0, 0, 1, 1, 2, 2] * 50)
    tokens = rows[:, None].expand(-1, 4).clone()  # a text names its image
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    swapped, matched = mismatch(
        Image(torch.zeros(3, 1, 1), rows=rows), text, share=0.5, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal((swapped.tokens[:, 0] == rows), matched)
    assert abs(matched.float().mean() - 0.5) < 0.1


def test_a_batch_of_one_image_keeps_its_texts() -> None:
    tokens = torch.arange(8).reshape(4, 2)
    text = Text(tokens, torch.ones_like(tokens, dtype=torch.bool))
    swapped, matched = mismatch(Image(torch.zeros(1, 1, 1), rows=torch.zeros(4, dtype=torch.long)), text, share=1.0)
    assert matched.all()
    assert torch.equal(swapped.tokens, tokens)


def test_one_each_copies_what_pairs_share() -> None:
    labels = RegionLabels(*(torch.arange(2)[:, None] for _ in range(4)))
    image = Image(torch.arange(2.0)[:, None, None], torch.zeros(2, 1, 4), None, labels, torch.tensor([1, 0, 1]))
    text = Text(torch.tensor([[7], [8]]), torch.ones(2, 1, dtype=torch.bool), torch.tensor([0, 1, 1]))
    own_image, own_text = one_each(image, text)
    assert own_image.values.flatten().tolist() == [1.0, 0.0, 1.0]
    assert own_image.labels is not None
    assert own_image.labels.objects.flatten().tolist() == [1, 0, 1]
    assert own_text.tokens.flatten().tolist() == [7, 8, 8]
    assert own_image.rows is None
    assert own_text.rows is None
