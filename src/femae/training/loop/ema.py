"""Exponential moving average of the weights (paper, section 4.2): `decay` stays on the average.

It lives beside the model as plain tensors, so that it costs one more copy of the weights and no second network, and
follows weights that are sharded over processes too.
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

    The smaller d of the first steps lets the average forget the weights that training began with. Buffers in whole
    numbers are copied. With decay 0 the average is the weights themselves, and costs nothing. A step is a few kernels
    over all tensors at once.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._model = model
        live = {name: value.detach() for name, value in model.state_dict().items()}
        self.tensors = live if decay == 0 else {name: value.clone() for name, value in live.items()}
        self._moving = [name for name, value in live.items() if value.is_floating_point()]
        self._counting = [name for name, value in live.items() if not value.is_floating_point()]
        sharded = any(isinstance(value, DTensor) for value in live.values())
        self._live = None if sharded else live  # where sharded weights lie may change from step to step

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.steps += 1
        if self.decay == 0:
            return
        current = self._model.state_dict() if self._live is None else self._live
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)
        average([self.tensors[name] for name in self._moving], [current[name] for name in self._moving], self.steps)
        for name in self._counting:
            self.tensors[name].copy_(current[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside this block, and its own again after it."""
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
