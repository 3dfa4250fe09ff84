"""Small painted pieces of an overlay: texts, bars and panels with their opacity, laid onto parts of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["DASH", "WHITE", "Rgb", "Sheet", "line_mask", "line_width", "text_mask"]

Rgb = tuple[int, int, int]
DASH: Final = "\N{EM DASH}"
WHITE: Final[Rgb] = (255, 255, 255)


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def text_mask(text: str, size: int) -> npt.NDArray[np.uint8]:
    """Opacity u8[H, W] of one line of text in letters of `size` pixels; read only."""
    font = _font(size)
    height = round(size * 1.25)
    width = size if text == DASH else max(1, int(np.ceil(font.getlength(text))))
    canvas = Image.new("L", (width, height))
    if text == DASH:  # Pillow's own font does not have it
        ImageDraw.Draw(canvas).line((0, height // 2, width, height // 2), fill=255, width=max(1, size // 10))
    else:
        ImageDraw.Draw(canvas).text((0, height // 2), text, fill=255, font=font, anchor="lm")
    mask = np.asarray(canvas, np.uint8)
    mask.setflags(write=False)
    return mask


def line_mask(parts: Sequence[str], size: int) -> npt.NDArray[np.uint8]:
    """Several texts in one line, u8[H, W], with space between them."""
    space = np.zeros((text_mask(parts[0], size).shape[0], size // 2), np.uint8)
    masks = [mask for part in parts for mask in (space, text_mask(part, size))][1:]
    return np.hstack(masks)


def line_width(parts: Sequence[str], size: int) -> int:
    """Width of `line_mask`, pixels."""
    return sum(int(text_mask(part, size).shape[1]) for part in parts) + (len(parts) - 1) * (size // 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A painted rectangle: colours u8[H, W, 3] RGB and opacity u8[H, W, 1]."""

    colour: npt.NDArray[np.uint8]
    opacity: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, height: int, width: int, *, opacity: int) -> Self:
        """Black, evenly opaque."""
        return cls(
            colour=np.zeros((height, width, 3), np.uint8), opacity=np.full((height, width, 1), opacity, np.uint8)
        )

    def copy(self) -> "Sheet":
        return Sheet(colour=self.colour.copy(), opacity=self.opacity.copy())

    @property
    def height(self) -> int:
        return int(self.colour.shape[0])

    @property
    def width(self) -> int:
        return int(self.colour.shape[1])

    def write(self, mask: npt.NDArray[np.uint8], *, x: int, y: int, colour: Rgb = WHITE) -> None:
        """Put a text mask with its upper left corner at (x, y); what does not fit is cut off."""
        height, width = min(mask.shape[0], self.height - y), min(mask.shape[1], self.width - x)
        shape = mask[:height, :width, None]  # [h, w, 1]
        place = (slice(y, y + height), slice(x, x + width))
        self.colour[place] = (shape.astype(np.uint16) * np.array(colour, np.uint16) // 255).astype(np.uint8)
        self.opacity[place] = np.maximum(self.opacity[place], shape)

    def fill(self, *, x: int, y: int, width: int, height: int, colour: Rgb) -> None:
        """A solid rectangle."""
        self.colour[y : y + height, x : x + width] = colour
        self.opacity[y : y + height, x : x + width] = 255

    def lay(self, picture: npt.NDArray[np.uint8], *, x: int, y: int) -> None:
        """Blend onto u8[H, W, 3] in place, upper left corner at (x, y), wholly inside."""
        part = picture[y : y + self.height, x : x + self.width]
        opacity = self.opacity.astype(np.uint16)
        blended = self.colour * opacity + part * (255 - opacity)
        part[:] = (blended + 127) // 255
