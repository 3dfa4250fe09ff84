"""From row numbers to batches on the device: from memory, or read from the shards by threads."""

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
    """The part of each step that one process computes, in `accumulate` pieces."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def pieces(self, total: int) -> list[tuple[int, int]]:
        """(first, count) of each piece within a step of `total` pictures."""
        parts = self.world_size * self.accumulate
        edges = [total * number // parts for number in range(parts + 1)]
        mine = range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)
        return [(edges[number], edges[number + 1] - edges[number]) for number in mine]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderSpec:
    """Which faces the loader reads, how, and to which device it brings them."""

    faces: FaceSet
    model: ModelConfig  # says their size and colours
    device: torch.device
    workers: int = 0  # threads that read from the shards
    on_device: bool = False  # JPEG files are decoded there


class _Faces:
    """A set of faces as prefetch.Filler takes it: labels from memory, pictures from memory or the shards."""

    def __init__(self, feed: LoaderSpec) -> None:
        faces, model = feed.faces, feed.model
        self._faces, self._model, self._on_device = faces, model, feed.on_device and faces.pictures is None
        self._labels = (*_LABELS, "taught") if faces.taught is not None else _LABELS
        self._reader = None if faces.pictures is not None else BlockReader(faces, model)
        # copying runs at the speed of memory, which a few threads use up
        self.threads = feed.workers if self._reader is not None else min(4, num_cores())

    def empty(self, count: int, *, pinned: bool) -> Batch:
        size, faces = self._model.image_size, self._faces
        pixels = torch.empty(count, self._model.in_chans, size, size, dtype=torch.uint8, pin_memory=pinned)
        labels = {}
        for name in self._labels:
            column = getattr(faces, name)
            kind = torch.bool if column.dtype == np.bool_ else torch.float32
            labels[name] = torch.empty(count, *column.shape[1:], dtype=kind, pin_memory=pinned)
        return Batch(pixels=pixels, **labels)

    def fill(self, rows: Ints, batch: Batch) -> Any:
        for name in self._labels:
            _take(getattr(self._faces, name), rows, getattr(batch, name).numpy())
        if self._reader is None:
            assert self._faces.pictures is not None
            _take(self._faces.pictures, rows, batch.pixels.numpy())
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
        """Raise the DataError of the first picture that cannot be decoded, with its name."""
        assert self._reader is not None
        for row, data, _ in stored:
            try:
                decode_upright(data)
            except DataError as error:
                raise self._reader.named(row, error) from error


def _take(column: npt.NDArray[Any], rows: Ints, out: npt.NDArray[Any]) -> None:
    """Whole rows into `out`, without the interpreter lock; rows are known to exist (`clip` spares a second copy)."""
    if column.strides[0] == 0:  # all rows are one
        out[:] = column[:1]
        return
    np.take(column, rows, axis=0, out=out, mode="clip")


def row_batches(feed: LoaderSpec, chunks: Iterable[Ints], *, longest: int) -> Generator[Batch, None, None]:
    """The faces of each chunk of row numbers, at most `longest` each, in order."""
    return prefetch(_Faces(feed), chunks, longest=longest, device=feed.device)


def batches(feed: LoaderSpec, stream: RowStream, share: BatchShare, *, steps: range) -> Generator[Batch, None, None]:
    """Pieces of the steps in order, `share.accumulate` per step."""
    pieces = share.pieces(stream.batch_size)

    def chunks() -> Iterator[Ints]:
        for step in steps:
            rows = stream.rows(step)
            for first, count in pieces:
                yield rows[first : first + count]

    return row_batches(feed, chunks(), longest=max(count for _, count in pieces))
