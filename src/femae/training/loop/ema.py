"""Exponential moving average of the weights (paper, section 4.2): `decay` is the weight of the old average.

It is held as plain tensors beside the model: one more copy of the weights, no second network, and it works for weights
that are sharded over processes too.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """average = d * average + (1 - d) * weights after each step, d = min(decay, (1 + n) / (10 + n)) at step n.

    The smaller d of the first steps lets the average forget the initial weights. Integer buffers are copied. With
    decay 0 the average is the weights themselves, at no cost. An update is a few multi-tensor kernels.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._model = model
        live = {name: value.detach() for name, value in model.state_dict().items()}
        self.tensors = live if decay == 0 else {name: value.clone() for name, value in live.items()}
        self._averaged = [name for name, value in live.items() if value.is_floating_point()]
        self._copied = [name for name, value in live.items() if not value.is_floating_point()]
        sharded = any(isinstance(value, DTensor) for value in live.values())
        self._live = None if sharded else live  # the storage of sharded weights may change from step to step

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        self.steps += 1
        if self.decay == 0:
            return
        current = self._model.state_dict() if self._live is None else self._live
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)
        average([self.tensors[name] for name in self._averaged], [current[name] for name in self._averaged], self.steps)
        for name in self._copied:
            self.tensors[name].copy_(current[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the averaged weights; its own are restored afterwards."""
        if self.decay == 0:
            yield
            return
        own = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        _copy(self._model, self.tensors)
        try:
            yield
        finally:
            _copy(self._model, own)


@torch.no_grad()
def _copy(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    for name, value in model.state_dict().items():
        value.copy_(tensors[name])
