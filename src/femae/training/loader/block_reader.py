"""Reads pictures from the row groups of shards and decodes them in threads that release the GIL, or on a GPU.

On the host, torchvision decodes JPEG and PNG with the libraries that Pillow uses and gives the same pixels; whatever is
not 8-bit gray or RGB goes to Pillow.

On an accelerator, nvJPEG (through torchvision) decodes JPEG files, and they are resized there with Pillow's filters
(Lanczos to reduce, bicubic to enlarge) as one matrix per axis. Pillow rounds between the axes, and nvJPEG rounds
colours differently from libjpeg: on smooth pictures pixels should agree within 3 of 255 levels (tested where there is
an accelerator); the resizing alone agrees within 2.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision.io import ImageReadMode, decode_image, decode_jpeg

from femae.config.model import ModelConfig
from femae.data.store.addresses import open_parquet
from femae.data.store.shard_reader import decode_picture, frame_picture, read_group
from femae.errors import DataError
from femae.training.loader.sets import BLOCK_ROWS, FaceSet

__all__ = [
    "BlockReader",
    "decode_on",
    "decode_upright",
    "resize_matrix",
]

_CACHED_BLOCKS: Final = 24
_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


def _is_plain(data: bytes) -> bool:
    """Whether the header is that of a JPEG, or of an 8-bit gray or RGB PNG without a palette."""
    return data[:2] == _JPEG or (data[:8] == _PNG and len(data) > 25 and data[24] == 8 and data[25] in (0, 2))


def decode_upright(data: bytes) -> Pixels:
    """Decode an encoded picture to u8[C, H, W]: C = 1 if it is stored as gray, else 3 (RGB); EXIF orientation applied.

    Raises DataError when the bytes are damaged.
    """
    if _is_plain(data):
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        try:
            image = decode_image(encoded, ImageReadMode.UNCHANGED, apply_exif_orientation=True)
        except RuntimeError:
            return decode_picture(data).transpose(2, 0, 1)  # raises an error that says what is damaged
        if image.shape[0] in (1, 3):
            return image.numpy()
    return decode_picture(data).transpose(2, 0, 1)


def _fit(image: Pixels, *, size: int, channels: int, margin: float) -> Pixels:
    """u8[1 or 3, H, W] -> u8[channels, size, size] with the result of frame_picture."""
    has_size = image.shape[1:] == (size, size) and margin == 1.0
    if has_size and image.shape[0] in (1, channels):
        return image
    rgb = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))  # [H, W, 3]
    return frame_picture(rgb, size=size, stored_margin=margin, gray=channels == 1).transpose(2, 0, 1)


class BlockReader:
    """Reads pictures by row number from many threads; caches the latest row groups, which nearby rows share."""

    def __init__(self, faces: FaceSet, model: ModelConfig) -> None:
        self._faces, self._model = faces, model
        self._blocks: OrderedDict[tuple[Path, int], Future[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, rows: Ints, out: Pixels) -> None:
        """Decode the pictures of K rows into `out` u8[K, C, S, S]. Raises DataError naming a damaged picture."""
        size, channels = self._model.image_size, self._model.in_chans
        for number, (data, margin) in enumerate(self.encoded(rows)):
            try:
                out[number] = _fit(decode_upright(data), size=size, channels=channels, margin=margin)
            except DataError as error:
                raise self.named(int(rows[number]), error) from error

    def named(self, row: int, error: DataError) -> DataError:
        """A copy of `error` whose message starts with the row's folder and key."""
        ((reader, _, positions),) = self._faces.find(np.array([row]))
        return DataError(f"{reader.manifest.folder}, {reader.manifest.text('key', positions)[0]}: {error}")

    def encoded(self, rows: Ints) -> Iterator[tuple[bytes, float]]:
        """The encoded picture of each row and its stored margin (see data/store/shard_reader.py)."""
        locations: list[tuple[Path, int]] = [(Path(), 0)] * len(rows)  # shard, row in the shard
        for reader, here, positions in self._faces.find(rows):
            runs, shard_rows = reader.runs.find(positions)
            for number, run, shard_row in zip(here.tolist(), runs.tolist(), shard_rows.tolist(), strict=True):
                locations[number] = (reader.manifest.folder / "shards" / reader.runs.shards[run], shard_row)
        for path, shard_row in locations:
            block, offset = divmod(shard_row, BLOCK_ROWS)
            pictures, margins = self._block(path, block)
            yield pictures[offset].as_py(), float(margins[offset])

    def _block(self, path: Path, number: int) -> Any:
        """(pictures, margins) of row group `number` of a shard, from the LRU cache."""
        key = (path, number)
        with self._lock:
            future = self._blocks.get(key)
            is_missing = future is None
            if future is None:
                future = self._blocks[key] = Future()
                if len(self._blocks) > _CACHED_BLOCKS:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(key)
        if is_missing:  # read outside the lock: only threads that need the same row group wait for it
            try:
                with open_parquet(path) as file:
                    future.set_result(read_group(file, number))
            except (OSError, ValueError) as error:
                future.set_exception(DataError(f"{path} cannot be read ({error}); see `femae data doctor`"))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()


_LUMA: Final = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # ITU-R 601, with Pillow's rounding


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _bicubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


@lru_cache(maxsize=64)
def resize_matrix(length: int, size: int, side: float) -> torch.Tensor:
    """float[size, length]: resamples the central `side` of `length` pixels to `size`, mirrored at the borders."""
    step = side / size
    kernel, support = (_lanczos, 3 * step) if step > 1 else (_bicubic, 2.0)
    width = max(step, 1.0)
    first, last = math.floor((length - side) / 2 - support) - 1, math.ceil((length + side) / 2 + support) + 1
    taps = np.arange(first, last)
    centres = (length - side) / 2 + (np.arange(size) + 0.5) * step
    weights = kernel((taps[None] + 0.5 - centres[:, None]) / width)
    weights /= weights.sum(1, keepdims=True)
    index = taps % (2 * length)
    index = np.minimum(index, 2 * length - 1 - index)
    mirror = np.zeros((len(taps), length))
    mirror[np.arange(len(taps)), index] = 1
    return torch.from_numpy(weights @ mirror).float()


def decode_on(
    pictures: Sequence[tuple[bytes, float]], *, device: torch.device, size: int, channels: int
) -> torch.Tensor:
    """Decode (bytes, stored margin) of B pictures to u8[B, channels, size, size] on `device`.

    PNG files, and JPEG files with EXIF data, are decoded on the host. Raises DataError for damaged ones.
    """
    images: list[Any] = [None] * len(pictures)
    jpegs = [n for n, (data, _) in enumerate(pictures) if data[:2] == _JPEG and b"Exif" not in data[:4096]]
    encoded = [torch.frombuffer(bytearray(pictures[n][0]), dtype=torch.uint8) for n in jpegs]
    try:
        decoded: Any = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device) if encoded else []
    except RuntimeError:
        decoded = [torch.from_numpy(decode_upright(pictures[n][0]).copy()) for n in jpegs]  # says which is damaged
    for n, image in zip(jpegs, decoded, strict=True):
        images[n] = image
    groups: dict[tuple[int, int, float], list[int]] = {}
    for n, (data, margin) in enumerate(pictures):
        if images[n] is None:
            images[n] = torch.from_numpy(decode_upright(data).copy())
        groups.setdefault((*images[n].shape[1:], margin), []).append(n)
    out = torch.empty(len(pictures), channels, size, size, dtype=torch.uint8, device=device)
    for (height, width, margin), places in groups.items():
        stack = torch.stack([images[n].to(device).expand(3, -1, -1) for n in places]).float()  # [K, 3, H, W]
        if (height, width) != (size, size) or margin != 1.0:
            side = max(height, width) / margin
            rows, columns = (resize_matrix(length, size, side).to(device) for length in (height, width))
            stack = (rows @ stack @ columns.T).round().clamp(0, 255)
        if channels == 1:
            stack = (stack * stack.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True).round()
        out[torch.tensor(places, device=device)] = stack.to(torch.uint8)
    return out
