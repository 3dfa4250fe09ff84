"""Exponential moving average of the weights (paper, section 4.2): `decay` stays on the average.

It lives beside the model as plain tensors, so that it costs one more copy of the weights and no second network, and
follows weights that are sharded over processes too.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """average = d * average + (1 - d) * weights after each step, d = min(decay, (1 + n) / (10 + n)) at step n.

    The smaller d of the first steps lets the average forget the weights that training began with. Buffers in whole
    numbers are copied. With decay 0 the average is the weights themselves.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._model = model
        self.tensors = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = self._model.state_dict()
        moving = [name for name, value in current.items() if value.is_floating_point()]
        if decay > 0 and self.decay > 0:
            average = get_ema_multi_avg_fn(decay)
            average([self.tensors[name] for name in moving], [current[name] for name in moving], self.steps)
        for name, value in current.items():
            if self.decay == 0 or not value.is_floating_point():
                self.tensors[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside this block, and its own again after it."""
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
