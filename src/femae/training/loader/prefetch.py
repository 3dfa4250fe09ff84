"""Batches ahead of the step: gathered by threads into a ring of buffers, carried to the device while it computes.

The buffers are made once, pinned where a GPU reads them. A CUDA device gets its batches on a stream of its own, one
ahead of the step; nothing here waits for the device but the thread that refills a buffer whose copy is still under way.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice, pairwise
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Batch", "Filler", "prefetch"]

_AHEAD: Final = 3  # batches that are being gathered while one is trained on
_MIN_BYTES: Final = 1 << 20  # less than this is not worth a second thread
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B faces. False in a mask: unknown. On the CPU valid until the next batch is asked for."""

    pixels: torch.Tensor  # u8[B, C, S, S]
    targets: torch.Tensor  # float[B, 6]
    mask: torch.Tensor  # bool[B, 6]
    au_targets: torch.Tensor  # float[B, 46], order of data.shards.ACTION_UNITS
    au_mask: torch.Tensor  # bool[B, 46]
    taught: torch.Tensor | None = None  # float[B, 6 or 13] of tasks.teachers

    def __len__(self) -> int:
        return len(self.pixels)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    def to(self, device: torch.device) -> "Batch":
        """On CUDA without waiting for the copy."""
        free = device.type == "cuda"
        return Batch(**{name: value.to(device, non_blocking=free) for name, value in self.tensors().items()})


class Filler(Protocol):
    """Where batches come from; `fill` runs in many threads at once."""

    @property
    def threads(self) -> int: ...

    def empty(self, count: int, *, pinned: bool) -> Batch:
        """Room for `count` faces."""
        ...

    def fill(self, rows: Ints, batch: Batch) -> Any:
        """Put the faces of rows into a batch of as many; what it returns goes to `finish`."""
        ...

    def finish(self, batch: Batch, filled: list[Any]) -> Batch:
        """What is left to do where the batch is used, with what `fill` returned of each part."""
        ...


class _Buffer:
    """Memory for a batch, and what must end before it is filled again."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.copied: Any = None  # the event after the copy to the device

    def part(self, first: int, count: int) -> Batch:
        return Batch(**{name: value[first : first + count] for name, value in self._batch.tensors().items()})


def _parts(count: int, num_bytes: int, threads: int) -> list[tuple[int, int]]:
    """(first, count) of what each of the threads fills."""
    parts = max(1, min(threads, count, num_bytes // _MIN_BYTES + 1))
    edges = [count * number // parts for number in range(parts + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _fill(filler: Filler, buffer: _Buffer, rows: Ints, first: int) -> Any:
    if buffer.copied is not None:
        buffer.copied.synchronize()
    return filler.fill(rows, buffer.part(first, len(rows)))


def _gathered(
    filler: Filler, chunks: Iterable[Ints], *, longest: int, pinned: bool
) -> Iterator[tuple[_Buffer, int, list[Any]]]:
    """(buffer, count, what `fill` returned) in order; a buffer is the caller's until it asks for the next."""
    chunks = iter(chunks)
    if filler.threads == 0:
        only = _Buffer(filler.empty(longest, pinned=pinned))
        for rows in chunks:
            yield only, len(rows), [_fill(filler, only, rows, 0)]
        return
    buffers = deque(_Buffer(filler.empty(longest, pinned=pinned)) for _ in range(_AHEAD + 1))
    waiting: deque[tuple[_Buffer, int, list[Future[Any]]]] = deque()
    pool = ThreadPoolExecutor(filler.threads, thread_name_prefix="femae-gather")
    try:
        while True:
            for rows in islice(chunks, _AHEAD - len(waiting)):
                buffer = buffers.popleft()
                buffers.append(buffer)
                num_bytes = buffer.part(0, len(rows)).pixels.nbytes
                tasks = [
                    pool.submit(_fill, filler, buffer, rows[first : first + count], first)
                    for first, count in _parts(len(rows), num_bytes, filler.threads)
                ]
                waiting.append((buffer, len(rows), tasks))
            if not waiting:
                return
            buffer, count, tasks = waiting.popleft()
            yield buffer, count, [task.result() for task in tasks]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prefetch(
    filler: Filler, chunks: Iterable[Ints], *, longest: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The faces of each chunk of row numbers (at most `longest` each), in order, on the device.

    On the CPU a batch's tensors are used again for a later one: take what is to be kept out of them before asking on.
    """
    if device.type != "cuda":
        for buffer, count, filled in _gathered(filler, chunks, longest=longest, pinned=False):
            batch = buffer.part(0, count)
            yield filler.finish(batch if device.type == "cpu" else batch.to(device), filled)
        return
    yield from _carried(filler, chunks, longest=longest, device=device)


def _carried(filler: Filler, chunks: Iterable[Ints], *, longest: int, device: torch.device) -> Iterator[Batch]:
    """Copies run on a stream of their own; a batch is handed out when the one after it is on its way."""
    stream: Any = torch.cuda.Stream(device)
    ahead: deque[tuple[Batch, Any]] = deque()

    def hand_out() -> Batch:
        batch, copied = ahead.popleft()
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for value in batch.tensors().values():
            value.record_stream(current)  # its memory is not given to others before this stream is done with it
        return batch

    for buffer, count, filled in _gathered(filler, chunks, longest=longest, pinned=True):
        with torch.cuda.stream(stream):
            batch = filler.finish(buffer.part(0, count).to(device), filled)
            buffer.copied = stream.record_event()
        ahead.append((batch, buffer.copied))
        if len(ahead) > 1:
            yield hand_out()
    while ahead:
        yield hand_out()
