"""Draws annotations onto pictures: a box, an id, a label and six probability bars for each face.

The colours are those of video.palette, which colour-blind readers can tell apart; every bar has its name beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS, NO_EXPRESSION, Compound, Emotion
from femae.types import FaceResult, FrameResult, LabelView
from femae.video.palette import (
    DASH,
    EMOTION_COLOURS,
    WHITE,
    Layer,
    Rgb,
    label_colours,
    label_emotions,
    line_mask,
    line_width,
    text_mask,
)

__all__ = ["draw"]

_STATUS_TEXTS: Final = {"no_face": "no face", "unreadable": "unreadable"}
_DARK: Final[Rgb] = (0, 0, 0)
_DIM: Final[Rgb] = (190, 190, 190)
_FAINT: Final[Rgb] = (175, 175, 175)
_TRACK: Final[Rgb] = (70, 70, 70)
_OPACITY: Final = 190  # 0..255, of a panel's background: even over white, faint letters on it are readable
_MIN_TEXT: Final = 9  # pixels
_MAX_PANEL_SHARE: Final = 0.25  # of the picture
_MAX_LABEL_SHARE: Final = 1 / 6  # of its height

Box = tuple[int, int, int, int]  # x1, y1, x2, y2, pixels, the end excluded


@dataclass(frozen=True, slots=True)
class _Label:
    """The label of one face as it is drawn: id, name and number."""

    identity: str
    name: str
    number: float
    emotions: frozenset[Emotion]  # that the label names; their names are drawn brighter
    colours: tuple[Rgb, ...]  # of the label's mark, from top to bottom
    is_quiet: bool  # `none`, or the compound of a weak face; drawn fainter

    @classmethod
    def of(cls, face: FaceResult, compounds: tuple[Compound, ...], labels: LabelView) -> "_Label":
        name, number = face.label(labels)
        is_quiet = face.weak if labels == "compound" else name == NO_EXPRESSION
        marked = "" if labels == "compound" and is_quiet else name
        emotions = frozenset(label_emotions(marked, compounds))
        return cls(f"#{face.face_id}", name, number, emotions, label_colours(marked, compounds), is_quiet)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.identity, self.name, f"{self.number:.2f}") if self.name else (self.identity, DASH)

    @property
    def text_colour(self) -> Rgb:
        return _FAINT if self.is_quiet else WHITE


def draw(
    image: npt.NDArray[np.uint8],
    result: FrameResult,
    compounds: tuple[Compound, ...],
    *,
    labels: LabelView = "expression",
) -> npt.NDArray[np.uint8]:
    """A copy of `image`, u8[H, W, 3] RGB, with the faces and labels of `result` drawn onto it.

    Where there is no room beside the faces, bars are left out first, then texts; boxes are always drawn. The names of
    the emotions that a label consists of (for a compound looked up in `compounds`) are brighter than the others. The
    label `none`, and a compound where the six probabilities are small (FaceResult.weak), are drawn faintly.
    """
    picture = image.copy()
    height, width = picture.shape[:2]
    text_size = _text_size(height, width)
    if result.status != "ok":
        _draw_status(picture, _STATUS_TEXTS[result.status], text_size)
        return picture
    boxes = [_inside(face.face.box_xyxy, height, width) for face in result.faces]
    for box in boxes:
        _draw_box(picture, box)
    taken = list(boxes)
    for number in sorted(range(len(boxes)), key=lambda n: boxes[n][1] - boxes[n][3]):  # large faces first
        face = result.faces[number]
        label = _Label.of(face, compounds, labels)
        names = (*EMOTIONS, *(c.name for c in compounds)) if labels == "expression" else [c.name for c in compounds]
        drawn = _draw_panel(picture, face, label, boxes[number], taken, names)
        drawn = drawn or _draw_label(picture, label, boxes[number], text_size)
        if drawn is not None:
            taken.append(drawn)
    return picture


def _text_size(height: int, width: int) -> int:
    """Size of letters in pixels: 13 at 640x360, growing a little slower than the picture."""
    return max(_MIN_TEXT, round(13 * float((min(height, 0.6 * width) / 360) ** 0.8)))


def _inside(box_xyxy: npt.NDArray[np.float32], height: int, width: int) -> Box:
    """The box rounded to whole pixels and clipped to the picture, at least one pixel in size."""
    x1, y1, x2, y2 = (round(float(v)) if np.isfinite(v) else 0 for v in box_xyxy)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _draw_box(picture: npt.NDArray[np.uint8], box: Box) -> None:
    """Draw a white outline with a dark edge on either side, visible on any background."""
    line = max(1, round(min(picture.shape[:2]) / 240))
    _draw_outline(picture, box, line=3 * line if line > 1 else 2, colour=_DARK)
    x1, y1, x2, y2 = box
    edge = line if line > 1 else 0
    if x2 - x1 > 2 * edge and y2 - y1 > 2 * edge:
        _draw_outline(picture, (x1 + edge, y1 + edge, x2 - edge, y2 - edge), line=line, colour=WHITE)


def _draw_outline(picture: npt.NDArray[np.uint8], box: Box, *, line: int, colour: Rgb) -> None:
    x1, y1, x2, y2 = box
    line = max(1, min(line, (x2 - x1) // 4, (y2 - y1) // 4))
    picture[y1 : y1 + line, x1:x2] = colour
    picture[y2 - line : y2, x1:x2] = colour
    picture[y1:y2, x1 : x1 + line] = colour
    picture[y1:y2, x2 - line : x2] = colour


def _draw_status(picture: npt.NDArray[np.uint8], text: str, size: int) -> None:
    """Draw a small text in the lower left corner; nothing where the picture is too small for it."""
    mask = text_mask(text, size)
    layer = Layer.empty(mask.shape[0], mask.shape[1] + size, opacity=_OPACITY)
    layer.write(mask, x=size // 2, y=0, colour=_DIM)
    height, width = picture.shape[:2]
    margin = size // 2
    if layer.height <= height * _MAX_LABEL_SHARE and layer.width + margin <= width:
        layer.blend_onto(picture, x=margin, y=height - layer.height - margin)


def _draw_panel(
    picture: npt.NDArray[np.uint8],
    face: FaceResult,
    label: _Label,
    box: Box,
    taken: Sequence[Box],
    names: Sequence[str],
) -> Box | None:
    """Draw label and bars beside the face, in smaller letters if needed; returns their box, None without room."""
    shape = picture.shape[:2]
    text_size = _text_size(*shape)
    smallest = max(_MIN_TEXT, text_size // 2)
    size = max(smallest, min(text_size, (box[3] - box[1]) // 8))
    is_alone = len(taken) == 1
    for letters in sorted({size, max(smallest, size * 3 // 4), smallest}, reverse=True):
        panel = _panel(face, label, letters, names)
        if panel.height * panel.width > _MAX_PANEL_SHARE * shape[0] * shape[1]:
            continue
        place = _place(panel, box, taken, shape, gap=max(2, letters // 4), must=is_alone and letters == smallest)
        if place is not None:
            panel.blend_onto(picture, x=place[0], y=place[1])
            return (*place, place[0] + panel.width, place[1] + panel.height)
    return None


def _draw_label(picture: npt.NDArray[np.uint8], label: _Label, box: Box, text_size: int) -> Box | None:
    """Draw the label alone, as much as fits, above the box or at its top; returns its box, None without room."""
    height, width = picture.shape[:2]
    size = max(_MIN_TEXT, text_size * 3 // 4)
    for count, marked in ((3, True), (2, True), (1, True), (1, False)):
        mask, mark = line_mask(label.texts[:count], size), _mark_width(size) if marked and label.colours else 0
        if mask.shape[1] + mark + size <= width and mask.shape[0] <= height * _MAX_LABEL_SHARE:
            layer = Layer.empty(mask.shape[0], mask.shape[1] + mark + size, opacity=_OPACITY)
            if mark:
                _draw_mark(layer, label, x=size // 2, y=0, size=size)
            layer.write(mask, x=size // 2 + mark, y=0, colour=label.text_colour)
            x, y = min(box[0], width - layer.width), box[1] - layer.height
            y = y if y >= 0 else min(box[1], height - layer.height)
            layer.blend_onto(picture, x=x, y=y)
            return x, y, x + layer.width, y + layer.height
    return None


def _mark_width(size: int) -> int:
    """Width in pixels of a label's mark, with the space behind it."""
    return size // 2 + max(2, size // 3)


def _draw_mark(layer: Layer, label: _Label, *, x: int, y: int, size: int) -> None:
    """Draw a block in the label's colours, one above the other; a thin one for a quiet label."""
    height = max(2, round(size * (0.25 if label.is_quiet else 0.8)))
    top = y + (round(size * 1.25) - height) // 2
    for number, colour in enumerate(label.colours):
        start, end = (height * k // len(label.colours) for k in (number, number + 1))
        layer.fill(x=x, y=top + start, width=size // 2, height=end - start, colour=colour)


def _panel(face: FaceResult, label: _Label, size: int, names: Sequence[str]) -> Layer:
    """The panel of a face: label and six bars; `names` are those of all possible labels."""
    mask, mark = line_mask(label.texts, size), _mark_width(size)
    # As wide as the longest label, so that the panel's width does not change from frame to frame.
    widest = max(line_width((label.identity, name, "0.00"), size) for name in (*names, DASH))
    template, (bar_x, bar_width) = _panel_template(size, label.emotions, max(mask.shape[1], widest) + mark)
    layer = template.copy()
    row, pad = round(size * 1.25), size // 2
    _draw_mark(layer, label, x=pad, y=pad // 2, size=size)
    layer.write(mask, x=pad + mark, y=pad // 2, colour=label.text_colour)
    for number, emotion in enumerate(EMOTIONS):
        y = pad // 2 + row * (number + 1)
        prob = float(np.clip(np.nan_to_num(face.probs[number]), 0, 1))
        length = round(prob * bar_width)
        layer.fill(x=bar_x, y=y + row // 4, width=length, height=row // 2, colour=EMOTION_COLOURS[emotion])
        layer.write(text_mask(f"{prob:.2f}", size), x=bar_x + bar_width + pad, y=y)
    return layer


@lru_cache(maxsize=256)
def _panel_template(size: int, bright: frozenset[Emotion], label_width: int) -> tuple[Layer, tuple[int, int]]:
    """The constant part of a panel (background, names, empty bars), and x and width of its bars; cached."""
    row, pad = round(size * 1.25), size // 2
    names = [text_mask(emotion, size) for emotion in EMOTIONS]
    names_width = max(mask.shape[1] for mask in names)
    values_width = text_mask("0.00", size).shape[1]
    bar_width = max(4 * size, label_width - names_width - values_width - 2 * pad)
    width = pad + names_width + pad + bar_width + pad + values_width + pad
    layer = Layer.empty(row * (len(EMOTIONS) + 1) + pad, width, opacity=_OPACITY)
    for number, (emotion, mask) in enumerate(zip(EMOTIONS, names, strict=True)):
        y = pad // 2 + row * (number + 1)
        layer.write(mask, x=pad, y=y, colour=WHITE if emotion in bright else _DIM)
        layer.fill(x=2 * pad + names_width, y=y + row // 4, width=bar_width, height=row // 2, colour=_TRACK)
    return layer, (2 * pad + names_width, bar_width)


def _place(
    layer: Layer, box: Box, taken: Sequence[Box], shape: tuple[int, int], *, gap: int, must: bool
) -> tuple[int, int] | None:
    """Upper left corner beside, below or above the box where the panel overlaps nothing in `taken`.

    If there is none: None, or with `must` the corner with the smallest overlap.
    """
    x1, y1, x2, y2 = box
    corners = [
        (x2 + gap, y1),
        (x1 - gap - layer.width, y1),
        (x1, y2 + gap),
        (x1, y1 - gap - layer.height),
    ]
    best: tuple[int, int] | None = None
    least = layer.width * layer.height + 1
    for x, y in corners:
        corner = _clamped(layer, x, y, shape)
        if corner is None:
            continue
        area = (*corner, corner[0] + layer.width, corner[1] + layer.height)
        overlap = sum(_overlap(area, other) for other in taken)
        if overlap == 0:
            return corner
        if overlap < least:
            best, least = corner, overlap
    return best if must else None


def _clamped(layer: Layer, x: int, y: int, shape: tuple[int, int]) -> tuple[int, int] | None:
    if layer.height > shape[0] or layer.width > shape[1]:
        return None
    return min(max(x, 0), shape[1] - layer.width), min(max(y, 0), shape[0] - layer.height)


def _overlap(a: Box, b: Box) -> int:
    """Area that two boxes have in common, pixels."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
