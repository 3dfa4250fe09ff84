"""Prefetches batches: threads gather them into a ring of buffers, which are copied to the device while it computes.

The buffers are allocated once, pinned for a GPU. A CUDA device gets its batches on a separate stream, one queue of the
step; only a thread that refills a buffer whose copy is still running waits for the device.
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

_AHEAD: Final = 3  # batches that are gathered while one is trained on
_MIN_BYTES: Final = 1 << 20  # of pixels per thread
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B faces with labels; False in a mask: unknown. On the CPU, valid only until the next batch is requested."""

    pixels: torch.Tensor  # u8[B, C, S, S]
    targets: torch.Tensor  # float[B, 6]
    mask: torch.Tensor  # bool[B, 6]
    au_targets: torch.Tensor  # float[B, 46], in the order of data.store.shards.ACTION_UNITS
    au_mask: torch.Tensor  # bool[B, 46]
    soft_targets: torch.Tensor | None = None  # float[B, 6 or 13], soft targets from tasks.teachers

    def __len__(self) -> int:
        return len(self.pixels)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by field name, without those that are None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; the copy to CUDA does not block."""
        non_blocking = device.type == "cuda"
        return Batch(**{name: value.to(device, non_blocking=non_blocking) for name, value in self.tensors().items()})


class Filler(Protocol):
    """A source of batches; `fill` runs in many threads at once."""

    @property
    def threads(self) -> int: ...

    def empty(self, count: int, *, pinned: bool) -> Batch:
        """Allocate a batch of `count` faces."""
        ...

    def fill(self, rows: Ints, batch: Batch) -> Any:
        """Write the faces of `rows` into a batch of the same length; the return value is passed to `finish`."""
        ...

    def finish(self, batch: Batch, filled: list[Any]) -> Batch:
        """Complete a batch on its device; `filled` has what `fill` returned for each of its parts."""
        ...


class _Buffer:
    """Memory of a batch, and the event to wait for before it is filled again."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self.copied: Any = None  # CUDA event recorded after the copy to the device

    def part(self, first: int, count: int) -> Batch:
        return Batch(**{name: value[first : first + count] for name, value in self._batch.tensors().items()})


def _parts(count: int, num_bytes: int, threads: int) -> list[tuple[int, int]]:
    """(first, count) of the part that each thread fills."""
    parts = max(1, min(threads, count, num_bytes // _MIN_BYTES + 1))
    edges = [count * number // parts for number in range(parts + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _fill(filler: Filler, buffer: _Buffer, rows: Ints, first: int) -> Any:
    if buffer.copied is not None:
        buffer.copied.synchronize()
    return filler.fill(rows, buffer.part(first, len(rows)))


def _gather(
    filler: Filler, chunks: Iterable[Ints], *, longest: int, pinned: bool
) -> Iterator[tuple[_Buffer, int, list[Any]]]:
    """Yield (buffer, count, results of `fill`) in order; a buffer belongs to the caller until it requests the next."""
    chunks = iter(chunks)
    if filler.threads == 0:
        buffer = _Buffer(filler.empty(longest, pinned=pinned))
        for rows in chunks:
            yield buffer, len(rows), [_fill(filler, buffer, rows, 0)]
        return
    buffers = deque(_Buffer(filler.empty(longest, pinned=pinned)) for _ in range(_AHEAD + 1))
    pending: deque[tuple[_Buffer, int, list[Future[Any]]]] = deque()
    pool = ThreadPoolExecutor(filler.threads, thread_name_prefix="femae-gather")
    try:
        while True:
            for rows in islice(chunks, _AHEAD - len(pending)):
                buffer = buffers.popleft()
                buffers.append(buffer)
                num_bytes = buffer.part(0, len(rows)).pixels.nbytes
                futures = [
                    pool.submit(_fill, filler, buffer, rows[first : first + count], first)
                    for first, count in _parts(len(rows), num_bytes, filler.threads)
                ]
                pending.append((buffer, len(rows), futures))
            if not pending:
                return
            buffer, count, futures = pending.popleft()
            yield buffer, count, [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prefetch(
    filler: Filler, chunks: Iterable[Ints], *, longest: int, device: torch.device
) -> Generator[Batch, None, None]:
    """Yield one batch on `device` for each chunk of row numbers (at most `longest` each), in order.

    On the CPU a batch's tensors are reused for a later one: copy what is to be kept before requesting the next.
    """
    if device.type != "cuda":
        for buffer, count, filled in _gather(filler, chunks, longest=longest, pinned=False):
            batch = buffer.part(0, count)
            yield filler.finish(batch if device.type == "cpu" else batch.to(device), filled)
        return
    yield from _copy_to_cuda(filler, chunks, longest=longest, device=device)


def _copy_to_cuda(filler: Filler, chunks: Iterable[Ints], *, longest: int, device: torch.device) -> Iterator[Batch]:
    """Copy batches on a separate CUDA stream; a batch is yielded once the copy of the next one has been enqueued."""
    stream: Any = torch.cuda.Stream(device)
    queue: deque[tuple[Batch, Any]] = deque()

    def pop_batch() -> Batch:
        batch, copied = queue.popleft()
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for value in batch.tensors().values():
            value.record_stream(current)  # the allocator must not reuse the memory before this stream is done with it
        return batch

    for buffer, count, filled in _gather(filler, chunks, longest=longest, pinned=True):
        with torch.cuda.stream(stream):
            batch = filler.finish(buffer.part(0, count).to(device), filled)
            buffer.copied = stream.record_event()
        queue.append((batch, buffer.copied))
        if len(queue) > 1:
            yield pop_batch()
    while queue:
        yield pop_batch()
