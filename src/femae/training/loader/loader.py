"""Turns row numbers into batches on the device: from memory, or read from the shards by threads."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from femae.config.model import ModelConfig
from femae.cores import num_cores
from femae.errors import DataError
from femae.training.loader.block_reader import BlockReader, decode_on, decode_upright
from femae.training.loader.prefetch import Batch, prefetch
from femae.training.loader.sampler import RowStream
from femae.training.loader.sets import FaceSet

__all__ = ["Batch", "BatchShare", "LoaderSpec", "batches", "row_batches"]

_LABELS: Final = ("targets", "mask", "au_targets", "au_mask")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchShare:
    """The share of each step that one process computes, in `accumulate` pieces (gradient accumulation)."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def pieces(self, total: int) -> list[tuple[int, int]]:
        """(first, count) of each of this process's pieces within a step of `total` pictures."""
        parts = self.world_size * self.accumulate
        edges = [total * number // parts for number in range(parts + 1)]
        own_parts = range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)
        return [(edges[number], edges[number + 1] - edges[number]) for number in own_parts]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpec:
    """Which faces the loader reads, how, and to which device it copies them."""

    faces: FaceSet
    model: ModelConfig  # gives image size and channels
    device: torch.device
    workers: int = 0  # threads that read from the shards
    on_device: bool = False  # decode JPEG files on the device


class _FaceSetFiller:
    """The prefetch.Filler of a FaceSet: labels from memory, pictures from memory or from the shards."""

    def __init__(self, spec: LoaderSpec) -> None:
        faces, model = spec.faces, spec.model
        self._faces, self._model, self._on_device = faces, model, spec.on_device and faces.pictures is None
        self._labels = (*_LABELS, "soft_targets") if faces.soft_targets is not None else _LABELS
        self._reader = None if faces.pictures is not None else BlockReader(faces, model)
        # copying is limited by memory bandwidth, which a few threads saturate
        self.threads = spec.workers if self._reader is not None else min(4, num_cores())

    def empty(self, count: int, *, pinned: bool) -> Batch:
        size, faces = self._model.image_size, self._faces
        pixels = torch.empty(count, self._model.in_chans, size, size, dtype=torch.uint8, pin_memory=pinned)
        labels = {}
        for name in self._labels:
            column = getattr(faces, name)
            dtype = torch.bool if column.dtype == np.bool_ else torch.float32
            labels[name] = torch.empty(count, *column.shape[1:], dtype=dtype, pin_memory=pinned)
        return Batch(pixels=pixels, **labels)

    def fill(self, rows: Ints, batch: Batch) -> Any:
        for name in self._labels:
            _take_rows(getattr(self._faces, name), rows, getattr(batch, name).numpy())
        if self._reader is None:
            assert self._faces.pictures is not None
            _take_rows(self._faces.pictures, rows, batch.pixels.numpy())
        elif self._on_device:
            return [(row, *stored) for row, stored in zip(rows.tolist(), self._reader.encoded(rows), strict=True)]
        else:
            self._reader.fill(rows, batch.pixels.numpy())
        return None

    def finish(self, batch: Batch, filled: list[Any]) -> Batch:
        if not self._on_device:
            return batch
        size, channels = self._model.image_size, self._model.in_chans
        stored = [picture for part in filled for picture in part]
        encoded = [(data, margin) for _, data, margin in stored]
        try:
            pixels = decode_on(encoded, device=batch.pixels.device, size=size, channels=channels)
        except DataError:
            self._name_damaged(stored)
            raise
        return replace(batch, pixels=pixels)

    def _name_damaged(self, stored: list[tuple[int, bytes, float]]) -> None:
        """Decode one picture at a time on the host to raise a DataError that names the first damaged one."""
        assert self._reader is not None
        for row, data, _ in stored:
            try:
                decode_upright(data)
            except DataError as error:
                raise self._reader.named(row, error) from error


def _take_rows(column: npt.NDArray[Any], rows: Ints, out: npt.NDArray[Any]) -> None:
    """Copy rows into `out` without holding the GIL; all rows exist, so `clip` only avoids np.take's buffered mode."""
    if column.strides[0] == 0:  # a broadcast row
        out[:] = column[:1]
        return
    np.take(column, rows, axis=0, out=out, mode="clip")


def row_batches(spec: LoaderSpec, chunks: Iterable[Ints], *, longest: int) -> Generator[Batch, None, None]:
    """Yield one batch on `spec.device` for each chunk of row numbers, in order; no chunk has more than `longest`."""
    return prefetch(_FaceSetFiller(spec), chunks, longest=longest, device=spec.device)


def batches(spec: LoaderSpec, stream: RowStream, share: BatchShare, *, steps: range) -> Generator[Batch, None, None]:
    """Yield this process's batches of the given steps in order, `share.accumulate` per step."""
    pieces = share.pieces(stream.batch_size)

    def chunks() -> Iterator[Ints]:
        for step in steps:
            rows = stream.rows(step)
            for first, count in pieces:
                yield rows[first : first + count]

    return row_batches(spec, chunks(), longest=max(count for _, count in pieces))
