"""The vector quantiser against a slow plain one, and how its list of codes begins, follows and is renewed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vlbench.nn.quantiser import DEAD, RECENT, Quantiser, mean_directions, nearest, spherical_means


def begun(codes: int = 6, width: int = 4, keep: float = 0.9) -> Quantiser:
    made = Quantiser(codes, width, keep=keep)
    made.codebook.copy_(
        functional.normalize(torch.randn(codes, width, generator=torch.Generator().manual_seed(5)), dim=1)
    )
    made.use.fill_(10.0)
    made.begun.fill_(True)
    return made


def vectors(count: int = 40, width: int = 4, seed: int = 1) -> Tensor:
    return 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def cosine(one: list[float], other: list[float]) -> float:
    lengths = [math.sqrt(sum(value * value for value in vector)) for vector in (one, other)]
    return sum(a * b for a, b in zip(one, other, strict=True)) / (lengths[0] * lengths[1])


def plainly(given: Tensor, codebook: Tensor) -> list[int]:
    """The nearest code of each vector, one by one."""
    codes = codebook.tolist()
    return [max(range(len(codes)), key=lambda code: cosine(vector, codes[code])) for vector in given.tolist()]


def test_each_vector_gets_the_nearest_code_by_cosine() -> None:
    made, given = begun().eval(), vectors()
    found = made(given)
    assert found.codes.tolist() == plainly(given, made.codebook) == made.find(given).tolist()
    assert torch.equal(made.find(given * torch.rand(40, 1).add(0.1)), found.codes)  # lengths do not count
    torch.testing.assert_close(found.vectors, made.codebook[found.codes])
    apart = functional.normalize(given, dim=1) - made.codebook[found.codes]
    assert float(found.commitment) == pytest.approx(float((apart**2).mean()), rel=1e-5)


def test_many_vectors_are_compared_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, given = begun().eval(), vectors(50)
    whole = made.find(given)
    monkeypatch.setattr("vlbench.nn.quantiser.AT_ONCE", 7)
    assert torch.equal(made.find(given), whole)


def test_the_list_follows_as_said_one_vector_at_a_time() -> None:
    made, given = begun().train(), vectors()
    before, use = made.codebook.clone(), made.use.clone()
    codes = made(given).codes.tolist()
    for code in range(len(before)):
        own = [functional.normalize(vector, dim=0) for vector, its in zip(given, codes, strict=True) if its == code]
        assert float(made.use[code]) == pytest.approx(RECENT * float(use[code]) + (1 - RECENT) * len(own))
        if not own:
            assert torch.equal(made.codebook[code], before[code])
            continue
        mean = torch.stack(own).mean(0)
        moved = 0.9 * before[code] + 0.1 * mean / mean.norm()
        torch.testing.assert_close(made.codebook[code], moved / moved.norm())


def test_a_code_that_nothing_was_given_stays_and_nothing_is_learned_in_answering() -> None:
    made = begun()
    before = {name: part.clone() for name, part in made.state_dict().items()}
    made.eval()(vectors())
    assert all(torch.equal(part, before[name]) for name, part in made.state_dict().items())
    one = before["codebook"][2:3].repeat(5, 1)
    made.train()(one)
    changed = (made.codebook != before["codebook"]).any(1) | (made.use > before["use"])
    assert not changed[[0, 1, 3, 4, 5]].any()


def test_the_gradient_passes_straight_through() -> None:
    made = begun().eval()
    given, weight = vectors().requires_grad_(), torch.randn(40, 4)
    (made(given).vectors * weight).sum().backward()
    plain = given.detach().clone().requires_grad_()
    (functional.normalize(plain, dim=-1) * weight).sum().backward()
    torch.testing.assert_close(given.grad, plain.grad)
    given.grad = None
    made(given).commitment.backward()
    assert given.grad is not None
    stepped = made(given.detach() - 0.5 * given.grad)
    assert stepped.commitment.item() < made(given).commitment.item()
    assert not list(made.parameters())  # no optimiser can touch the list


def test_it_begins_as_the_means_of_its_first_batch() -> None:
    centres = torch.eye(6)
    noise = 0.05 * torch.randn(6, 30, 6, generator=torch.Generator().manual_seed(1))
    given = functional.normalize(centres[:, None] + noise, dim=-1).flatten(0, 1)
    made = Quantiser(12, 6)
    assert not made.begun
    torch.manual_seed(0)
    made.train()(given)
    assert made.begun
    torch.testing.assert_close(made.codebook.norm(dim=1), torch.ones(12))
    assert float((given @ made.codebook.T).amax(1).min()) > 0.9
    torch.manual_seed(0)
    again = Quantiser(12, 6).train()
    again(given)
    assert torch.equal(again.codebook, made.codebook)


def test_means_of_directions_come_closer_to_them() -> None:
    directions = functional.normalize(vectors(300, 5), dim=1)

    def misfit(rounds: int) -> float:
        torch.manual_seed(3)
        means = spherical_means(directions, 9, rounds=rounds)
        return float((1 - (directions @ means.T).amax(1)).mean())

    worse_to_better = [misfit(rounds) for rounds in (0, 1, 3, 10)]
    assert all(later < earlier for earlier, later in pairwise(worse_to_better))
    kept = mean_directions(directions[:2], torch.tensor([1, 1]), torch.eye(5)[:3])
    assert torch.equal(kept[[0, 2]], torch.eye(5)[[0, 2]])
    assert spherical_means(directions[:3], 9).shape == (9, 5)  # fewer than there are codes


def test_dead_codes_begin_anew_at_vectors_that_fit_badly_and_by_the_seed() -> None:
    far = torch.tensor([[0.0, 0.0, 0.0, 1.0]])

    def run(seed: int) -> Quantiser:
        made = Quantiser(3, 4).train()
        made.codebook.copy_(torch.eye(4)[:3])
        made.use.copy_(torch.tensor([5.0, 5.0, 0.0]))
        made.begun.fill_(True)
        torch.manual_seed(seed)
        made(torch.cat([torch.eye(4)[:2].repeat(50, 1), far]))
        return made

    made = run(0)
    assert float(made.codebook[2] @ far[0]) > 0.99  # the one vector that no code fits
    assert float(made.use[2]) == pytest.approx(101 / 3)
    assert torch.equal(run(0).codebook, made.codebook)
    alive = begun()
    alive.use.fill_(DEAD * 40 / 6 / RECENT + 1e-3)  # rarely used, but used
    generator = torch.get_rng_state()
    alive.train()(vectors())
    assert torch.equal(torch.get_rng_state(), generator)  # nothing is drawn where none is dead


def test_perplexity_counts_codes_by_their_use() -> None:
    made = Quantiser(8, 2)
    assert made.perplexity() == pytest.approx(1.0)
    made.use[:4] = 3.0
    assert made.perplexity() == pytest.approx(4.0)
    made.use[0] = 30.0
    assert 1.0 < made.perplexity() < 4.0


def test_nearest_takes_none() -> None:
    assert nearest(torch.zeros(0, 4), torch.eye(4)).shape == (0,)
