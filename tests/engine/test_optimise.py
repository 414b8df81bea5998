"""The optimiser against BERT's first one written out plainly, its groups, and the curve of the rate."""

import itertools
import math

import pytest
import torch
from torch import nn

from vlbench.engine.optimise import make_optimiser, set_rate, share_of_rate
from vlbench.recipe import Recipe


def recipe(**values: object) -> Recipe:
    return Recipe.model_validate({"model": "lxmert", "task": "vqa", **values})


def bert_adam(parameter: torch.Tensor, gradients: list[torch.Tensor], made: Recipe, steps: int) -> torch.Tensor:
    """BertAdam: no bias correction, decay added to the update (airsplay/lxmert src/lxrt/optimization.py)."""
    mean, square, value = torch.zeros_like(parameter), torch.zeros_like(parameter), parameter.clone()
    for step, gradient in enumerate(gradients):
        share = (
            step / (made.warmup * steps) if step < made.warmup * steps else (steps - step) / (steps * (1 - made.warmup))
        )
        mean = made.beta1 * mean + (1 - made.beta1) * gradient
        square = made.beta2 * square + (1 - made.beta2) * gradient**2
        value = value - made.rate * share * (mean / (square.sqrt() + made.epsilon) + made.decay * value)
    return value


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.3])
def test_without_bias_correction_it_is_bert_adam(decay: float) -> None:
    torch.manual_seed(0)
    made = recipe(rate=0.02, warmup=0.25, epsilon=1e-6, bias_correction=False, decay=decay, decay_all=True)
    layer = nn.Linear(5, 3).double()
    start = [p.detach().clone() for p in layer.parameters()]
    gradients = [[torch.randn_like(p) for p in layer.parameters()] for _ in range(12)]
    optimiser = make_optimiser(layer, made, torch.device("cpu"))
    for step, drawn in enumerate(gradients):
        for parameter, gradient in zip(layer.parameters(), drawn, strict=True):
            parameter.grad = gradient.clone()
        set_rate(optimiser, step, len(gradients), made)
        optimiser.step()
    for number, parameter in enumerate(layer.parameters()):
        plain = bert_adam(start[number], [drawn[number] for drawn in gradients], made, len(gradients))
        torch.testing.assert_close(parameter.detach(), plain)


def test_with_bias_correction_it_is_adamw() -> None:
    torch.manual_seed(0)
    made = recipe(rate=0.02, warmup=0.0, schedule="constant", decay=0.1)
    ours, theirs = nn.Linear(4, 2), nn.Linear(4, 2)
    theirs.load_state_dict(ours.state_dict())
    one = make_optimiser(ours, made, torch.device("cpu"))
    groups = [{"params": [theirs.weight]}, {"params": [theirs.bias], "weight_decay": 0.0}]
    two = torch.optim.AdamW(groups, lr=0.02, weight_decay=0.1)
    for step in range(5):
        gradient = torch.randn(2, 4)
        for layer in (ours, theirs):
            layer.weight.grad, layer.bias.grad = gradient.clone(), gradient[:, 0].clone()
        set_rate(one, step, 5, made)
        one.step()
        two.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_what_decays() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Embedding(4, 3))

    def decaying(decay_all: bool) -> int:
        groups = make_optimiser(layer, recipe(decay_all=decay_all), torch.device("cpu")).param_groups
        return sum(len(group["params"]) for group in groups if group["decay"] > 0)

    assert decaying(True) == 5
    assert decaying(False) == 2  # the linear map's and the table's weights


@pytest.mark.parametrize(
    ("schedule", "half"), [("linear", 0.5), ("cosine", 0.5 * (1 + math.cos(math.pi / 2))), ("constant", 1.0)]
)
def test_curves(schedule: str, half: float) -> None:
    made = recipe(warmup=0.1, schedule=schedule)
    shares = [share_of_rate(step, 100, made) for step in range(101)]
    assert shares[0] == 0
    assert shares[5] == pytest.approx(0.5)
    assert shares[10] == pytest.approx(1.0)
    assert shares[55] == pytest.approx(half)
    assert max(shares) == pytest.approx(1.0)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares[10:]))


def test_no_warm_up_begins_at_the_peak() -> None:
    assert share_of_rate(0, 10, recipe(warmup=0.0)) == 1.0
    assert share_of_rate(10, 10, recipe(warmup=0.0, final_rate=0.1)) == pytest.approx(0.1)
