"""Loads the pixels of picture references: files, atlas cells, pixels in label files, and frames of films in order."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.samples import AtlasCell, InlinePicture, PictureFile, RawSample, VideoFrame
from femae.errors import DataError, InputError
from femae.video.pictures import read_picture
from femae.video.pyav import PyAVSource

__all__ = [
    "MISSING",
    "LoadedPicture",
    "decode_bytes",
    "encode_picture",
    "error_words",
    "load_picture",
    "load_pictures_of",
]

MISSING: Final = "picture file is missing"
DAMAGED: Final = "picture cannot be decoded"
FILM_DAMAGED: Final = "film cannot be decoded"
BEYOND_END: Final = "frame is beyond the end of the film"
FRAME_DAMAGED: Final = "frame cannot be decoded"

_KEPT_MODES: Final = ("L", "RGB")  # files of other modes (palette, alpha, CMYK, 16 bit) are encoded again


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedPicture:
    """The pixels of a picture, or why it cannot be loaded."""

    image: npt.NDArray[np.uint8] | None = None  # u8[H, W, 3] RGB, EXIF orientation applied
    original: bytes | None = None  # content of the file if it is a jpg or png in gray or RGB
    time_s: float | None = None  # of a frame of a film
    suffix: str = ""  # of `original`: .jpg or .png
    cause: str = ""  # without an image: category of the error
    detail: str = ""  # without an image: message


def load_picture(picture: PictureFile | AtlasCell | InlinePicture) -> LoadedPicture:
    """Read one picture; a missing or damaged one is reported in the result, never raised."""
    if isinstance(picture, InlinePicture):
        gray = np.frombuffer(picture.pixels, np.uint8)
        if gray.size != picture.height * picture.width:
            return LoadedPicture(cause=DAMAGED, detail=f"{gray.size} pixels, not {picture.height * picture.width}")
        return LoadedPicture(image=_rgb(gray.reshape(picture.height, picture.width)))
    try:
        if isinstance(picture, AtlasCell):
            atlas = _atlas(picture.path)
            cell = atlas[picture.top : picture.top + picture.size, picture.left : picture.left + picture.size]
            if picture.size < 1 or cell.shape[:2] != (picture.size, picture.size):
                return LoadedPicture(cause=DAMAGED, detail=f"the cell is outside of {picture.path.name}")
            return LoadedPicture(image=_rgb(cell))
        return _from_bytes(picture.path.read_bytes())
    except FileNotFoundError:
        return LoadedPicture(cause=MISSING)
    except Exception as error:  # decoders of damaged pictures raise nearly anything
        return LoadedPicture(cause=DAMAGED, detail=_without_path(error, picture.path))


def _without_path(error: Exception, path: Path) -> str:
    """The message without the folder, so that reports do not depend on the location of the data."""
    return error_words(error).replace(str(path), path.name)


def error_words(error: Exception) -> str:
    """A decoder's message without Pillow's memory addresses, so that equal inputs give equal messages."""
    return re.sub(r" *<_io\.BytesIO object at 0x[0-9a-fA-F]+>", "", str(error))


def _from_bytes(data: bytes) -> LoadedPicture:
    with Image.open(io.BytesIO(data)) as picture:
        file_format, mode, has_alpha = picture.format or "", picture.mode, "transparency" in picture.info
    suffix = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}.get(file_format, "")
    keep = bool(suffix) and mode in _KEPT_MODES and not has_alpha
    return LoadedPicture(image=decode_bytes(data), original=data if keep else None, suffix=suffix if keep else "")


def decode_bytes(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a picture file to u8[H, W, 3] RGB like `predict`. Raises any exception of Pillow for damaged data."""
    return read_picture(io.BytesIO(data))


def _rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """u8[H, W] gray or u8[H, W, 3] -> u8[H, W, 3], contiguous."""
    return np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)


@lru_cache(maxsize=2)
def _atlas(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L" if picture.mode in ("L", "1") else "RGB"), np.uint8)


def encode_picture(image: npt.NDArray[np.uint8], *, jpeg_quality: int | None) -> tuple[bytes, str]:
    """Encode u8[H, W, 3] RGB; returns bytes and suffix: png (quality None) or jpg without chroma subsampling.

    A picture with three equal channels is stored as gray.
    """
    gray = bool((image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all())
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0]) if gray else image)
    buffer = io.BytesIO()
    if jpeg_quality is None:
        picture.save(buffer, "PNG")
        return buffer.getvalue(), ".png"
    picture.save(buffer, "JPEG", quality=jpeg_quality, subsampling=0)
    return buffer.getvalue(), ".jpg"


def load_pictures_of(samples: Iterable[RawSample]) -> Iterator[tuple[RawSample, LoadedPicture]]:
    """Every sample with its pixels; consecutive frames of one film are decoded in one pass."""
    for film, group in groupby(samples, key=lambda s: s.picture.path if isinstance(s.picture, VideoFrame) else None):
        if film is not None:
            yield from _film_pictures(film, list(group))
        else:
            yield from _single_pictures(group)


def _single_pictures(samples: Iterable[RawSample]) -> Iterator[tuple[RawSample, LoadedPicture]]:
    for sample in samples:
        assert not isinstance(sample.picture, VideoFrame)
        yield sample, load_picture(sample.picture)


def _film_pictures(path: Path, samples: Sequence[RawSample]) -> Iterator[tuple[RawSample, LoadedPicture]]:
    """The frames of one film that samples refer to, decoded in one pass up to the last of them.

    Samples are yielded in the order of frames, those of one frame in their given order.
    """
    wanted: dict[int, list[RawSample]] = {}
    for sample in samples:
        assert isinstance(sample.picture, VideoFrame)
        wanted.setdefault(sample.picture.frame, []).append(sample)
    cause, detail = BEYOND_END, ""
    if not path.is_file():
        cause = MISSING
    else:
        try:
            with PyAVSource(path, num_threads=1) as film:
                for frame in film:
                    loaded = LoadedPicture(
                        image=frame.image, time_s=frame.time_s, cause=FRAME_DAMAGED, detail=frame.problem
                    )
                    for sample in wanted.pop(frame.index, []):
                        yield sample, loaded
                    if not wanted:
                        break
        except (InputError, DataError) as error:
            cause, detail = FILM_DAMAGED, _without_path(error, path)
    for frame_number in sorted(wanted):
        for sample in wanted[frame_number]:
            yield sample, LoadedPicture(cause=cause, detail=detail)
