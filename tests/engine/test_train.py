"""The training loop on a small learner: accumulation, clipping, stopping, resuming, bad losses."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vlbench.engine.checkpoint import weights_hash
from vlbench.engine.devices import open_device, seed_everything
from vlbench.engine.train import STATE, planned_steps, train
from vlbench.recipe import Recipe
from vlbench.types import Batch, Fault, Image, Text

STEPS = 12


def recipe(**values: object) -> Recipe:
    given = {
        "model": "m",
        "task": "t",
        "rate": 0.05,
        "warmup": 0.1,
        "log_every": 1,
        "save_every": 3,
        "batch": 8,
    }
    return Recipe.model_validate({**given, **values})


class Line(nn.Module):
    """A linear map with dropout, two named losses."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.drop = nn.Linear(4, 2), nn.Dropout(0.3)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        made = self.map(self.drop(batch.image.values.flatten(1)))
        assert batch.target is not None
        return {"square": (made - batch.target).square().mean(), "size": 0.01 * made.square().mean()}


class Feeding:
    """Batches made of the step's number alone."""

    per_epoch = 4

    def __init__(self, parts: int = 1, poison: int = -1) -> None:
        self.parts, self.poison, self.asked = parts, poison, []

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        for step in range(first, last):
            self.asked.append(step)
            generator = torch.Generator().manual_seed(step)
            values, target = torch.randn(8, 1, 4, generator=generator), torch.randn(8, 2, generator=generator)
            if step == self.poison:
                values[3] = torch.nan
            cut = [slice(n * 8 // self.parts, (n + 1) * 8 // self.parts) for n in range(self.parts)]
            yield [
                Batch(tuple(f"q{step}-{row}" for row in range(8))[part], Image(values[part]),
                      Text(torch.zeros(0), torch.zeros(0)), target[part])
                for part in cut
            ]  # fmt: skip

    def examples_until(self, step: int) -> int:
        return 8 * step


@pytest.fixture(scope="module")
def cpu() -> Accelerator:
    return open_device("cpu", "fp32")


def go(
    folder: Path, cpu: Accelerator, feed: Feeding | None = None, stop_after: int = 0, **values: object
) -> tuple[str, list]:
    folder.mkdir(exist_ok=True)
    seed_everything(1)
    learner, events = Line(), []
    count = iter(range(10**6))
    train(
        learner, feed or Feeding(), recipe(**values), steps=STEPS, accelerator=cpu, log=events.append, folder=folder,
        keep_going=lambda: not stop_after or next(count) < stop_after - 1,
    )  # fmt: skip
    return weights_hash(learner.state_dict()), events


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, cpu: Accelerator) -> None:
    whole, events = go(tmp_path / "whole", cpu)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", cpu, stop_after=4)
    feed = Feeding()
    resumed, later = go(tmp_path / "cut", cpu, feed)
    assert feed.asked[0] > 0
    assert resumed == whole
    tail = [e["values"]["square"] for e in events][-len(later) :]
    assert [e["values"]["square"] for e in later] == tail


def test_accumulation_changes_nothing_but_memory(
    tmp_path: Path, cpu: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    finals = []
    for parts in (1, 2, 4):
        seed_everything(0)
        learner = Line()
        (tmp_path / str(parts)).mkdir()
        train(learner, Feeding(parts), recipe(clip=0.1), steps=STEPS, accelerator=cpu, log=lambda e: None,
              folder=tmp_path / str(parts))  # fmt: skip
        finals.append(learner.map.weight.detach().clone())
    torch.testing.assert_close(finals[0], finals[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(finals[0], finals[2], atol=1e-6, rtol=1e-5)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path, cpu: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def watch(self: torch.optim.AdamW, *rest: object, **more: object) -> object:
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([g.norm() for g in grads]).norm()))
        return real(self, *rest, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    go(tmp_path / "a", cpu, clip=0.01)
    assert norms
    assert max(norms) <= 0.0101


@pytest.mark.parametrize(("poison", "saved"), [(7, True), (1, False)])
def test_a_loss_that_is_not_finite_stops_with_the_place(
    tmp_path: Path, cpu: Accelerator, poison: int, saved: bool
) -> None:
    with pytest.raises(Fault, match=f"not finite at step {poison + 1}: square = nan") as fault:
        go(tmp_path / "a", cpu, Feeding(poison=poison))
    assert f"q{poison}-0" in fault.value.wrong
    assert (str(tmp_path / "a" / STATE) in fault.value.todo) == saved
    assert ("no state was saved yet" in fault.value.todo) != saved


def test_a_log_line_a_step_and_the_weighted_sum(tmp_path: Path, cpu: Accelerator) -> None:
    _, events = go(tmp_path / "a", cpu)
    assert [event["step"] for event in events] == list(range(1, STEPS + 1))
    assert set(events[0]["values"]) == {"square", "size", "rate", "samples_per_second", "data_wait_share"}


def test_planned_steps() -> None:
    assert planned_steps(recipe(steps=7), 100) == 7
    assert planned_steps(recipe(epochs=2.5, batch=8), 20) == 8  # 3 batches an epoch, 7.5 rounded up
    assert planned_steps(recipe(), 100) == 0


def test_a_damaged_state_is_refused(tmp_path: Path, cpu: Accelerator) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / STATE).write_bytes(b"half a file")
    with pytest.raises(Fault, match="cannot be read"):
        go(tmp_path / "a", cpu)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_bf16_on_a_gpu(tmp_path: Path) -> None:
    device = open_device("cuda", "auto")
    assert device.mixed_precision == "bf16"
    go(tmp_path / "a", device)
