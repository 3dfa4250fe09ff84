"""Pictures of a stream: row groups of the shards, decoded by threads that release the interpreter lock meanwhile.

torchvision's decoders of JPEG and PNG are the same libraries that Pillow's are and give the same pixels; what they do
not read as 8 bits of gray or RGB goes to Pillow. Where the encoded bytes are asked for, device_decode.py decodes them
on the accelerator.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision.io import ImageReadMode, decode_image

from femae.config.model import ModelConfig
from femae.data.store.addresses import open_parquet
from femae.data.store.shard_reader import decode_picture, frame_picture, read_group
from femae.errors import DataError
from femae.training.loader.sets import BLOCK_ROWS, FaceSet

__all__ = ["BlockReader", "decode_upright"]

_CACHED_BLOCKS: Final = 24
_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


def _plain(data: bytes) -> bool:
    """Is this a JPEG, or a PNG of 8 bits of gray or RGB without a palette, by its header?"""
    return data[:2] == _JPEG or (data[:8] == _PNG and len(data) > 25 and data[24] == 8 and data[25] in (0, 2))


def decode_upright(data: bytes) -> Pixels:
    """Bytes of a picture -> u8[C, H, W], C = 1 where it is stored as gray, else 3 (RGB); orientation tags applied.

    Raises DataError when they are damaged.
    """
    if _plain(data):
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image = decode_image(encoded, ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        except RuntimeError:
            return decode_picture(data).transpose(2, 0, 1)  # says what is damaged
        if image.shape[0] in (1, 3):
            return image.numpy()
    return decode_picture(data).transpose(2, 0, 1)


def _fit(image: Pixels, *, size: int, channels: int, margin: float) -> Pixels:
    """u8[1 or 3, H, W] -> u8[channels, size, size] as data.shard_reader.frame_picture does it."""
    fits = image.shape[1:] == (size, size) and margin == 1.0
    if fits and image.shape[0] in (1, channels):
        return image
    full = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))  # [H, W, 3]
    return frame_picture(full, size=size, stored_margin=margin, gray=channels == 1).transpose(2, 0, 1)


class BlockReader:
    """Pictures by row number, for many threads; keeps the row groups read last, which neighbours in the order share."""

    def __init__(self, faces: FaceSet, model: ModelConfig) -> None:
        self._faces, self._model = faces, model
        self._blocks: OrderedDict[tuple[Path, int], Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, rows: Ints, out: Pixels) -> None:
        """Put the pictures of rows into `out` u8[K, C, S, S]. Raises DataError naming the picture that is damaged."""
        size, channels = self._model.image_size, self._model.in_chans
        for number, (data, margin) in enumerate(self.encoded(rows)):
            try:
                out[number] = _fit(decode_upright(data), size=size, channels=channels, margin=margin)
            except DataError as error:
                raise self.named(int(rows[number]), error) from error

    def named(self, row: int, error: DataError) -> DataError:
        """The error with the folder and the key of the row."""
        ((reader, _, places),) = self._faces.find(np.array([row]))
        return DataError(f"{reader.manifest.folder}, {reader.manifest.text('key', places)[0]}: {error}")

    def encoded(self, rows: Ints) -> Iterator[tuple[bytes, float]]:
        """The pictures of rows as they are stored, and their margins (data/store/shard_reader.py)."""
        found: list[tuple[Path, int]] = [(Path(), 0)] * len(rows)
        for reader, here, positions in self._faces.find(rows):
            runs, places = reader.runs.find(positions)
            for number, run, place in zip(here.tolist(), runs.tolist(), places.tolist(), strict=True):
                found[number] = (reader.manifest.folder / "shards" / reader.runs.shards[run], place)
        for path, place in found:
            block, offset = divmod(place, BLOCK_ROWS)
            pictures, margins = self._block(path, block)
            yield pictures[offset].as_py(), float(margins[offset])

    def _block(self, path: Path, number: int) -> Any:
        key = (path, number)
        with self._lock:
            found = self._blocks.get(key)
            mine = found is None
            if found is None:
                found = self._blocks[key] = Future()
                if len(self._blocks) > _CACHED_BLOCKS:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(key)
        if mine:  # the others that need it wait, those that need another do not
            try:
                with open_parquet(path) as file:
                    found.set_result(read_group(file, number))
            except (OSError, ValueError) as error:
                found.set_exception(DataError(f"{path} cannot be read ({error}); see `femae data doctor`"))
            except BaseException as error:
                found.set_exception(error)
                raise
        return found.result()
