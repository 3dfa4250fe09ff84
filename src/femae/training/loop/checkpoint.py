"""Resumable states: one safetensors file with tensors, and in its metadata the rest of the state as JSON.

One file, written under another name and renamed: whatever is cut off, the file under the right name is whole. What is
random is a function of the step (draws.py, order.py), so the number of the step stands for sampler and generators.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from femae.errors import OutputError, TrainingError
from femae.models.weights import write_tensors
from femae.training.loop.ema import WeightAverage

__all__ = [
    "BEST",
    "LAST",
    "StateWriter",
    "TrainState",
    "gather_tensors",
    "load_checkpoint",
    "named_parameters",
    "own_tensors",
    "read_state",
    "save_checkpoint",
]

LAST: Final = "checkpoint-last.safetensors"
BEST: Final = "checkpoint-best.safetensors"


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a run stands, besides its tensors."""

    step: int = 0  # steps done
    best_score: float | None = None
    best_epoch: int = 0
    bad_epochs: int = 0  # validations without a better score
    first_loss: float | None = None  # mean of the first steps, against which an explosion is told
    loss_sum: float = 0.0  # of the epoch under way
    loss_steps: int = 0
    config: str = ""  # fingerprint of the settings that a resumed run must share
    scaler: dict[str, Any] = field(default_factory=dict)  # of fp16
    finished: bool = False


def _full(value: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that may be sharded over processes (a collective call then), on the CPU."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu().contiguous().clone()


def _put(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    value = value.to(device=target.device, dtype=target.dtype)
    if isinstance(target, DTensor):
        target.copy_(distribute_tensor(value, target.device_mesh, target.placements))
    else:
        target.copy_(value)


def named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The parameters that it steps, by the names they have in a state."""
    named: dict[str, torch.Tensor] = {}
    for group in optimizer.param_groups:
        named.update(zip(group["names"], group["params"], strict=True))
    return named


def own_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage) -> dict[str, torch.Tensor]:
    """Every tensor of a run's state by name, as this process holds it."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in average.tensors.items()}
    for name, param in named_parameters(optimizer).items():
        for key, value in optimizer.state.get(param, {}).items():
            tensors[f"optim.{name}/{key}"] = torch.as_tensor(value)
    return tensors


def gather_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of whole tensors on the CPU; a collective call where they are sharded."""
    return {name: _full(value) for name, value in tensors.items()}


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
    """Write a state at once. Raises OutputError, with the old file intact, when the disk is full."""
    try:
        write_tensors(path, tensors, metadata={"state": json.dumps(asdict(state))})
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written ({error}); the state before it is intact: make room and start the same command "
            "again, it goes on from there"
        ) from error


class StateWriter:
    """Writes states beside the training, one after the other; what goes wrong is raised at the next, or at the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="femae-state")
        self._under_way: Future[None] | None = None

    def save(self, path: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
        """Write copies of tensors (gather_tensors) and of the state as it is. Raises OutputError of the last one."""
        self.wait()
        self._under_way = self._pool.submit(save_checkpoint, path, tensors, replace(state))

    def wait(self) -> None:
        """Until all is written. Raises OutputError when it could not be."""
        last, self._under_way = self._under_way, None
        if last is not None:
            last.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def read_state(path: Path) -> TrainState:
    """The JSON part. Raises TrainingError when the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return TrainState(**json.loads((file.metadata() or {})["state"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): delete it to start the run anew, or name another --out"
        ) from error


@torch.no_grad()
def load_checkpoint(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage
) -> TrainState:
    """Restore weights, moments and averages in place; returns the rest of the state."""
    state, tensors = read_state(path), load_file(path)
    for name, value in model.state_dict().items():
        _put(value, tensors[f"model.{name}"])
    for name, value in average.tensors.items():
        _put(value, tensors[f"ema.{name}"])
    average.steps = state.step
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optim."):
            parameter, _, key = name.removeprefix("optim.").rpartition("/")
            by_parameter.setdefault(parameter, {})[key] = value
    for name, param in named_parameters(optimizer).items():
        moments = {}
        for key, value in by_parameter.get(name, {}).items():
            if value.shape == param.shape and value.ndim:
                # the fused step walks memory, so a moment must lie in memory as its parameter does
                moments[key] = torch.zeros_like(param, requires_grad=False)
                _put(moments[key], value)
            else:
                moments[key] = value.to(param.device) if key != "step" else value
        if moments:
            optimizer.state[param] = moments
    return state
