"""Pictures of a stream: row groups of the shards, decoded by threads that release the interpreter lock meanwhile.

torchvision's decoders of JPEG and PNG are the same libraries that Pillow's are and give the same pixels; what they do
not read as 8 bits of gray or RGB goes to Pillow. Where the encoded bytes are asked for, device_decode.py decodes them
on the accelerator.
"""

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision.io import ImageReadMode, decode_image

from femae.config.model import ModelConfig
from femae.data.store.addresses import open_parquet
from femae.data.store.shard_reader import decode_picture, frame_picture
from femae.errors import DataError
from femae.training.loader.sets import FaceSet

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
        self._places = [(*m.codes("shard"), m.numbers("row"), m.numbers("margin")) for m in faces.manifests]
        self._blocks: OrderedDict[tuple[int, str, int], Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, rows: Ints, out: Pixels) -> None:
        """Put the pictures of rows into `out` u8[K, C, S, S]. Raises DataError naming the picture that is damaged."""
        size, channels = self._model.image_size, self._model.in_chans
        for number, row in enumerate(rows.tolist()):
            data, margin = self.encoded(row)
            try:
                out[number] = _fit(decode_upright(data), size=size, channels=channels, margin=margin)
            except DataError as error:
                raise self.named(row, error) from error

    def named(self, row: int, error: DataError) -> DataError:
        """The error with the folder and the key of the row."""
        folder, position = int(self._faces.folder[row]), int(self._faces.position[row])
        manifest = self._faces.manifests[folder]
        return DataError(f"{manifest.folder}, {manifest.text('key', np.array([position]))[0]}: {error}")

    def encoded(self, row: int) -> tuple[bytes, float]:
        """The picture of a row as it is stored, and its margin (data/store/shard_reader.py)."""
        folder, position = int(self._faces.folder[row]), int(self._faces.position[row])
        shards, names, places, margins = self._places[folder]
        block, offset = divmod(int(places[position]), 256)
        return self._block(folder, names[shards[position]], block)[offset].as_py(), float(margins[position])

    def _block(self, folder: int, shard: str, block: int) -> Any:
        key = (folder, shard, block)
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
                found.set_result(self._read(folder, shard, block))
            except BaseException as error:
                found.set_exception(error)
                raise
        return found.result()

    def _read(self, folder: int, shard: str, block: int) -> Any:
        path = self._faces.manifests[folder].folder / "shards" / shard
        try:
            with open_parquet(path) as file:
                table: Any = file.read_row_group(block, columns=["image"])
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); see `femae data doctor`") from error
        return table.column("image").combine_chunks().field("bytes")
