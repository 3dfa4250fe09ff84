"""What a stage is to the loop: a network, a loss, a validation, a weights file (DESIGN, house rule 5)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from femae.config.model import ModelConfig
from femae.config.train import StageConfig
from femae.training.draws import Draws
from femae.training.feed import Batch
from femae.training.sets import FaceSet

__all__ = ["Evaluation", "StepOutput", "Task", "normalise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutput:
    """What one piece of a step gives."""

    loss: torch.Tensor  # float[], with its graph
    log: Mapping[str, torch.Tensor] = field(default_factory=dict)  # parts of the loss, float[] each


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a validation found."""

    score: float  # larger is better; chooses the best weights
    log: Mapping[str, Any]  # numbers, or numbers by name
    tables: Mapping[str, pa.Table] = field(default_factory=dict)  # file name -> table


class Task(Protocol):
    """One training stage. `collect(rows, pixels) -> arrays` runs on shares of the rows; `judge` sees all of them."""

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

    def loss(self, forward: Callable[..., Any], batch: Batch, *, draws: Draws, progress: float) -> StepOutput:
        """The loss of one piece; `forward` is the network, maybe compiled or spread over devices."""
        ...

    def collect(self, forward: Callable[..., Any], batch: Batch, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Arrays of one chunk of validation rows, first dimension the rows."""
        ...

    def judge(self, collected: Mapping[str, npt.NDArray[Any]]) -> Evaluation:
        """Figures from the arrays of all rows, in order."""
        ...

    def save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        """Write the weights file of tensors by the model's names."""
        ...


def normalise(pixels: torch.Tensor, model: ModelConfig) -> torch.Tensor:
    """float[B, C, S, S] in 0..1 -> (pixels - mean) / std, in the memory layout that convolutions like."""
    mean = pixels.new_tensor(model.channel_values(model.mean))[:, None, None]
    std = pixels.new_tensor(model.channel_values(model.std))[:, None, None]
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
