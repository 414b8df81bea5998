"""Published parts of a method: what a stage of pre-training takes as it is, where no run of ours has trained it."""

from __future__ import annotations

from vlbench.cards import Checkpoint
from vlbench.engine import checkpoint
from vlbench.learner import Learner
from vlbench.models.base import Need
from vlbench.paths import sha256
from vlbench.plan import Plan
from vlbench.prepare import Options
from vlbench.types import Misuse


def take_parts(plan: Plan, learner: Learner, options: Options) -> dict[str, str]:
    """Load what a stage takes ready-made and its start lacks; return the hash of each file, as an input of the run.

    Misuse where a part is neither in the start nor here.
    """
    hashes = {}
    for need in learner.model.needs(plan.recipe.stage):
        part = next((one for one in plan.model.part if (one.name, one.size) == (need.name, plan.recipe.size)), None)
        path = options.data / part.file if part else None
        if part is None or path is None or not path.is_file():
            raise _lacking(plan, need, part, options)
        found = checkpoint.load(learner, path, checkpoint.read_table(part.names), below=f"model.{need.below}")
        options.say(f"{path.name}: {len(found.used)} tensors used, {len(found.not_needed)} not needed for {need.name}")
        hashes[f"part:{need.name}"] = sha256(path)
    return hashes


def _lacking(plan: Plan, need: Need, part: Checkpoint | None, options: Options) -> Misuse:
    """Say what a stage lacks, and the ways to go on: to train it, to fetch it, to do without."""
    recipe = plan.recipe
    ways = [f"train it first, and go on from that: vlbench pretrain {plan.model.id} makes all its stages"]
    if part:
        ways.append(f"put the published one at {options.data / part.file} (from {part.url})")
    if others := [f"{name}:{weight:g}" for name, weight in recipe.losses.items() if name not in need.objectives]:
        ways.append(f"do without: --set losses={','.join(others)}")
    return Misuse(
        f"the stage {recipe.stage} of {plan.model.id} needs an {need.name} for {' and '.join(need.objectives)}, "
        f"and its start ({recipe.start}) has none",
        "; or ".join(ways),
    )
