"""Resumable states of a run whose weights are sharded over processes (torch.distributed.checkpoint).

Every process writes its own part, in a thread, while training goes on: nothing is gathered. A state is a folder
`step-00000120` of parts with `state.json`, which is written last: a folder without it was cut off and does not count.
Any number of processes can take a state up, one without a process group too.
"""

import json
import shutil
import threading
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from femae.errors import OutputError, TrainingError
from femae.training.loop.checkpoint import TrainState, named_parameters
from femae.training.loop.ema import WeightAverage

__all__ = ["ShardedWriter", "is_sharded", "load_sharded", "newest_state", "read_sharded_state"]

_STATE: Final = "state.json"


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes hold parts of the weights."""
    return any(isinstance(param, DTensor) for param in model.parameters())


def newest_state(folder: Path) -> Path | None:
    """The whole state with the most steps in a folder of states; None where there is none."""
    whole = sorted(path.parent for path in folder.glob(f"step-*/{_STATE}"))
    return whole[-1] if whole else None


def read_sharded_state(path: Path) -> TrainState:
    """The JSON part. Raises TrainingError when it is damaged."""
    try:
        return TrainState(**json.loads((path / _STATE).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): delete it to go on from the state before, or name another --out"
        ) from error


class ShardedWriter:
    """Writes states beside the training, one after the other; every process calls it in the same order."""

    def __init__(self) -> None:
        self._group: Any = dist.new_group(backend="gloo")  # of its own: a thread talks there while training talks
        self._under_way: Future[Any] | None = None
        self._folder, self._state = Path(), TrainState()
        self._completing = threading.Lock()

    def save(self, folder: Path, tensors: dict[str, torch.Tensor], state: TrainState) -> None:
        """Begin to write tensors (own_tensors) and a state into a folder of states. Raises OutputError of the last."""
        self.wait()
        path = folder / f"step-{state.step:08d}"
        if dist.get_rank() == 0:
            shutil.rmtree(path, ignore_errors=True)
        dist.barrier(group=self._group)
        self._folder, self._state = path, replace(state)
        writer = FileSystemWriter(path, single_file_per_rank=True, sync_files=True)
        under_way: Any = async_save(tensors, storage_writer=writer, process_group=self._group)
        self._under_way = under_way
        if dist.get_rank() == 0:  # it is done when all are; what goes wrong is raised by wait
            under_way.add_done_callback(lambda done: None if done.exception() else self._complete())

    def wait(self) -> None:
        """Until the state is whole, and those before it are gone. Raises OutputError when it could not be written."""
        last, self._under_way = self._under_way, None
        if last is None:
            return
        try:
            last.result()
            if dist.get_rank() == 0:
                self._complete()
        except (CheckpointException, OSError, RuntimeError) as error:
            raise OutputError(
                f"{self._folder} cannot be written ({error}); the state before it is intact: make room and start the "
                "same command again, it goes on from there"
            ) from error

    def _complete(self) -> None:
        """Say that the state is whole, and remove those before it; by the thread that wrote it, or by wait."""
        with self._completing:
            if (self._folder / _STATE).exists():
                return
            partial = self._folder / f".{_STATE}"
            partial.write_text(json.dumps(asdict(self._state)), encoding="utf-8")
            partial.replace(self._folder / _STATE)
            for other in self._folder.parent.glob("step-*"):
                if other != self._folder:
                    shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """Wait for what is under way."""
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
        known = FileSystemReader(path).read_metadata().state_dict_metadata
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in average.tensors.items()}
        for name, param in named_parameters(optimizer).items():
            moments = {}
            prefix = f"optim.{name}/"
            for key in (key for key in known if key.startswith(prefix)):
                about = known[key]
                assert isinstance(about, TensorStorageMetadata)
                alike = about.size == param.shape and len(about.size) > 0
                # the fused step walks memory, so a moment must lie in memory as its parameter does
                fresh = torch.zeros_like(param, requires_grad=False) if alike else torch.zeros(about.size)
                moments[key.removeprefix(prefix)] = tensors[key] = fresh
            if moments:
                optimizer.state[param] = moments
        load(tensors, storage_reader=FileSystemReader(path))
    except (CheckpointException, OSError, EOFError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} is damaged ({type(error).__name__}: {error}): delete it to start the run anew, or name another "
            "--out"
        ) from error
    for param in named_parameters(optimizer).values():
        for key, value in optimizer.state.get(param, {}).items():
            if key != "step" and value.ndim == 0:
                optimizer.state[param][key] = value.to(param.device)
    average.steps = state.step
    return state
