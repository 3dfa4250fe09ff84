"""One step of the optimizer, which never waits for the device, and losses that are read and checked together."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch.distributed.tensor import DTensor

from femae.config.train import RunConfig
from femae.errors import TrainingError
from femae.models.vit import DropPath
from femae.training.loader.loader import Batch, BatchShare
from femae.training.loader.rng import DrawPurpose, RandomKeys, mix_seed
from femae.training.loop.checkpoint import TrainState
from femae.training.loop.ema import WeightAverage
from femae.training.loop.task import Task

__all__ = [
    "PendingLosses",
    "StepResult",
    "TrainStep",
    "clip",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What a step gave, on the device still; `losses` of this process's pictures, as parts of the whole step's."""

    loss: torch.Tensor  # float[]
    norm: torch.Tensor  # float[], of the whole gradient before it was clipped
    parts: dict[str, torch.Tensor] = field(default_factory=dict)  # float[] each


def clip(optimizer: torch.optim.Optimizer, *, limit: float | None, scaler: Any = None) -> torch.Tensor:
    """Scale the gradient down to the norm `limit`; returns its norm before, float[], not finite where fp16 ran over.

    A fused optimizer divides by the scale of fp16 itself, after the clipping; so with a `scaler` the gradient is
    brought to its true size here, which GradScaler.step and the optimizer then know.
    """
    if scaler is not None:
        scaler.unscale_(optimizer)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    norm = torch.nn.utils.get_total_norm([param.grad for param in params if param.grad is not None])
    if limit is not None and not _lies_below(norm, limit):
        torch.nn.utils.clip_grads_with_norm_(params, limit, norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _lies_below(norm: torch.Tensor, limit: float) -> bool:
    """Whether clipping would multiply by 1: told on the CPU alone, where looking waits for nothing."""
    if isinstance(norm, DTensor) or norm.device.type != "cpu":
        return False
    return float(norm.numpy()) + 1e-6 <= limit


@dataclass(kw_only=True, slots=True)
class TrainStep:
    """The network in training, with its optimizer and average: everything that a step changes."""

    task: Task
    fabric: Fabric
    forward: Any  # the network, as fabric wraps it
    optimizer: Any  # as fabric wraps it
    average: WeightAverage
    share: BatchShare
    paths: list[DropPath] = field(init=False)

    def __post_init__(self) -> None:
        self.paths = DropPath.of(self.task.model)

    def step(self, pieces: Iterator[Batch], number: int, *, progress: float) -> StepResult:
        """Step `number` of the run over its pieces; `progress` 0..1 of the run."""
        run, fabric = self.task.config.run, self.fabric
        spans, total = self.share.pieces(run.batch_size), run.batch_size
        seed = mix_seed(run.seed, "draws", number)
        losses: list[torch.Tensor] = []
        parts: dict[str, torch.Tensor] = {}
        for place, (first, count) in enumerate(spans):
            batch = next(pieces)
            draws = RandomKeys(seed, first=first, count=count, device=fabric.device)
            for path, chances in zip(
                self.paths, draws.uniform(DrawPurpose.PATHS, len(self.paths)).unbind(1), strict=True
            ):
                path.chances = chances
            last = place + 1 == len(spans)  # the pieces before add to the gradient without asking other processes
            with fabric.no_backward_sync(self.forward, enabled=not last and fabric.world_size > 1):
                output = self.task.loss(self.forward, batch, draws=draws, progress=progress)
                weight = count * fabric.world_size / total  # mean over the pictures of the whole step
                fabric.backward(output.loss * weight)
            losses.append(output.loss.detach() * (count / total))
            for name, value in output.log.items():
                share = value.detach() * (count / total)
                parts[name] = parts[name] + share if name in parts else share
        norm = self._finish()
        return StepResult(loss=torch.stack(losses).sum(), norm=norm, parts=parts)

    def _finish(self) -> torch.Tensor:
        scaler = getattr(self.fabric._precision, "scaler", None)
        norm = clip(self.optimizer.optimizer, limit=self.task.config.optim.clip_norm, scaler=scaler)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return norm


_FIRST_STEPS: Final = 20  # whose mean loss tells an explosion


class PendingLosses:
    """Losses of the steps since the last reading. Each value is checked, before anything of the run is written."""

    def __init__(self, config: RunConfig, *, world_size: int, where: Path, epoch_of: Callable[[int], float]) -> None:
        self._config, self._world_size, self._where, self._epoch_of = config, world_size, where, epoch_of
        self._waiting: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        """Take in what a step gave, without looking at it."""
        self._waiting.append(result)

    def read(self, state: TrainState) -> tuple[float, dict[str, float], float]:
        """Wait for the device; loss, its parts and the gradient's norm of the last step.

        The losses of all steps go into `state`. Raises TrainingError, naming the step, where one is not finite or
        explodes. All processes read at the same steps.
        """
        steps, self._waiting = self._waiting, []
        names = list(steps[-1].parts)
        values = torch.stack([step.loss for step in steps] + [steps[-1].parts[name] for name in names])
        if self._world_size > 1:
            torch.distributed.all_reduce(values)
        norms = torch.stack([step.norm.to(values.device) for step in steps])
        numbers = torch.cat([values.float(), norms.float()]).tolist()
        losses, parts, norm = numbers[: len(steps)], numbers[len(steps) : -len(steps)], numbers[-len(steps) :]
        for place, (loss, length) in enumerate(zip(losses, norm, strict=True)):
            state.loss_sum += loss
            state.loss_steps += 1
            self._judge(state, step=state.step - len(steps) + 1 + place, loss=loss, norm=length)
        return losses[-1], dict(zip(names, parts, strict=True)), norm[-1]

    def _judge(self, state: TrainState, *, step: int, loss: float, norm: float) -> None:
        what = ""
        if not math.isfinite(loss):
            what = "the loss is not finite"
        elif not math.isfinite(norm) and self._config.precision != "16-mixed":
            what = "the gradient is not finite"
        elif state.first_loss is None and state.loss_steps == _FIRST_STEPS:
            state.first_loss = state.loss_sum / _FIRST_STEPS
        elif state.first_loss is not None and loss > self._config.explode * abs(state.first_loss):
            what = f"the loss is {loss:.3g}, more than {self._config.explode:g} times that of the first steps"
        if what:
            raise TrainingError(
                f"{what} at step {step} (epoch {self._epoch_of(step):.2f}); {self._where} keeps its last state and "
                "best weights: try a lower optim.lr, a longer optim.warmup_epochs or run.precision 32-true"
            )
