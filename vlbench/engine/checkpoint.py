"""Save and load weights: our own checkpoints, and the authors' through rename tables, every key accounted for.

Nothing in a file is executed: tensors come from safetensors or from torch files read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlbench.engine.weightfile import first_line, read_weights
from vlbench.paths import card_folder, replacing
from vlbench.types import BadData, Fault


class RenameTable(NamedTuple):
    """How an official checkpoint's names map on ours (registry/weights)."""

    prefixes: Mapping[str, str]
    groups: Mapping[str, Mapping[str, str | Sequence[str]]]
    """model, pretraining, head: foreign name -> ours; several of ours where one foreign tensor holds them in turn."""
    tied: frozenset[str]
    """Foreign names of copies and of what is never used; {} stands for a number."""
    twins: Mapping[str, str]
    """Foreign prefix of a momentum twin -> that of what it follows; ours lie under ``model.momentum``, or head's."""

    def translate(self, key: str) -> tuple[tuple[str, ...], str] | None:
        """Return our names for a foreign key and the group it is of; None where the table knows nothing of it."""
        for twin, followed in self.twins.items():
            if key.startswith(twin) and (found := self.translate(followed + key.removeprefix(twin))):
                slow = (name.replace(".", ".momentum.", 1) for name in found[0])  # model.x -> model.momentum.x
                return tuple(slow), "tied" if found[1] == "tied" else "momentum"
        changed = True
        while changed:
            changed = False
            for prefix, new in self.prefixes.items():
                if key.startswith(prefix):
                    key, changed = new + key.removeprefix(prefix), not new.endswith(prefix)
        numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", key)
        pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", key)
        if key in self.tied or pattern in self.tied:
            return ("",), "tied"
        stem, _, leaf = pattern.rpartition(".")
        for group, names in self.groups.items():
            if pattern in names:
                return tuple(name.format(*numbers) for name in _several(names[pattern])), group
            if stem in names:
                return tuple(f"{name.format(*numbers)}.{leaf}" for name in _several(names[stem])), group
        return None


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def read_table(name: str) -> RenameTable:
    """Read a rename table of registry/weights."""
    path = card_folder("registry") / "weights" / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"cannot read the rename table {path}: {error.strerror}") from None
    groups = {group: values.get(group, {}) for group in ("model", "pretraining", "head")}
    return RenameTable(values.get("prefixes", {}), groups, frozenset(values.get("tied", ())), values.get("twins", {}))


class Sorted(NamedTuple):
    """A checkpoint's keys, each accounted for."""

    used: dict[str, Tensor]
    not_needed: list[str]
    new: list[str]
    """Ours that the file does not hold, or not so, and that may start anew: another task's head, a slow twin."""
    fatal: list[str]
    """One line a fault."""


Resize = Callable[[str, Tensor, Tensor], Tensor | None]
"""Brings a stored tensor (name, stored, wanted) to another image size; None where it does not fit.

``wanted`` itself, the same object, means that the file's tensor is of no use here and that ours begins anew.
"""


def _slow_twin(name: str) -> bool:
    return name.startswith("momentum.")


def sort_keys(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    table: RenameTable | None,
    resize: Resize = lambda name, stored, wanted: None,
    may_be_new: Callable[[str], bool] = _slow_twin,
    *,
    leftover: bool = False,
) -> Sorted:
    """Sort a checkpoint's keys into used, not needed and fatal, against the state a learner wants.

    ``may_be_new``: says of a name of the model whether a file may lack it; every head may be new. ``leftover``: whether
    the file may hold parts of the model that are not wanted, as pre-training's objectives have.
    """
    used: dict[str, Tensor] = {}
    not_needed: list[str] = []
    anew: set[str] = set()
    fatal: list[str] = []
    for key, tensor in weights.items():
        found = table.translate(key) if table else ((key,), "head" if key.startswith("head.") else "model")
        if found is None:
            fatal.append(f"surplus: {key} {tuple(tensor.shape)} has no place in this architecture")
            continue
        names, group = found
        if group == "tied" or (group != "model" and not any(name in wanted for name in names)):
            not_needed.append(key)
            continue
        if len(names) > 1 and (not tensor.dim() or len(tensor) % len(names)):
            fatal.append(f"shape: {key} {tuple(tensor.shape)} cannot be cut into {len(names)}")
            continue
        for name, part in zip(names, tensor.chunk(len(names)) if len(names) > 1 else (tensor,), strict=True):
            if name not in wanted and leftover:
                not_needed.append(key)
            elif name not in wanted:
                fatal.append(f"surplus: {key} -> {name}, which this size does not have")
            elif part.numel() == wanted[name].numel() and part.squeeze().shape == wanted[name].squeeze().shape:
                used[name] = part.reshape(wanted[name].shape)  # they differ at most by axes of length 1
            elif (fitted := resize(name, part, wanted[name])) is wanted[name]:
                not_needed.append(key)
                anew.add(name)
            elif fitted is not None:
                used[name] = fitted
            else:
                fatal.append(f"shape: {key} is {tuple(part.shape)}, wanted {tuple(wanted[name].shape)} for {name}")
    missing = [name for name in wanted if name not in used and not any(f"{name}" in line for line in fatal)]
    new = [
        name
        for name in missing
        if name in anew
        or name.startswith("head.")
        or (name.startswith("model.") and may_be_new(name.removeprefix("model.")))
    ]
    fatal += [f"missing: {name} {tuple(wanted[name].shape)}" for name in missing if name not in new]
    return Sorted(used, not_needed, new, fatal)


def load(
    learner: nn.Module, path: Path, table: RenameTable | None = None, *, leftover: bool = False, below: str = ""
) -> Sorted:
    """Load a checkpoint file into a learner; BadData that lists what does not fit, with nothing loaded.

    ``leftover``: as for ``sort_keys``. ``below``: the file is of a part alone, whose names begin so; it must hold all
    of that part, and the rest of the learner stays as it is.
    """
    wanted = {name: tensor for name, tensor in learner.state_dict().items() if name.startswith(below)}
    model = getattr(learner, "model", None)
    resize = getattr(model, "resized", lambda name, stored, wanted: None)
    may_be_new = _slow_twin if below else getattr(model, "may_be_new", _slow_twin)
    result = sort_keys(read_weights(path), wanted, table, resize, may_be_new, leftover=leftover)
    if result.fatal:
        kinds = {
            kind: [line for line in result.fatal if line.startswith(kind)] for kind in ("missing", "surplus", "shape")
        }
        counts = ", ".join(f"{len(lines)} {kind}" for kind, lines in kinds.items() if lines)
        shown = "; ".join(line for lines in kinds.values() for line in lines[:3])
        raise BadData(
            f"{path} is a checkpoint of another architecture ({counts} of {len(wanted)} keys): {shown}",
            "choose the size and the data set it was trained with (--size, --dataset), or another file (--start)",
        )
    learner.load_state_dict(result.used, strict=False)
    getattr(learner, "begin_anew", lambda new, used: None)(result.new, result.used)
    return result


def adopt_answers(
    learner: nn.Module, path: Path, table: RenameTable, theirs: Sequence[str], ours: Sequence[str]
) -> int:
    """Begin a new answer head from the pre-training's: its rows by answer text; return how many answers it knew.

    As the authors of LXMERT do (src/pretrain/qa_answer_table.py): answers that pre-training did not have get
    zero weights. Nothing is changed, and 0 returned, where the head is built in another way.
    """
    named = {}
    for key, tensor in read_weights(path).items():
        found = table.translate(key)
        if found and found[1] == "pretraining" and found[0][0].startswith("model.answer_head."):
            named[found[0][0].replace("model.answer_head.", "head.classifier.")] = tensor
    wanted = learner.state_dict()
    heads = [name for name in wanted if name.startswith("head.")]
    if not named or set(named) != set(heads):
        return 0
    place = {plain_answer(answer): row for row, answer in reversed(list(enumerate(theirs)))}
    rows = [place.get(plain_answer(answer), -1) for answer in ours]
    last = [name for name in heads if named[name].shape[0] == len(theirs) and wanted[name].shape[0] == len(ours)]
    for name in last:
        whole = torch.cat([named[name], torch.zeros_like(named[name][:1])])  # row -1 is the row of zeros
        named[name] = whole[rows]
    if any(named[name].shape != wanted[name].shape for name in heads):
        return 0
    learner.load_state_dict(named, strict=False)
    return sum(row >= 0 for row in rows)


def plain_answer(answer: str) -> str:
    """Bring an answer to the form by which two lists are matched: lower case, no article, no final period."""
    words = answer.lower().strip().rstrip(".").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


def save_weights(learner: nn.Module, path: Path) -> str:
    """Write a learner's weights as safetensors, whole or not at all; return a sha256 over names and values."""
    # a copy each: safetensors refuses one tensor under two names, such as a shared projection's
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in learner.state_dict().items()}
    with replacing(path) as part:
        save_file(state, part)
    return weights_hash(state)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes and values in a fixed order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training run (tensors and plain containers), whole or not at all."""
    with replacing(path) as part:
        torch.save(dict(state), part)


def load_state(path: Path) -> dict[str, Any]:
    """Read the state of a training run."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        first = first_line(error)
        raise BadData(f"the saved state {path} cannot be read: {first}", "start over with --fresh") from None
    return state
