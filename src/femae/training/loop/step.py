"""One optimizer step, which never synchronises with the device, and losses that are read and checked in batches."""

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
    """The result of a step, still on the device; `loss` and `parts` are this process's summands of the whole step's."""

    loss: torch.Tensor  # float[]
    norm: torch.Tensor  # float[], of the whole gradient before clipping
    parts: dict[str, torch.Tensor] = field(default_factory=dict)  # float[] each, by name


def clip(optimizer: torch.optim.Optimizer, *, limit: float | None, scaler: Any = None) -> torch.Tensor:
    """Clip the gradient to the norm `limit`; returns its norm before, float[], not finite after an fp16 overflow.

    A fused optimizer would unscale fp16 gradients itself, after clipping; so with a `scaler` they are unscaled here,
    which GradScaler.step and the optimizer take into account.
    """
    if scaler is not None:
        scaler.unscale_(optimizer)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    norm = torch.nn.utils.get_total_norm([param.grad for param in params if param.grad is not None])
    if limit is not None and not _is_below(norm, limit):
        torch.nn.utils.clip_grads_with_norm_(params, limit, norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _is_below(norm: torch.Tensor, limit: float) -> bool:
    """Whether clipping would have no effect; False on accelerators, where reading the norm would synchronise."""
    if isinstance(norm, DTensor) or norm.device.type != "cpu":
        return False
    return float(norm.numpy()) + 1e-6 <= limit


@dataclass(kw_only=True, slots=True)
class TrainStep:
    """The network in training, with its optimizer and average: everything that a step updates."""

    task: Task
    fabric: Fabric
    forward: Any  # the network, wrapped by Fabric
    optimizer: Any  # wrapped by Fabric
    average: WeightAverage
    share: BatchShare
    drop_paths: list[DropPath] = field(init=False)

    def __post_init__(self) -> None:
        self.drop_paths = DropPath.of(self.task.model)

    def step(self, pieces: Iterator[Batch], number: int, *, progress: float) -> StepResult:
        """Run step `number` on its pieces of gradient accumulation; `progress` 0..1 of the run."""
        run, fabric = self.task.config.run, self.fabric
        spans, total = self.share.pieces(run.batch_size), run.batch_size
        seed = mix_seed(run.seed, "draws", number)
        losses: list[torch.Tensor] = []
        parts: dict[str, torch.Tensor] = {}
        for piece, (first, count) in enumerate(spans):
            batch = next(pieces)
            draws = RandomKeys(seed, first=first, count=count, device=fabric.device)
            uniforms = draws.uniform(DrawPurpose.PATHS, len(self.drop_paths)).unbind(1)
            for drop_path, numbers in zip(self.drop_paths, uniforms, strict=True):
                drop_path.uniforms = numbers
            is_last = piece + 1 == len(spans)  # only the last piece synchronises gradients between processes
            with fabric.no_backward_sync(self.forward, enabled=not is_last and fabric.world_size > 1):
                output = self.task.loss(self.forward, batch, draws=draws, progress=progress)
                weight = count * fabric.world_size / total  # mean over the pictures of the whole step
                fabric.backward(output.loss * weight)
            losses.append(output.loss.detach() * (count / total))
            for name, value in output.log.items():
                share = value.detach() * (count / total)
                parts[name] = parts[name] + share if name in parts else share
        norm = self._update_weights()
        return StepResult(loss=torch.stack(losses).sum(), norm=norm, parts=parts)

    def _update_weights(self) -> torch.Tensor:
        scaler = getattr(self.fabric._precision, "scaler", None)
        norm = clip(self.optimizer.optimizer, limit=self.task.config.optim.clip_norm, scaler=scaler)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return norm


_FIRST_STEPS: Final = 20  # their mean loss is the reference for detecting an explosion


class PendingLosses:
    """Losses of the steps since the last read; every value is checked before any state of the run is written."""

    def __init__(self, config: RunConfig, *, world_size: int, where: Path, epoch_of: Callable[[int], float]) -> None:
        self._config, self._world_size, self._where, self._epoch_of = config, world_size, where, epoch_of
        self._results: list[StepResult] = []

    def add(self, result: StepResult) -> None:
        """Keep the result of a step, without synchronising with the device."""
        self._results.append(result)

    def read(self, state: TrainState) -> tuple[float, dict[str, float], float]:
        """Synchronise; returns loss, its parts and the gradient norm of the last step.

        Adds the losses of all steps to `state`. Raises TrainingError, naming the step, when a value is not finite or
        explodes. A collective call: all processes read at the same steps.
        """
        results, self._results = self._results, []
        names = list(results[-1].parts)
        values = torch.stack([result.loss for result in results] + [results[-1].parts[name] for name in names])
        if self._world_size > 1:
            torch.distributed.all_reduce(values)
        norms = torch.stack([result.norm.to(values.device) for result in results])
        numbers = torch.cat([values.float(), norms.float()]).tolist()
        count = len(results)
        losses, parts, grad_norms = numbers[:count], numbers[count:-count], numbers[-count:]
        for step, (loss, norm) in enumerate(zip(losses, grad_norms, strict=True), state.step - count + 1):
            state.loss_sum += loss
            state.loss_steps += 1
            self._check(state, step=step, loss=loss, norm=norm)
        return losses[-1], dict(zip(names, parts, strict=True)), grad_norms[-1]

    def _check(self, state: TrainState, *, step: int, loss: float, norm: float) -> None:
        problem = ""
        if not math.isfinite(loss):
            problem = "the loss is not finite"
        elif not math.isfinite(norm) and self._config.precision != "16-mixed":
            problem = "the gradient is not finite"
        elif state.first_loss is None and state.loss_steps == _FIRST_STEPS:
            state.first_loss = state.loss_sum / _FIRST_STEPS
        elif state.first_loss is not None and loss > self._config.explode * abs(state.first_loss):
            problem = f"the loss is {loss:.3g}, more than {self._config.explode:g} times that of the first steps"
        if problem:
            raise TrainingError(
                f"{problem} at step {step} (epoch {self._epoch_of(step):.2f}); {self._where} keeps its last state and "
                "best weights: try a lower optim.lr, a longer optim.warmup_epochs or run.precision 32-true"
            )
