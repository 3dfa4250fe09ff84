"""The protocol by which the loop trains a stage: a network, a loss, a validation, a weights file."""

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
    """The loss of one piece of a step."""

    loss: torch.Tensor  # float[], with its graph
    log: Mapping[str, torch.Tensor] = field(default_factory=dict)  # parts of the loss, float[] each


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The result of a validation."""

    score: float  # larger is better; selects the best weights
    log: Mapping[str, Any]  # numbers, or nested mappings of numbers
    tables: Mapping[str, pa.Table] = field(default_factory=dict)  # file name -> table


class Task(Protocol):
    """One training stage. `collect` runs on each process's share of validation rows; `evaluate` gets all of them."""

    @property
    def config(self) -> StageConfig: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def train_set(self) -> FaceSet: ...

    @property
    def val_set(self) -> FaceSet: ...

    def balance_targets(self) -> npt.NDArray[np.float32]:
        """Targets f32[N, C] of the training rows (unknown ones 0), for drawing rare labels more often."""
        ...

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: RandomKeys, progress: float) -> StepOutput:
        """The loss of one piece; `forward` is the network, possibly compiled or wrapped for several devices."""
        ...

    def example(self, count: int) -> tuple[torch.Tensor, ...]:
        """Example inputs of the network for `count` pictures, for counting FLOPs."""
        ...

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs for one chunk of validation rows (numbers i64[B]) by name, with first dimension B."""
        ...

    def evaluate(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        """Metrics from the collected arrays of all validation rows, in order."""
        ...

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        """Write a weights file with `tensors` by the model's parameter names."""
        ...


class Constants:
    """Tensors that a loss needs besides its batch; copied to each device once, not at every step."""

    def __init__(self, **tensors: torch.Tensor | None) -> None:
        self._host = tensors
        self._by_device: dict[torch.device, dict[str, Any]] = {}

    def on(self, device: torch.device) -> dict[str, Any]:
        """The tensors on a device, by name; None stays None."""
        if device not in self._by_device:
            moved = {name: None if value is None else value.to(device) for name, value in self._host.items()}
            self._by_device[device] = moved
        return self._by_device[device]


@cache
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """float[C, 1, 1], cached: copying host values to the device would synchronise at every step."""
    return torch.tensor(values, device=device)[:, None, None]


def normalise(pixels: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """float[B, C, S, S] in 0..1 -> (pixels - mean) / std, float[B, C, S, S] in channels_last layout."""
    mean = _channels(model.channel_values(model.mean), pixels.device)
    std = _channels(model.channel_values(model.std), pixels.device)
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
