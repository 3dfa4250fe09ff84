"""Losses and gradient norms: kept on the device for some steps, then read at once and judged."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
import torch.distributed

from femae.config.train import RunConfig
from femae.errors import TrainingError
from femae.training.loop.checkpoint import TrainState
from femae.training.loop.step import StepResult

__all__ = ["Readings"]

_FIRST_STEPS: Final = 20  # whose mean loss tells an explosion


class Readings:
    """What steps gave since it was last read. Each value is judged, and before anything of the run is written."""

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
            what = f"the loss is {loss:.3g}, over {self._config.explode:g} times that of the first steps"
        if what:
            raise TrainingError(
                f"{what} at step {step} (epoch {self._epoch_of(step):.2f}); {self._where} keeps its last state and "
                "best weights: try a lower optim.lr, a longer optim.warmup_epochs or run.precision 32-true"
            )
