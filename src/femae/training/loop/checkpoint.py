"""Resumable checkpoints (states), of whole weights and of weights that are sharded over processes.

Randomness is a function of the step (rng.py, sampler.py), so the step number replaces sampler and generator states. A
state of whole weights is one safetensors file with the tensors and, in its metadata, the rest of the state as JSON: it
is written under a temporary name and renamed, so that a file under its final name is always complete.

With sharded weights every process writes its own part (torch.distributed.checkpoint) in a thread while training goes
on; nothing is gathered. A state is a folder `step-00000120` of parts with `state.json`, which is written last: a folder
without it is incomplete and ignored. Any number of processes can resume from it, even one without a process group.
"""

import json
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor, distribute_tensor

from femae.errors import OutputError, TrainingError
from femae.models.weights import write_tensors
from femae.training.loop.ema import WeightAverage

__all__ = [
    "BEST",
    "LAST",
    "ShardedWriter",
    "StateWriter",
    "TrainState",
    "gather_tensors",
    "is_sharded",
    "load_checkpoint",
    "load_sharded",
    "named_parameters",
    "newest_state",
    "own_tensors",
    "read_sharded_state",
    "read_state",
    "save_checkpoint",
]

LAST: Final = "checkpoint-last.safetensors"
BEST: Final = "checkpoint-best.safetensors"


@dataclass(kw_only=True, slots=True)
class TrainState:
    """The progress of a run, besides its tensors."""

    step: int = 0  # completed steps
    best_score: float | None = None
    best_epoch: int = 0
    bad_epochs: int = 0  # validations without a better score
    first_loss: float | None = None  # mean of the first steps, the reference for detecting an explosion
    loss_sum: float = 0.0  # of the current epoch
    loss_steps: int = 0
    config: str = ""  # fingerprint of the settings that a resumed run must share
    scaler: dict[str, Any] = field(default_factory=dict)  # state of the GradScaler (fp16)
    finished: bool = False


def _full_tensor(value: torch.Tensor) -> torch.Tensor:
    """A copy of the whole tensor on the CPU; a collective call if it is sharded over processes."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().cpu().contiguous().clone()


def _copy_into(target: torch.Tensor, value: torch.Tensor) -> None:
    """Copy a whole tensor into a target that may be sharded."""
    value = value.to(device=target.device, dtype=target.dtype)
    if isinstance(target, DTensor):
        target.copy_(distribute_tensor(value, target.device_mesh, target.placements))
    else:
        target.copy_(value)


def named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's parameters by the names they have in a state."""
    named: dict[str, torch.Tensor] = {}
    for group in optimizer.param_groups:
        named.update(zip(group["names"], group["params"], strict=True))
    return named


def own_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage) -> dict[str, torch.Tensor]:
    """Every tensor of a run's state (weights, average, moments) by name, as this process holds it."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in average.tensors.items()}
    for name, param in named_parameters(optimizer).items():
        for key, value in optimizer.state.get(param, {}).items():
            tensors[f"optim.{name}/{key}"] = torch.as_tensor(value)
    return tensors


def gather_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of whole tensors on the CPU; a collective call if they are sharded."""
    return {name: _full_tensor(value) for name, value in tensors.items()}


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
    """Write a state atomically. Raises OutputError, with the old file intact, when it cannot be written."""
    try:
        write_tensors(path, tensors, metadata={"state": json.dumps(asdict(state))})
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written ({error}); the previous state is intact: free some space and run the same "
            f"command again, it resumes from there"
        ) from error


class StateWriter:
    """Writes states in a thread while training goes on; an error is raised at the next call or at the end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="femae-state")
        self._pending: Future[None] | None = None

    def save(self, path: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
        """Begin to write tensors (copies from gather_tensors) and a copy of the state.

        Raises OutputError when the previous state could not be written.
        """
        self.wait()
        self._pending = self._pool.submit(save_checkpoint, path, tensors, replace(state))

    def wait(self) -> None:
        """Wait until the state is written. Raises OutputError when it could not be."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, then end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()


def read_state(path: Path) -> TrainState:
    """The state in a checkpoint file, without its tensors. Raises TrainingError when the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return TrainState(**json.loads((file.metadata() or {})["state"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): delete it to restart the run, or choose another --out"
        ) from error


@torch.no_grad()
def load_checkpoint(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage
) -> TrainState:
    """Restore weights, moments and averages in place; returns the rest of the state.

    Raises TrainingError when the file is damaged.
    """
    state, tensors = read_state(path), load_file(path)
    for name, value in model.state_dict().items():
        _copy_into(value, tensors[f"model.{name}"])
    for name, value in average.tensors.items():
        _copy_into(value, tensors[f"ema.{name}"])
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
                # the fused step requires that a moment has the memory layout of its parameter
                moments[key] = torch.zeros_like(param, requires_grad=False)
                _copy_into(moments[key], value)
            else:
                moments[key] = value.to(param.device) if key != "step" else value
        if moments:
            optimizer.state[param] = moments
    return state


_STATE: Final = "state.json"


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are sharded over processes."""
    return any(isinstance(param, DTensor) for param in model.parameters())


def newest_state(folder: Path) -> Path | None:
    """The complete state with the most steps in a folder of states; None if there is none."""
    complete = sorted(path.parent for path in folder.glob(f"step-*/{_STATE}"))
    return complete[-1] if complete else None


def read_sharded_state(path: Path) -> TrainState:
    """The content of a state's state.json. Raises TrainingError when it is damaged."""
    try:
        return TrainState(**json.loads((path / _STATE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): delete it to resume from the previous state, or choose another --out"
        ) from error


class ShardedWriter:
    """Writes sharded states while training goes on; all processes make the same calls in the same order."""

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo")  # separate, since its thread communicates during training
        self._pending: Future[Any] | None = None
        self._folder, self._state = Path(), TrainState()
        self._lock = threading.Lock()

    def save(self, folder: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
        """Begin to write tensors (own_tensors) and a state into a folder of states.

        Raises OutputError when the previous state could not be written.
        """
        self.wait()
        path = folder / f"step-{state.step:08d}"
        if dist.get_rank() == 0:
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier(group=self._group)
        self._folder, self._state = path, replace(state)
        writer = FileSystemWriter(path, single_file_per_rank=True, sync_files=True)
        pending: Any = async_save(tensors, storage_writer=writer, process_group=self._group)
        self._pending = pending
        if dist.get_rank() == 0:  # done when all processes are; errors are raised by wait
            pending.add_done_callback(lambda done: None if done.exception() else self._mark_complete())

    def wait(self) -> None:
        """Wait until the state is complete and older ones are removed. Raises OutputError when writing failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
            if dist.get_rank() == 0:
                self._mark_complete()
        except (CheckpointException, OSError, RuntimeError) as error:
            raise OutputError(
                f"{self._folder} cannot be written ({error}); the previous state is intact: free some space and run "
                f"the same command again, it resumes from there"
            ) from error

    def _mark_complete(self) -> None:
        """Write state.json and remove older states; called by the writing thread or by wait, whichever is first."""
        with self._lock:
            if (self._folder / _STATE).exists():
                return
            partial = self._folder / f".{_STATE}"
            partial.write_text(json.dumps(asdict(self._state)), encoding="utf-8")
            partial.replace(self._folder / _STATE)
            for other in self._folder.parent.glob("step-*"):
                if other != self._folder:
                    shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """Wait for the pending state."""
        self.wait()


@torch.no_grad()
def load_sharded(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage
) -> TrainState:
    """Restore weights, moments and averages in place, each process its own part; returns the rest of the state.

    Raises TrainingError when a part is missing or damaged.
    """
    state = read_sharded_state(path)
    try:
        stored = FileSystemReader(path).read_metadata().state_dict_metadata
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in average.tensors.items()}
        for name, param in named_parameters(optimizer).items():
            moments = {}
            prefix = f"optim.{name}/"
            for key in (key for key in stored if key.startswith(prefix)):
                metadata = stored[key]
                assert isinstance(metadata, TensorStorageMetadata)
                alike = metadata.size == param.shape and len(metadata.size) > 0
                # the fused step requires that a moment has the memory layout of its parameter
                empty = torch.zeros_like(param, requires_grad=False) if alike else torch.zeros(metadata.size)
                moments[key.removeprefix(prefix)] = tensors[key] = empty
            if moments:
                optimizer.state[param] = moments
        load(tensors, storage_reader=FileSystemReader(path))
    except (CheckpointException, OSError, EOFError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is damaged ({type(error).__name__}: {error}): delete it to restart the run, or choose another "
            f"--out"
        ) from error
    for param in named_parameters(optimizer).values():
        for key, value in optimizer.state.get(param, {}).items():
            if key != "step" and value.ndim == 0:
                optimizer.state[param][key] = value.to(param.device)
    average.steps = state.step
    return state
