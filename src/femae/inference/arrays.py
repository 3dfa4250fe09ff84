"""Pictures that are in memory already, as a source of frames.

One array is a picture. Several, in a list or as they come from a generator, are frames of a film where their rate is
known, so that faces keep their ids and times are counted; without a rate they are pictures that have nothing to do with
each other. Nothing is kept: a generator is read as results are taken, a few frames ahead.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.errors import InputError
from femae.types import Frame, SourceInfo
from femae.video.pictures import to_rgb

__all__ = ["ArraySource", "Order", "is_array", "rgb_of"]

Order = Literal["rgb", "bgr"]


def is_array(value: Any) -> bool:
    """A picture in memory: an array, or an image of Pillow."""
    return isinstance(value, np.ndarray | Image.Image)


def rgb_of(value: Any, *, order: Order, name: str) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB of an array u8[H, W], u8[H, W, 1], u8[H, W, 3] or u8[H, W, 4], or of a Pillow image.

    order: of the colours of an array; a fourth channel is transparency, laid over white. Raises InputError.
    """
    if isinstance(value, Image.Image):
        return np.asarray(to_rgb(value), np.uint8)
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"{name} is a {type(value).__name__}; expected an array u8[height, width, 3], or an image of Pillow"
        )
    shape = "x".join(map(str, value.shape)) or "a single number"
    if value.ndim not in (2, 3) or 0 in value.shape or (value.ndim == 3 and value.shape[2] not in (1, 3, 4)):
        hint = "; its first axis looks like the colours: move it to the end" if value.shape[:1] in ((3,), (1,)) else ""
        raise InputError(f"{name} has the shape {shape}; expected height x width x 3 (or 1, or 4 colours){hint}")
    if value.dtype != np.uint8:
        scaled = " (multiply values of 0 to 1 by 255 first)" if value.dtype.kind == "f" else ""
        raise InputError(f"{name} is of {value.dtype}; expected uint8, 0 to 255: call .astype(numpy.uint8){scaled}")
    if value.ndim == 2 or value.shape[2] == 1:
        return np.repeat(value.reshape(*value.shape[:2], 1), 3, axis=2)
    colours = value[..., :3] if order == "rgb" else value[..., 2::-1]
    if value.shape[2] == 4:
        return np.asarray(to_rgb(Image.fromarray(np.concatenate([colours, value[..., 3:]], axis=2))), np.uint8)
    return np.ascontiguousarray(colours)


class ArraySource:
    """Frames of one array, or of many; see the file's docstring. What a generator gives can be read once.

    frame_rate: frames a second, above 0; None: pictures. Raises InputError for another order or rate, and, as they are
    read, for what is no picture.
    """

    def __init__(self, arrays: Any, *, order: Order = "rgb", frame_rate: float | None = None) -> None:
        if order not in ("rgb", "bgr"):
            raise InputError(f"order cannot be '{order}'; expected rgb, or bgr as OpenCV has it")
        if frame_rate is not None and not 0 < frame_rate < float("inf"):
            raise InputError(f"frame_rate cannot be {frame_rate}; expected frames a second, above 0")
        self._arrays: Iterable[Any] = [arrays] if is_array(arrays) else arrays
        self._order: Order = order
        self._rate = None if frame_rate is None else Fraction(frame_rate).limit_denominator(1_000_000)
        self.info = SourceInfo(name="arrays", frame_rate=self._rate)
        self.problems: list[str] = []

    @property
    def film(self) -> bool:
        return self._rate is not None

    def __iter__(self) -> Iterator[Frame]:
        for number, value in enumerate(self._arrays, 1):
            image = rgb_of(value, order=self._order, name=f"array {number}")
            if self._rate is None:
                yield Frame(index=1, time_s=None, image=image, source=f"array {number}")
            else:
                yield Frame(index=number, time_s=float((number - 1) / self._rate), image=image, source="arrays")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""
