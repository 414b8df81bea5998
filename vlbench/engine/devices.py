"""Device, precision, threads and seeds; processes are handed to Accelerate."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed

from vlbench.processes import is_first, refuse_several
from vlbench.record import Machine
from vlbench.types import Fault, Misuse, nearest

SMALL = 5_000_000
"""Parameters up to which more than one thread does not pay."""


def open_device(device: str, precision: str, *, together: bool = False) -> Accelerator:
    """Return Accelerate's view of the machine; ``device`` is auto, cpu or cuda, ``precision`` as in a recipe.

    ``together``: several processes may share the work.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise Misuse(f"there is no device '{device}'; {nearest(device, ['auto', 'cpu', 'cuda'])}")
    if not together:
        refuse_several()
    if device == "cuda" and not torch.cuda.is_available():
        raise Fault("there is no CUDA device here", "leave --device out, or see: vlbench doctor")
    use_cpu = device == "cpu" or not torch.cuda.is_available()
    mixed = {"fp32": "no", "auto": "no" if use_cpu else "bf16"}.get(precision, precision)
    if mixed == "fp16" and use_cpu:
        raise Fault("fp16 needs a GPU", "choose --set precision=bf16 or fp32")
    torch.set_float32_matmul_precision("high")
    return Accelerator(
        cpu=use_cpu,
        mixed_precision=mixed,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def use_threads(parameters: int) -> None:
    """Take as many threads as pay: one for a small model, every core for others (``OMP_NUM_THREADS`` overrules).

    Measured on 2 cores at 0.4 M parameters, batch 64: one thread takes 28 ms a step whether or not another program
    has a core; two take 21 to 25 ms alone and 60 beside one. The choice is a function of the model, so that a run
    that goes on computes as before.
    """
    typed = "OMP_NUM_THREADS" in os.environ
    torch.set_num_threads(processor_count() if typed or parameters > SMALL else 1)


def processor_count() -> int:
    """Count the cores this process may use, one thread each (``OMP_NUM_THREADS`` overrules)."""
    if typed := os.environ.get("OMP_NUM_THREADS", ""):
        return max(1, int(typed)) if typed.isdigit() else 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch alike."""
    set_seed(seed)


def draw_apart(seed: int) -> None:
    """Let each of several processes draw its own dropout and hidden words from here on; the first goes on as alone."""
    if not is_first():
        set_seed(seed, device_specific=True)


def random_state(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """Return the state of torch's generators: what dropout and masking draw from."""
    state = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Put torch's generators back to where they were."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def describe(accelerator: Accelerator) -> Machine:
    """Say what the run is made on."""
    device = str(accelerator.device.type)
    if device == "cuda":
        device = f"cuda ({torch.cuda.get_device_name()})"
    precision = "fp32" if accelerator.mixed_precision == "no" else str(accelerator.mixed_precision)
    return Machine(
        device=device,
        cpu=_processor_name(),
        torch=torch.__version__,
        precision=precision,
        processes=accelerator.num_processes,
        threads=torch.get_num_threads(),
    )


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def worth_compiling(choice: str, accelerator: Accelerator, parameters: int) -> bool:
    """Say whether torch.compile pays: on a GPU, for models large enough that minutes of compiling come back."""
    if choice == "auto":
        return accelerator.device.type == "cuda" and parameters > 20_000_000
    return choice == "on"
