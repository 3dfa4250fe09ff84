"""Colours of the labels, defined once for films, pages, figures and windows, and translucent layers to draw with.

The colours of the six emotions and `none` differ by at least 20 CIELAB units for every reader, colour-blind ones
(protan, deutan, tritan) included, and dark letters can be read on all six (tests/video/test_palette.py measures both).
A compound has the colours of its two emotions, one above the other; `none` is gray and drawn thinner than the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from femae.labels import EMOTIONS, NO_EXPRESSION, Compound, Emotion

__all__ = [
    "DASH",
    "EMOTION_COLOURS",
    "INK",
    "NONE_COLOUR",
    "WHITE",
    "Layer",
    "Rgb",
    "hex_colour",
    "label_colours",
    "label_emotions",
    "label_styles",
    "line_mask",
    "line_width",
    "text_mask",
]

Rgb = tuple[int, int, int]

EMOTION_COLOURS: Final[dict[Emotion, Rgb]] = {
    "surprise": (255, 231, 18),
    "fear": (174, 115, 176),
    "disgust": (10, 147, 97),
    "happiness": (249, 136, 0),
    "sadness": (92, 193, 249),
    "anger": (218, 80, 35),
}
NONE_COLOUR: Final[Rgb] = (102, 106, 114)
INK: Final[Rgb] = (17, 17, 17)  # letters on the colours of emotions
_CODE_LEN: Final = 3  # letters of an emotion's short code


def hex_colour(colour: Rgb) -> str:
    """The colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def label_colours(name: str, compounds: Sequence[Compound]) -> tuple[Rgb, ...]:
    """The colours of a label: one for `none` or an emotion, two for a compound, () for an empty or unknown name."""
    if name == NO_EXPRESSION:
        return (NONE_COLOUR,)
    return tuple(EMOTION_COLOURS[emotion] for emotion in label_emotions(name, compounds))


def label_emotions(name: str, compounds: Sequence[Compound]) -> tuple[Emotion, ...]:
    """The emotions that a label names: itself, the two of a compound, or () for any other name."""
    if name in EMOTIONS:
        return (name,)
    return next((compound.pair for compound in compounds if compound.name == name), ())


def label_styles(names: Sequence[str], compounds: Sequence[Compound]) -> list[dict[str, Any]]:
    """For scripts and templates that draw labels: {name, code, colours, quiet} of each, `code` for narrow places."""
    return [
        {
            "name": name,
            "code": _code(name),
            "colours": [hex_colour(colour) for colour in label_colours(name, compounds)],
            "quiet": name == NO_EXPRESSION,
        }
        for name in names
    ]


def _code(name: str) -> str:
    """Short code of a label: hap for happiness, FS for Fearfully Surprised."""
    return name[:_CODE_LEN] if name in EMOTIONS else "".join(word[0] for word in name.split() if word != NO_EXPRESSION)


DASH: Final = "\N{EM DASH}"
WHITE: Final[Rgb] = (255, 255, 255)


@lru_cache(maxsize=64)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def text_mask(text: str, size: int) -> npt.NDArray[np.uint8]:
    """Opacity mask u8[H, W] of one line of text in letters of `size` pixels; cached and read-only."""
    font = _font(size)
    height = round(size * 1.25)
    width = size if text == DASH else max(1, int(np.ceil(font.getlength(text))))
    canvas = Image.new("L", (width, height))
    if text == DASH:  # missing in Pillow's built-in font
        ImageDraw.Draw(canvas).line((0, height // 2, width, height // 2), fill=255, width=max(1, size // 10))
    else:
        ImageDraw.Draw(canvas).text((0, height // 2), text, fill=255, font=font, anchor="lm")
    mask = np.asarray(canvas, np.uint8)
    mask.setflags(write=False)
    return mask


def line_mask(parts: Sequence[str], size: int) -> npt.NDArray[np.uint8]:
    """Opacity mask u8[H, W] of several texts in one line, with space between them."""
    space = np.zeros((text_mask(parts[0], size).shape[0], size // 2), np.uint8)
    masks = [mask for part in parts for mask in (space, text_mask(part, size))][1:]
    return np.hstack(masks)


def line_width(parts: Sequence[str], size: int) -> int:
    """Width of `line_mask`, pixels."""
    return sum(int(text_mask(part, size).shape[1]) for part in parts) + (len(parts) - 1) * (size // 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A rectangle to draw on and blend onto a picture: colours u8[H, W, 3] RGB and opacity u8[H, W, 1]."""

    colour: npt.NDArray[np.uint8]
    opacity: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, height: int, width: int, *, opacity: int) -> Self:
        """A black layer of `opacity` 0..255."""
        return cls(
            colour=np.zeros((height, width, 3), np.uint8), opacity=np.full((height, width, 1), opacity, np.uint8)
        )

    def copy(self) -> "Layer":
        return Layer(colour=self.colour.copy(), opacity=self.opacity.copy())

    @property
    def height(self) -> int:
        return int(self.colour.shape[0])

    @property
    def width(self) -> int:
        return int(self.colour.shape[1])

    def write(self, mask: npt.NDArray[np.uint8], *, x: int, y: int, colour: Rgb = WHITE) -> None:
        """Draw a text mask with its upper left corner at (x, y), clipped to the layer."""
        height, width = min(mask.shape[0], self.height - y), min(mask.shape[1], self.width - x)
        letters = mask[:height, :width, None]  # [h, w, 1]
        region = (slice(y, y + height), slice(x, x + width))
        self.colour[region] = (letters.astype(np.uint16) * np.array(colour, np.uint16) // 255).astype(np.uint8)
        self.opacity[region] = np.maximum(self.opacity[region], letters)

    def fill(self, *, x: int, y: int, width: int, height: int, colour: Rgb) -> None:
        """Draw an opaque rectangle."""
        self.colour[y : y + height, x : x + width] = colour
        self.opacity[y : y + height, x : x + width] = 255

    def blend_onto(self, picture: npt.NDArray[np.uint8], *, x: int, y: int) -> None:
        """Alpha-blend onto u8[H, W, 3] in place, upper left corner at (x, y); the layer lies wholly inside."""
        part = picture[y : y + self.height, x : x + self.width]
        opacity = self.opacity.astype(np.uint16)
        blended = self.colour * opacity + part * (255 - opacity)
        part[:] = (blended + 127) // 255
