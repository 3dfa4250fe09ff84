"""From row numbers to batches: out of memory, or read from the shards by worker processes."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from femae.config.model import ModelConfig
from femae.data.shard_reader import decode_picture, frame_picture
from femae.errors import DataError, TrainingError
from femae.training.order import RowStream
from femae.training.sets import FaceSet

__all__ = ["Batch", "BlockReader", "Share", "batches"]

_CACHED_BLOCKS: Final = 24
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B faces. False in a mask: unknown."""

    pixels: torch.Tensor  # u8[B, C, S, S]
    targets: torch.Tensor  # float[B, 6]
    mask: torch.Tensor  # bool[B, 6]
    au_targets: torch.Tensor  # float[B, 46], order of data.shards.ACTION_UNITS
    au_mask: torch.Tensor  # bool[B, 46]

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device) -> "Batch":
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return Batch(**moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The part of each step that one process works off, in `accumulate` pieces."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def pieces(self, total: int) -> list[tuple[int, int]]:
        """(first, count) of each piece within a step of `total` pictures."""
        parts = self.world_size * self.accumulate
        edges = [total * number // parts for number in range(parts + 1)]
        mine = range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)
        return [(edges[number], edges[number + 1] - edges[number]) for number in mine]


def make_batch(faces: FaceSet, rows: Ints, pixels: npt.NDArray[np.uint8]) -> Batch:
    """Labels of rows beside their pictures u8[B, C, S, S]."""
    return Batch(
        pixels=torch.from_numpy(pixels),
        targets=torch.from_numpy(faces.targets[rows]),
        mask=torch.from_numpy(faces.mask[rows]),
        au_targets=torch.from_numpy(faces.au_targets[rows]),
        au_mask=torch.from_numpy(faces.au_mask[rows]),
    )


class BlockReader:
    """Pictures by row number; keeps the row groups read last, which neighbours in the order share."""

    def __init__(self, faces: FaceSet, model: ModelConfig) -> None:
        self._faces, self._model = faces, model
        self._places = [(m.strings("shard"), m.numbers("row"), m.numbers("margin")) for m in faces.manifests]
        self._cache: OrderedDict[tuple[int, str, int], Any] = OrderedDict()

    def read(self, rows: Ints) -> npt.NDArray[np.uint8]:
        """u8[K, C, S, S]. Raises DataError naming the picture that is damaged."""
        size, channels = self._model.image_size, self._model.in_chans
        out = np.empty((len(rows), channels, size, size), np.uint8)
        for number, row in enumerate(rows.tolist()):
            folder, position = int(self._faces.folder[row]), int(self._faces.position[row])
            shards, places, margins = self._places[folder]
            block, offset = divmod(int(places[position]), 256)
            data = self._block(folder, shards[position], block)[offset].as_py()
            try:
                image = decode_picture(data)
            except DataError as error:
                key = self._faces.manifests[folder].table.column("key")[position].as_py()
                raise DataError(f"{self._faces.manifests[folder].folder}, {key}: {error}") from error
            margin = float(margins[position])
            picture = frame_picture(image, size=size, stored_margin=margin, gray=channels == 1)
            out[number] = picture.transpose(2, 0, 1)
        return out

    def _block(self, folder: int, shard: str, block: int) -> Any:
        key = (folder, shard, block)
        if key not in self._cache:
            path = self._faces.manifests[folder].folder / "shards" / shard
            try:
                with pq.ParquetFile(path) as file:
                    table: Any = file.read_row_group(block, columns=["image"])
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({error}); see `femae data doctor`") from error
            self._cache[key] = table.column("image").combine_chunks().field("bytes")
            if len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


class _Pieces(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Piece `i` of this process, counted over all steps."""

    def __init__(self, faces: FaceSet, stream: RowStream, share: Share, *, batch_size: int, model: ModelConfig) -> None:
        self._faces, self._stream, self._model = faces, stream, model
        self._pieces, self._share = share.pieces(batch_size), share
        self._reader: BlockReader | None = None

    def rows(self, number: int) -> Ints:
        step, piece = divmod(number, self._share.accumulate)
        first, count = self._pieces[piece]
        return self._stream.rows(step)[first : first + count]

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._reader is None:
            self._reader = BlockReader(self._faces, self._model)
        rows = self.rows(number)
        return torch.from_numpy(rows), torch.from_numpy(self._reader.read(rows))


def batches(
    faces: FaceSet,
    stream: RowStream,
    share: Share,
    *,
    batch_size: int,
    model: ModelConfig,
    first_step: int,
    last_step: int,
    workers: int,
) -> Iterator[Batch]:
    """Pieces of the steps first_step..last_step-1 in order, `share.accumulate` per step.

    Raises TrainingError when a reading process dies.
    """
    pieces = _Pieces(faces, stream, share, batch_size=batch_size, model=model)
    numbers = range(first_step * share.accumulate, last_step * share.accumulate)
    if faces.pictures is not None:
        for number in numbers:
            rows = pieces.rows(number)
            yield make_batch(faces, rows, faces.pictures[rows])
        return
    loader: Any = DataLoader(
        pieces,
        sampler=numbers,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    try:
        for rows, pixels in loader:
            yield make_batch(faces, rows.numpy(), pixels.numpy())
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise TrainingError(
                f"a reading process died ({' '.join(str(error).split())[:200]}); often memory ran out: lower "
                "data.workers, then start the same command again, it goes on from the last checkpoint"
            ) from error
        raise
