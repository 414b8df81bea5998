"""Writing word by word, against transformers' generate and by hand."""

import pytest
import torch
from torch import Tensor

from vlbench.nn.decode import Rules, beam_search, greedy, nucleus, words_of

END, VOCABULARY = 3, 14


@pytest.fixture(scope="module")
def port() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=24, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=END,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(2)  # texts end at different lengths
    return model


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize(
    ("length_penalty", "repetition_penalty", "shortest"), [(1.0, 1.0, 0), (0.3, 1.3, 7), (-1.0, 1.1, 5)]
)
def test_against_transformers(
    port: torch.nn.Module, early_stopping: bool, length_penalty: float, repetition_penalty: float, shortest: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    rules = Rules(END, longest=18, shortest=shortest, padding=END, repetition_penalty=repetition_penalty)
    prompt = torch.randint(4, VOCABULARY, (40, 3), generator=generator)
    shared = {
        "attention_mask": torch.ones_like(prompt), "max_length": rules.longest, "min_length": shortest,
        "repetition_penalty": repetition_penalty, "pad_token_id": END, "eos_token_id": END, "do_sample": False,
    }  # fmt: skip

    def next_words(ids: Tensor, origin: Tensor) -> Tensor:
        assert (ids[:, :3] == prompt[origin]).all()
        logits: Tensor = port(input_ids=ids).logits[:, -1]
        return logits

    with torch.no_grad():
        assert torch.equal(greedy(next_words, prompt, rules), port.generate(prompt, **shared))
        wanted = port.generate(
            prompt, num_beams=4, length_penalty=float(length_penalty), early_stopping=early_stopping,
            return_dict_in_generate=True, output_scores=True, **shared,
        )  # fmt: skip
        made = beam_search(
            next_words, prompt, rules, beams=4, length_penalty=length_penalty, early_stopping=early_stopping
        )
    assert torch.equal(made.ids, wanted.sequences)
    torch.testing.assert_close(made.scores, wanted.sequences_scores, atol=1e-5, rtol=1e-5)
    lengths = {len(words) for words in words_of(made.ids, rules, start=3)}
    assert len(lengths) > 1
    assert min(lengths) >= shortest - 3


def table(chances: dict[int, list[float]]) -> object:
    """Make a function whose next word depends on the last only."""
    rows = torch.full((5, 5), 1e-9)
    for last, values in chances.items():
        rows[last] = torch.tensor(values)
    return lambda ids, origin: rows[ids[:, -1]].log()


def test_the_older_convention_counts_the_prompt_and_not_the_end() -> None:
    # 1 -> end at 0.5, or 2 at 0.5; 2 -> end at 0.64
    chances = {1: [0, 0, 0.5, 0.5, 0], 2: [0, 0, 0.36, 0.64, 0]}
    prompt, rules = torch.tensor([[4, 1]]), Rules(3, longest=4)
    for counted, divisors in (("whole", (2, 3)), ("written", (1, 2))):
        made = beam_search(table(chances), prompt, rules, beams=2, counted=counted)
        ended = torch.log(torch.tensor([0.5, 0.32])) / torch.tensor(divisors)
        assert made.scores.item() == pytest.approx(ended.max().item(), abs=1e-5)


def test_one_beam_is_greedy_until_its_end(port: torch.nn.Module) -> None:
    prompt, rules = torch.randint(4, VOCABULARY, (8, 3)), Rules(END, longest=12, shortest=12)

    def next_words(ids: Tensor, origin: Tensor) -> Tensor:
        logits: Tensor = port(input_ids=ids).logits[:, -1]
        return logits

    with torch.no_grad():
        assert torch.equal(beam_search(next_words, prompt, rules, beams=1).ids, greedy(next_words, prompt, rules))
    with pytest.raises(ValueError, match="no room"):
        beam_search(next_words, prompt, Rules(END, longest=3))


def evenly(texts: int, words: int = 1) -> Tensor:
    return torch.rand(texts, words, generator=torch.Generator().manual_seed(0))


def test_the_nucleus_holds_its_share_and_no_more() -> None:
    chances = {1: [0.02, 0.01, 0.5, 0.07, 0.4]}
    prompt = torch.tensor([[1]]).expand(3000, 1)
    rules, draws = Rules(3, longest=2), evenly(3000)
    drawn = nucleus(table(chances), prompt, rules, draws, share=0.6)[:, 1]
    assert set(drawn.tolist()) == {2, 4}
    assert (drawn == 2).float().mean() == pytest.approx(5 / 9, abs=0.03)
    assert set(nucleus(table(chances), prompt, rules, draws, share=0.5)[:, 1].tolist()) == {2}
    assert set(nucleus(table(chances), prompt, rules, draws, share=1.0, most=3)[:, 1].tolist()) == {2, 3, 4}


def test_the_whole_nucleus_is_drawn_as_often_as_it_is_probable() -> None:
    chances = {1: [0.05, 0.1, 0.2, 0.3, 0.35]}
    prompt = torch.tensor([[1]]).expand(20_000, 1)
    drawn = nucleus(table(chances), prompt, Rules(3, longest=2), evenly(20_000), share=1.0)[:, 1]
    shares = torch.bincount(drawn, minlength=5) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor(chances[1]), atol=0.012, rtol=0)
    ends = torch.tensor([[0.0], [1 - 2**-24]])  # what cannot be said is not drawn at either end
    drawn = nucleus(table(chances), prompt[:2], Rules(0, longest=2, shortest=2), ends, share=1.0)[:, 1]
    assert drawn.tolist() == [4, 1]


def plainly(port: torch.nn.Module, prompt: Tensor, rules: Rules, draws: Tensor, share: float) -> list[int]:
    """Draw one text word by word, as the paper of the nucleus says it."""
    ids: list[int] = prompt.tolist()
    for draw in draws.tolist():
        scores = port(input_ids=torch.tensor([ids])).logits[0, -1].tolist()
        for word in {*ids}:
            penalty = rules.repetition_penalty
            scores[word] = scores[word] * penalty if scores[word] < 0 else scores[word] / penalty
        if len(ids) < rules.shortest:
            scores[rules.end] = float("-inf")
        chances = torch.tensor(scores).softmax(0).tolist()
        ranked = sorted(range(len(chances)), key=lambda word: -chances[word])
        count = 1
        while sum(chances[word] for word in ranked[:count]) < share:
            count += 1
        left = draw * sum(chances[word] for word in ranked[:count])
        chosen = ranked[count - 1]
        for word in ranked[:count]:
            left -= chances[word]
            if left < 0:
                chosen = word
                break
        ids.append(chosen)
        if chosen == rules.end:
            break
    return ids


def test_texts_are_those_of_a_plain_version_whatever_is_beside_them(port: torch.nn.Module) -> None:
    prompt = torch.randint(4, VOCABULARY, (24, 3), generator=torch.Generator().manual_seed(1))
    rules = Rules(END, longest=20, shortest=6, padding=0, repetition_penalty=1.1)
    draws = evenly(24, 17)

    def next_words(ids: Tensor, origin: Tensor) -> Tensor:
        logits: Tensor = port(input_ids=ids).logits[:, -1]
        return logits

    with torch.no_grad():
        together = nucleus(next_words, prompt, rules, draws, share=0.98).tolist()
        wanted = [plainly(port, *one, 0.98) for one in ((p, rules, d) for p, d in zip(prompt, draws, strict=True))]
        rows = [slice(row, row + 1) for row in range(24)]
        alone = [nucleus(next_words, prompt[one], rules, draws[one], share=0.98).tolist()[0] for one in rows]
    assert [text[: len(want)] for text, want in zip(together, wanted, strict=True)] == wanted
    assert all(not any(text[len(want) :]) for text, want in zip(together, wanted, strict=True))
    assert [text[: len(want)] for text, want in zip(alone, wanted, strict=True)] == wanted
    assert len({len(want) for want in wanted}) > 2
    assert len({tuple(want) for want in wanted}) > 20
