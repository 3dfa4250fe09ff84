"""What a stage is to the loop: a network, a loss, a validation, a weights file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from femae.config.model import ModelConfig
from femae.config.train import StageConfig
from femae.training.loader.loader import Batch
from femae.training.loader.rng import RandomKeys
from femae.training.loader.sets import FaceSet

__all__ = ["Constants", "Evaluation", "StepOutput", "Task", "normalise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutput:
    """What one piece of a step gives."""

    loss: torch.Tensor  # float[], with its graph
    log: Mapping[str, torch.Tensor] = field(default_factory=dict)  # parts of the loss, float[] each


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The results of a validation."""

    score: float  # larger is better; chooses the best weights
    log: Mapping[str, Any]  # numbers, or numbers by name
    tables: Mapping[str, pa.Table] = field(default_factory=dict)  # file name -> table


class Task(Protocol):
    """One training stage. `collect` runs on shares of the rows; `evaluate` sees all of them."""

    @property
    def config(self) -> StageConfig: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def train_set(self) -> FaceSet: ...

    @property
    def val_set(self) -> FaceSet: ...

    def shown(self) -> npt.NDArray[np.float32]:
        """f32[N, C]: what each training row shows, for drawing rare labels more often."""
        ...

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: RandomKeys, progress: float) -> StepOutput:
        """The loss of one piece; `forward` is the network, maybe compiled or spread over devices."""
        ...

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the network for `count` pictures, from which its arithmetic is counted."""
        ...

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """What one chunk of validation rows (their numbers i64[B]) gives, first dimension the rows."""
        ...

    def evaluate(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        """Figures from the arrays of all rows, in order."""
        ...

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        """Write the weights file of tensors by the model's names."""
        ...


class Constants:
    """Tensors that a loss needs besides its batch; copied to a device once, not at each step."""

    def __init__(self, **tensors: torch.Tensor | None) -> None:
        self._host = tensors
        self._there: dict[torch.device, dict[str, Any]] = {}

    def on(self, device: torch.device) -> dict[str, Any]:
        """The tensors there, by name; None stays None."""
        if device not in self._there:
            moved = {name: None if value is None else value.to(device) for name, value in self._host.items()}
            self._there[device] = moved
        return self._there[device]


@cache
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """float[C, 1, 1], made once: carrying numbers over makes the host wait for the device."""
    return torch.tensor(values, device=device)[:, None, None]


def normalise(pixels: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """float[B, C, S, S] in 0..1 -> (pixels - mean) / std, in the memory layout that convolutions like."""
    mean = _channels(model.channel_values(model.mean), pixels.device)
    std = _channels(model.channel_values(model.std), pixels.device)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
