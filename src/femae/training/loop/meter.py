"""Measures training while it runs: pictures per second, waiting for data, use of the device and its memory."""

import platform
import resource
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import torch
from lightning_fabric import Fabric

from femae.config.train import RunConfig
from femae.training.loader.loader import Batch

__all__ = ["Meter", "TimedIterator", "dense_peak", "machine"]

_SIDES: Final = {"cuda": 8192, "mps": 4096, "cpu": 1024}  # side of the matrices whose product is timed
_DTYPES: Final = {"bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "16-mixed": torch.float16}


class TimedIterator:
    """An iterator that measures how long the loop waited for it."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch = next(self._batches)
        self.waited_s += time.perf_counter() - started
        return batch


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@cache
def dense_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product in a run's precision, the best of four; measured once per process."""
    side, dtype = _SIDES.get(device.type, 2048), _DTYPES.get(precision, torch.float32)
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(4):
        _synchronize(device)
        started = time.perf_counter()
        left @ right
        _synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def machine(fabric: Fabric, config: RunConfig) -> dict[str, Any]:
    """The hardware and settings of a run for its log: kind and name of the device, processes, precision."""
    device = fabric.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    return {
        "accelerator": device.type,
        "device": name,
        "processes": fabric.world_size,
        "precision": config.precision,
        "strategy": "one process" if fabric.world_size == 1 else config.strategy.replace("auto", "ddp"),
        "compile": config.compile,
    }


def _memory_mb(device: torch.device) -> float:
    """Peak memory in MiB: of the GPU's allocator, else of the process (RSS)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Meter:
    """Measures throughput at moments when the loop has synchronised with the device anyway."""

    def __init__(self, fabric: Fabric, config: RunConfig, *, step: int, flops: float) -> None:
        """`step`: completed steps at the start; `flops`: per picture, forward and backward."""
        self._device, self._batch_size, self._flops = fabric.device, config.batch_size, flops
        self._peak = dense_peak(fabric.device, config.precision) * fabric.world_size
        self._step, self._time = step, time.perf_counter()

    def read(self, step: int, *, waited_s: float) -> dict[str, float]:
        """Measurements of the steps since the last call; `waited_s`: seconds the loop waited for batches meanwhile."""
        now = time.perf_counter()
        pictures, seconds = (step - self._step) * self._batch_size, max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return {
            "pictures_per_s": round(pictures / seconds, 1),
            "data_wait": round(min(waited_s / seconds, 1.0), 4),
            "mfu": round(self._flops * pictures / seconds / self._peak, 4),
            "memory_mb": round(_memory_mb(self._device), 1),
        }
