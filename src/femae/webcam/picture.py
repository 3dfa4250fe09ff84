"""Renders the window's picture: the annotated frame, a bar with rate and latency below it, and the help panel."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.faces.pixels import resize_rgb
from femae.inference.item import Draw
from femae.types import FrameResult
from femae.video.palette import WHITE, Layer, Rgb, text_mask

__all__ = ["KEYS", "RED", "bar_height", "draw_help", "paint"]

RED: Final[Rgb] = (255, 90, 80)
_GREY: Final[Rgb] = (190, 190, 190)
_BACKGROUND: Final[Rgb] = (24, 26, 30)

KEYS: Final = (
    ("r", "record table and film; again: stop"),
    ("s", "save a picture"),
    ("space", "freeze, and go on"),
    ("h", "show or hide this help"),
    ("q, Esc", "quit"),
)

Part = tuple[str, Rgb]  # a text of the bar and its colour


def _font_size(height: int) -> int:
    """Size of letters, in pixels, for a window of this height."""
    return int(np.clip(round(height / 36), 12, 40))


def bar_height(height: int) -> int:
    """Height of the bar, in pixels, for a window of this height."""
    return round(_font_size(height) * 1.9)


def paint(
    result: FrameResult | None,
    *,
    width: int,
    height: int,
    draw: Draw,
    parts: Sequence[Part],
    parts_right: Sequence[Part] = (),
) -> npt.NDArray[np.uint8]:
    """Render u8[height, width, 3] RGB: the frame as large as fits above the bar, on a dark background.

    Boxes, bars and texts are drawn at the window's resolution, so that they are sharp for a camera of any size.
    """
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = _BACKGROUND
    bar = min(bar_height(height), height)
    if result is not None and result.frame.image is not None and height > bar:
        picture = _annotated(result, width=width, height=height - bar, draw=draw)
        y, x = (height - bar - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    _draw_bar(canvas, parts, parts_right, bar=bar)
    return canvas


def _annotated(result: FrameResult, *, width: int, height: int, draw: Draw) -> npt.NDArray[np.uint8]:
    """The annotated frame, resized to fit into width x height pixels."""
    image = result.frame.image
    assert image is not None
    old_height, old_width = image.shape[:2]
    scale = min(width / old_width, height / old_height)
    new_width, new_height = max(1, int(old_width * scale)), max(1, int(old_height * scale))
    larger = resize_rgb(image, width=new_width, height=new_height)
    factors = np.tile(np.array([new_width / old_width, new_height / old_height], np.float32), 2)
    faces = tuple(replace(f, face=replace(f.face, box_xyxy=f.face.box_xyxy * factors)) for f in result.faces)
    return draw(larger, replace(result, faces=faces))


def _draw_bar(canvas: npt.NDArray[np.uint8], left: Sequence[Part], right: Sequence[Part], *, bar: int) -> None:
    """Write the bar's texts: `left` from the left edge, then `right` from the right edge, as many as fit."""
    height, width = canvas.shape[:2]
    size = _font_size(height)
    layer = Layer.empty(bar, width, opacity=255)
    y, free = (bar - round(size * 1.25)) // 2, width - size
    x = size
    for text, colour in left:
        mask = text_mask(text, size)
        if x + mask.shape[1] > free:
            break
        layer.write(mask, x=x, y=y, colour=colour)
        x += mask.shape[1] + round(1.5 * size)
    for text, colour in reversed(right):
        mask = text_mask(text, size)
        if free - mask.shape[1] < x:
            break
        free -= mask.shape[1]
        layer.write(mask, x=free, y=y, colour=colour)
        free -= size
    layer.blend_onto(canvas, x=0, y=height - bar)


def draw_help(canvas: npt.NDArray[np.uint8]) -> None:
    """Draw the panel of keys onto the middle of u8[H, W, 3] RGB, in place; nothing where it does not fit."""
    height, width = canvas.shape[:2]
    size = _font_size(height)
    while size > 8:
        row, pad = round(size * 1.6), size
        column = max(text_mask(key, size).shape[1] for key, _ in KEYS) + 2 * size
        text_width = max(text_mask(text, size).shape[1] for _, text in KEYS)
        panel_width, panel_height = pad + column + text_width + pad, pad + row * len(KEYS) + pad // 2
        if panel_width <= width and panel_height <= height:
            break
        size -= 1
    else:
        return
    layer = Layer.empty(panel_height, panel_width, opacity=232)
    for number, (key, text) in enumerate(KEYS):
        y = pad + number * row
        layer.write(text_mask(key, size), x=pad, y=y, colour=WHITE)
        layer.write(text_mask(text, size), x=pad + column, y=y, colour=_GREY)
    layer.blend_onto(canvas, x=(width - panel_width) // 2, y=max(0, (height - panel_height) // 2))
