"""Pre-training shared by two processes, over gloo: it learns as one process does, is one run, and ends as one.

Started by torchrun, this file is what each of the processes does to compare its losses with those of one (``compare``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import torch
from accelerate import Accelerator
from filelock import FileLock
from torch import Tensor, distributed, nn
from torch.nn import functional

from vlbench.engine.devices import open_device
from vlbench.engine.optimise import make_optimiser, set_rate
from vlbench.engine.train import train
from vlbench.models.coca import CoCa
from vlbench.models.vlmo import Draws as VlmoDraws
from vlbench.models.vlmo import VLMo
from vlbench.nn.contrast import Features, PairedProjection, momentum_contrast
from vlbench.nn.gather import alone, gather, gather_blocks, own_first
from vlbench.nn.masking import MaskedWords
from vlbench.nn.momentum import Queue
from vlbench.paths import make_folder
from vlbench.recipe import Recipe
from vlbench.record import read_record
from vlbench.types import Batch, Image, Text

TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ALBEF = ["pretrain", "albef", "--set", "steps=12", "--set", "batch=12", "--set", "image_size=0", "--set", "dropout=0.1"]
OFTEN = ["--set", "save_every=3", "--set", "log_every=1", "--no-mlflow"]


class Ended(NamedTuple):
    """How the processes ended, and what they wrote together."""

    code: int
    out: str
    err: str

    def complaints(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("vlbench: ")]


def start(words: Sequence[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "VLBENCH_CACHE": str(folder / "cache"), **more}
    line = [*TWO, *words]
    return subprocess.Popen(line, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)


def launch(words: Sequence[str], folder: Path, **more: str) -> Ended:
    started = start(words, folder, **more)
    out, err = started.communicate(timeout=300)
    return Ended(started.returncode, out, err)


def pretrain(data: Path, out: Path, *words: str) -> list[str]:
    return ["-m", "vlbench", *words, "--data", str(data), "--out", str(out)]


# losses and gradients


Command = Callable[..., Any]
Loss = Callable[[Features, Tensor, Tensor], Tensor]
"""Of the vectors of pairs, a scale of their likeness, and which image each pair shows."""


def of_coca(pairs: Features, scale: Tensor, ids: Tensor) -> Tensor:
    own = CoCa.__new__(CoCa)
    nn.Module.__init__(own)
    own.eval().log_scale = scale  # all of a model that its contrast needs
    return own.contrastive(*pairs)


def of_vlmo(pairs: Features, scale: Tensor, ids: Tensor) -> Tensor:
    own = PairedProjection(1)
    del own.log_scale
    own.log_scale = scale
    return own.loss(pairs, ids[:, None] == ids)


def of_albef(pairs: Features, scale: Tensor, ids: Tensor) -> Tensor:
    torch.manual_seed(2)
    queue = Queue(10, 5, ids=True)
    slow = Features(*(functional.normalize(part.detach() + 0.1, dim=1) for part in pairs))
    found = momentum_contrast(pairs, slow, queue, torch.exp(-scale), ids, alpha=0.4)
    for drawn in found.negatives():
        assert len(drawn) == len(ids)
        assert not (ids[drawn] == ids).any()
    pushed = queue.image.clone(), queue.text.clone(), queue.ids.clone(), queue.place.clone()
    of_albef.queues.append(pushed)  # type: ignore[attr-defined]
    return found.loss


def compare_loss(loss: Loss, counts: Sequence[int], ids: Tensor) -> None:
    """Hold a loss and its gradients, brought together as the training loop does, against those of one process."""
    rank, total = distributed.get_rank(), sum(counts)
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    torch.manual_seed(1)
    drawn = torch.randn(2, total, 5)
    of_albef.queues = []  # type: ignore[attr-defined]

    def learned(part: slice) -> tuple[Tensor, Tensor, Tensor]:
        raw, scale = drawn[:, part].clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
        found = loss(Features(*functional.normalize(raw, dim=-1)), scale, ids[part])
        share = len(ids[part]) / total
        (found * (1.0 if share == 1 else share * len(counts))).backward()
        assert raw.grad is not None
        assert scale.grad is not None
        return found.detach() * share, raw.grad, scale.grad

    with alone():
        whole = learned(slice(0, total))
    value, features, scale = learned(own)
    for part in (value, scale):
        distributed.all_reduce(part)
    torch.testing.assert_close(value, whole[0])
    torch.testing.assert_close(features / len(counts), whole[1][:, own])
    torch.testing.assert_close(scale / len(counts), whole[2])
    if of_albef.queues:  # type: ignore[attr-defined]
        torch.testing.assert_close(*of_albef.queues)  # type: ignore[attr-defined]


def compare_matching(counts: Sequence[int]) -> None:
    """Hold what VLMo says of pairs with wrong partners of any process against what it says of them on one."""
    rank, total = distributed.get_rank(), sum(counts)
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    torch.manual_seed(4)
    model = VLMo(
        vocabulary=50, distances=16, special_tokens=(0, 1, 2), mask_token=3, image_size=16, patch=4, width=24, heads=3,
        inner=40, layers=3, fusion_layers=1, pretraining=True, wanted_losses=("matching",),
    ).eval()  # fmt: skip
    pixels, tokens = torch.randn(total, 3, 16, 16), torch.randint(4, 49, (total, 7))
    longest = 5 if rank == 0 else 7
    mask = torch.arange(7) < torch.tensor([5] * counts[0] + [7] * counts[1])[:, None]
    wrong = torch.randint(total, (2, total))
    hidden = MaskedWords(Text(tokens, mask), tokens)  # not asked for here
    with torch.no_grad():
        with alone():
            whole = model.match(Image(pixels), Text(tokens * mask, mask), VlmoDraws(hidden, *wrong))
        text = Text((tokens * mask)[own, :longest], mask[own, :longest])
        found = model.match(Image(pixels[own]), text, VlmoDraws(hidden, *wrong[:, own]))
        expected = torch.cat([part[own] for part in whole.split(total)])
        torch.testing.assert_close(found, expected)
        pairs = Features(*functional.normalize(torch.randn(2, total, 24)[:, own], dim=-1))
        same = torch.eye(counts[rank], dtype=torch.bool)
        places = torch.arange(total)[own]
        drawn = torch.stack([torch.stack([*model.contrast.negatives(pairs, same)]) for _ in range(40)])
    assert not (drawn == places).any()
    assert set(drawn.flatten().tolist()) - set(places.tolist())  # those of the other process, too


class Line(nn.Module):
    """A linear map, whose loss is a mean over one's own examples."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 2)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"square": (self.map(batch.image.values) - 1).square().mean()}


PARTS = (((3,), (3,)), ((2, 2), (2, 3)), ((4,), ()), ((1, 2), (3,)), ((5,), (2,)))
"""Of each step and process, how long the parts of a batch are that could be read."""


class Feeding:
    """The examples of each step that one process has, or that both have."""

    per_epoch = len(PARTS)

    def __init__(self, *ranks: int) -> None:
        self.ranks = ranks

    def steps(self, first: int, last: int) -> Iterator[Sequence[Batch]]:
        for step in range(first, last):
            lengths = [[*PARTS[step][rank]] for rank in (0, 1)]
            examples = torch.randn(sum(map(sum, lengths)), 4, generator=torch.Generator().manual_seed(step))
            shares = torch.split(examples, [*map(sum, lengths)])
            cut = [part for rank in self.ranks for part in torch.split(shares[rank], lengths[rank])]
            yield [Batch(("",) * len(part), Image(part), Text(torch.zeros(0), torch.zeros(0))) for part in cut]


def compare_training(accelerator: Accelerator, folder: Path) -> None:
    """Hold what two processes learn of their parts, but for a step of which one has none, against all by one."""
    recipe = Recipe(model="m", task="t", rate=0.05, warmup=0.0, log_every=1)
    torch.manual_seed(accelerator.process_index)  # the first's weights are everyone's
    learner, expected, events = Line(), Line(), []
    feed, last = Feeding(accelerator.process_index), len(PARTS)
    trained = train(
        learner, feed, recipe, steps=last, accelerator=accelerator, log=events.append, folder=folder
    )  # fmt: skip
    assert trained.examples == sum(sum(map(sum, step)) for step in PARTS if all(map(sum, step)))
    assert [one["skipped"] for one in events if one["event"] == "note"] == [[3]]
    torch.manual_seed(0)
    expected.load_state_dict(Line().state_dict())
    optimiser = make_optimiser(expected, recipe, accelerator.device)
    for step, parts in enumerate(Feeding(0, 1).steps(0, last)):
        if step != 2:
            whole = parts[0]._replace(image=Image(torch.cat([part.image.values for part in parts])))
            expected(whole)["square"].backward()
            nn.utils.clip_grad_norm_(expected.parameters(), recipe.clip)
            set_rate(optimiser, step, last, recipe)
            optimiser.step()
            optimiser.zero_grad()
    for ours, wanted in zip(learner.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, wanted)


def compare() -> None:
    """Compare all losses, with equal and with unequal parts, and what is learned by the training loop."""
    accelerator = open_device("cpu", "fp32", together=True)
    compare_training(accelerator, make_folder(Path("training")))
    rank = distributed.get_rank()
    for counts in ([3, 3], [4, 2], [2, 5]):
        each = torch.arange(sum(counts)) + 7
        shared = each.clone()
        shared[0] = shared[-1]  # an image that both processes show
        compare_loss(of_coca, counts, each)
        compare_loss(of_vlmo, counts, each)
        compare_loss(of_albef, counts, each)
        compare_loss(of_albef, counts, shared)
        compare_matching(counts)
    nothing = torch.full((3 * rank, 2), float(rank))  # process 0 has none
    assert torch.equal(gather(nothing), torch.ones(3, 2))
    assert torch.equal(own_first(torch.full((1 + rank,), rank)), torch.tensor([[0, 1, 1], [1, 1, 0]][rank]))
    blocks = gather_blocks(torch.ones(1 + rank, 1 + rank, dtype=torch.bool))
    assert torch.equal(blocks, torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 1]], dtype=torch.bool))
    with alone():
        assert len(gather(nothing)) == 3 * rank


def test_losses_and_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    done = launch([__file__], tmp_path)
    assert done.code == 0, done.err


# one run


@pytest.fixture(scope="module")
def torn(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with pictures that cannot be read, so that the processes' parts are of different length."""
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("torn") / "data"))
    pictures = sorted((root / "world" / "small" / "images" / "coco").glob("COCO_train*"))
    for picture in pictures[3:30:9]:
        picture.write_bytes(b"no picture")
    return root


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves which its recipe decides; there is one folder, one log, one record."""
    (place,) = out.glob("*/*/*")
    record = read_record(place / "record.json")
    events = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    steps = {one["step"]: one["values"]["contrastive"] for one in events if one["event"] == "step"}
    assert list(steps) == list(range(1, 13))
    named = {name for one in events for name in one.get("left_out", ())}
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    told = record.weights, record.losses, record.steps, record.examples_seen, record.inputs
    return {"record": told, "steps": steps, "named": named, "files": files}


def killed_after(
    step: int, words: Sequence[str], folder: Path, out: Path, told: signal.Signals = signal.SIGKILL
) -> None:
    """Kill the launcher and all processes at once when a step is logged."""
    started = start(words, folder)
    until = time.monotonic() + 300
    while not any(f'"step": {step},' in log.read_text() for log in out.glob("*/*/*/log.jsonl")):
        assert started.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    for process in [*psutil.Process(started.pid).children(recursive=True), psutil.Process(started.pid)]:
        process.send_signal(told)
    started.communicate(timeout=60)


def test_it_is_one_run_and_goes_on_after_all_were_killed(torn: Path, tmp_path: Path) -> None:
    whole = launch(pretrain(torn, tmp_path / "whole", *ALBEF, *OFTEN, "--json"), tmp_path)
    assert whole.code == 0, whole.err
    (told,) = json.loads(whole.out)["runs"]
    assert told["machine"]["processes"] == 2
    assert whole.err.count("ALBEF pre-trained on world") == 1
    expected = outcome(tmp_path / "whole")
    assert len(expected["named"]) == 3
    assert told["note"].startswith("3 examples were left out")

    words = pretrain(torn, tmp_path / "parts", *ALBEF, *OFTEN)
    killed_after(5, words, tmp_path, tmp_path / "parts")
    resumed = launch([*words, "--json"], tmp_path)
    assert resumed.code == 0, resumed.err
    assert "3 examples were left out" in json.loads(resumed.out)["runs"][0]["note"]
    assert outcome(tmp_path / "parts") == expected
    again = launch(words, tmp_path)
    assert again.code == 0, again.err
    assert again.err.count("finished before") == 1


def test_a_scheduler_that_ends_launcher_and_processes_loses_nothing(made: Path, tmp_path: Path) -> None:
    """Each process hears of it twice: from the scheduler, and from the launcher."""
    words = pretrain(made, tmp_path / "out", *ALBEF, "--set", "log_every=1", "--set", "save_every=100", "--no-mlflow")
    killed_after(2, words, tmp_path, tmp_path / "out", signal.SIGTERM)
    assert list(tmp_path.glob("out/*/*/*/checkpoint/state.pt"))
    resumed = launch(words, tmp_path)
    assert resumed.code == 0, resumed.err
    assert "going on after step" in resumed.err


# one end


BREAKS = """
import os

from vlbench.models.coca import CoCa


class Breaks(CoCa):
    def __init__(self, vocabulary: int) -> None:
        sizes = {"image_width": 16, "image_heads": 2, "image_layers": 1, "pooler_heads": 2, "width": 16, "heads": 2}
        layers = {"text_layers": 1, "fusion_layers": 1, "queries": 4}
        super().__init__(vocabulary=vocabulary, image_size=32, patch=16, **sizes, **layers)

    def losses(self, batch):
        if os.environ["RANK"] == "1" and self.epoch > 0:
            raise MemoryError
        return super().losses(batch)
"""


def test_a_fault_of_one_ends_all_with_one_line(made: Path, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS)
    settings = ("corpora=world", "image_size=32", "tokeniser=train", "steps=20", "batch=12")
    typed = [word for setting in settings for word in ("--set", setting)]
    done = launch(pretrain(made, tmp_path / "out", "pretrain", "breaks.py", *typed, "--no-mlflow"), tmp_path)
    assert done.code != 0
    assert done.complaints() == ["vlbench: out of memory"]
    (log,) = tmp_path.glob("out/*/*/*/log.jsonl")
    assert json.loads(log.read_text().splitlines()[-1])["message"] == "out of memory"

    with FileLock(log.parent / ".lock"):
        held = launch(pretrain(made, tmp_path / "out", "pretrain", "breaks.py", *typed, "--no-mlflow"), tmp_path)
    assert held.code != 0
    (line,) = held.complaints()
    assert "is being run by another process" in line


@pytest.mark.parametrize("words", ["run lxmert vqa", "evaluate lxmert vqa", "capfilt world-web"])
def test_what_is_one_process_is_refused_at_once(command: Command, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    command(*words.split()).refused(1, "only pretrain is shared")


if __name__ == "__main__":
    compare()
