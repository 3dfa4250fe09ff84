"""Annotated pictures: a box, an identity, a label and six bars for each face.

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
    Rgb,
    Sheet,
    label_colours,
    label_emotions,
    line_mask,
    line_width,
    text_mask,
)

__all__ = ["draw"]

_WORDS: Final = {"no_face": "no face", "unreadable": "unreadable"}
_DARK: Final[Rgb] = (0, 0, 0)
_DIM: Final[Rgb] = (190, 190, 190)
_FAINT: Final[Rgb] = (175, 175, 175)
_TRACK: Final[Rgb] = (70, 70, 70)
_OPACITY: Final = 190  # of a panel's ground, of 255: faint letters can be read on it before white, too
_MIN_TEXT: Final = 9  # pixels
_MAX_PANEL_SHARE: Final = 0.25  # of the picture
_MAX_LABEL_SHARE: Final = 1 / 6  # of its height

Box = tuple[int, int, int, int]  # x1, y1, x2, y2, pixels, the end excluded


@dataclass(frozen=True, slots=True)
class _Label:
    """What is written of one face: its id, the name of the label and its number."""

    identity: str
    name: str
    number: float
    emotions: frozenset[Emotion]  # that the label names: they are written brighter
    colours: tuple[Rgb, ...]  # of the label's mark, from top to bottom
    is_quiet: bool  # none, or a compound of a face that shows nothing clearly

    @classmethod
    def of(cls, face: FaceResult, compounds: tuple[Compound, ...], labels: LabelView) -> "_Label":
        name, number = face.label(labels)
        is_quiet = face.weak if labels == "compound" else name == NO_EXPRESSION
        said = "" if labels == "compound" and is_quiet else name
        emotions = frozenset(label_emotions(said, compounds))
        return cls(f"#{face.face_id}", name, number, emotions, label_colours(said, compounds), is_quiet)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.identity, self.name, f"{self.number:.2f}") if self.name else (self.identity, DASH)

    @property
    def ink(self) -> Rgb:
        return _FAINT if self.is_quiet else WHITE


def draw(
    image: npt.NDArray[np.uint8],
    result: FrameResult,
    compounds: tuple[Compound, ...],
    *,
    labels: LabelView = "expression",
) -> npt.NDArray[np.uint8]:
    """A copy of `image`, u8[H, W, 3] RGB, with what `result` says of it.

    Bars are left out where there is no room for them beside the faces, then the texts; boxes are always drawn. The
    emotions that a label names (those of a compound are looked up in `compounds`) are brighter than the others. A label
    is faint where it is `none`, and a compound where the six are small (FaceResult.weak).
    """
    picture = image.copy()
    height, width = picture.shape[:2]
    text_size = _text_size(height, width)
    if result.status != "ok":
        _draw_word(picture, _WORDS[result.status], text_size)
        return picture
    boxes = [_inside(face.face.box_xyxy, height, width) for face in result.faces]
    for box in boxes:
        _draw_box(picture, box)
    taken = list(boxes)
    for number in sorted(range(len(boxes)), key=lambda n: boxes[n][1] - boxes[n][3]):  # large faces first
        face = result.faces[number]
        label = _Label.of(face, compounds, labels)
        names = (*EMOTIONS, *(c.name for c in compounds)) if labels == "expression" else [c.name for c in compounds]
        laid = _lay_panel(picture, face, label, boxes[number], taken, names)
        laid = laid or _lay_label(picture, label, boxes[number], text_size)
        if laid is not None:
            taken.append(laid)
    return picture


def _text_size(height: int, width: int) -> int:
    """Pixels: 13 at 640x360, growing a little slower than the picture."""
    return max(_MIN_TEXT, round(13 * float((min(height, 0.6 * width) / 360) ** 0.8)))


def _inside(box_xyxy: npt.NDArray[np.float32], height: int, width: int) -> Box:
    """Whole pixels, at least one, inside the picture."""
    x1, y1, x2, y2 = (round(float(v)) if np.isfinite(v) else 0 for v in box_xyxy)
    x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
    return x1, y1, min(max(x2, x1 + 1), width), min(max(y2, y1 + 1), height)


def _draw_box(picture: npt.NDArray[np.uint8], box: Box) -> None:
    """A white line with a dark one on either side, which shows on any ground."""
    line = max(1, round(min(picture.shape[:2]) / 240))
    _draw_frame(picture, box, line=3 * line if line > 1 else 2, colour=_DARK)
    x1, y1, x2, y2 = box
    edge = line if line > 1 else 0
    if x2 - x1 > 2 * edge and y2 - y1 > 2 * edge:
        _draw_frame(picture, (x1 + edge, y1 + edge, x2 - edge, y2 - edge), line=line, colour=WHITE)


def _draw_frame(picture: npt.NDArray[np.uint8], box: Box, *, line: int, colour: Rgb) -> None:
    x1, y1, x2, y2 = box
    line = max(1, min(line, (x2 - x1) // 4, (y2 - y1) // 4))
    picture[y1 : y1 + line, x1:x2] = colour
    picture[y2 - line : y2, x1:x2] = colour
    picture[y1:y2, x1 : x1 + line] = colour
    picture[y1:y2, x2 - line : x2] = colour


def _draw_word(picture: npt.NDArray[np.uint8], word: str, size: int) -> None:
    """A discreet word in the lower left corner; none where the picture is too small for it."""
    mask = text_mask(word, size)
    sheet = Sheet.empty(mask.shape[0], mask.shape[1] + size, opacity=_OPACITY)
    sheet.write(mask, x=size // 2, y=0, colour=_DIM)
    height, width = picture.shape[:2]
    margin = size // 2
    if sheet.height <= height * _MAX_LABEL_SHARE and sheet.width + margin <= width:
        sheet.lay(picture, x=margin, y=height - sheet.height - margin)


def _lay_panel(
    picture: npt.NDArray[np.uint8],
    face: FaceResult,
    label: _Label,
    box: Box,
    taken: Sequence[Box],
    names: Sequence[str],
) -> Box | None:
    """Label and bars beside the face, in smaller letters where that makes them fit; None: there is no room."""
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
            panel.lay(picture, x=place[0], y=place[1])
            return (*place, place[0] + panel.width, place[1] + panel.height)
    return None


def _lay_label(picture: npt.NDArray[np.uint8], label: _Label, box: Box, text_size: int) -> Box | None:
    """One line without bars on the box's upper edge, or inside it at the top of the picture; None: no room."""
    height, width = picture.shape[:2]
    size = max(_MIN_TEXT, text_size * 3 // 4)
    for count, marked in ((3, True), (2, True), (1, True), (1, False)):
        mask, mark = line_mask(label.texts[:count], size), _mark_width(size) if marked and label.colours else 0
        if mask.shape[1] + mark + size <= width and mask.shape[0] <= height * _MAX_LABEL_SHARE:
            sheet = Sheet.empty(mask.shape[0], mask.shape[1] + mark + size, opacity=_OPACITY)
            if mark:
                _draw_mark(sheet, label, x=size // 2, y=0, size=size)
            sheet.write(mask, x=size // 2 + mark, y=0, colour=label.ink)
            x, y = min(box[0], width - sheet.width), box[1] - sheet.height
            y = y if y >= 0 else min(box[1], height - sheet.height)
            sheet.lay(picture, x=x, y=y)
            return x, y, x + sheet.width, y + sheet.height
    return None


def _mark_width(size: int) -> int:
    """Pixels that the mark of a label takes, with the space behind it."""
    return size // 2 + max(2, size // 3)


def _draw_mark(sheet: Sheet, label: _Label, *, x: int, y: int, size: int) -> None:
    """A block in the label's colours, one above the other; a thin one where the label is quiet."""
    height = max(2, round(size * (0.25 if label.is_quiet else 0.8)))
    top = y + (round(size * 1.25) - height) // 2
    for number, colour in enumerate(label.colours):
        begin, end = (height * k // len(label.colours) for k in (number, number + 1))
        sheet.fill(x=x, y=top + begin, width=size // 2, height=end - begin, colour=colour)


def _panel(face: FaceResult, label: _Label, size: int, names: Sequence[str]) -> Sheet:
    """Label and six bars; `names`: of all labels there may be."""
    mask, mark = line_mask(label.texts, size), _mark_width(size)
    # As wide as the longest label needs it, so that the panel does not change from frame to frame.
    widest = max(line_width((label.identity, name, "0.00"), size) for name in (*names, DASH))
    ground, (bar_x, bar_width) = _ground(size, label.emotions, max(mask.shape[1], widest) + mark)
    sheet = ground.copy()
    row, pad = round(size * 1.25), size // 2
    _draw_mark(sheet, label, x=pad, y=pad // 2, size=size)
    sheet.write(mask, x=pad + mark, y=pad // 2, colour=label.ink)
    for number, emotion in enumerate(EMOTIONS):
        y = pad // 2 + row * (number + 1)
        prob = float(np.clip(np.nan_to_num(face.probs[number]), 0, 1))
        length = round(prob * bar_width)
        sheet.fill(x=bar_x, y=y + row // 4, width=length, height=row // 2, colour=EMOTION_COLOURS[emotion])
        sheet.write(text_mask(f"{prob:.2f}", size), x=bar_x + bar_width + pad, y=y)
    return sheet


@lru_cache(maxsize=256)
def _ground(size: int, bright: frozenset[Emotion], label_width: int) -> tuple[Sheet, tuple[int, int]]:
    """What does not change from frame to frame: ground, names, empty bars; and the bars' x and width."""
    row, pad = round(size * 1.25), size // 2
    names = [text_mask(emotion, size) for emotion in EMOTIONS]
    names_width = max(mask.shape[1] for mask in names)
    values_width = text_mask("0.00", size).shape[1]
    bar_width = max(4 * size, label_width - names_width - values_width - 2 * pad)
    width = pad + names_width + pad + bar_width + pad + values_width + pad
    sheet = Sheet.empty(row * (len(EMOTIONS) + 1) + pad, width, opacity=_OPACITY)
    for number, (emotion, mask) in enumerate(zip(EMOTIONS, names, strict=True)):
        y = pad // 2 + row * (number + 1)
        sheet.write(mask, x=pad, y=y, colour=WHITE if emotion in bright else _DIM)
        sheet.fill(x=2 * pad + names_width, y=y + row // 4, width=bar_width, height=row // 2, colour=_TRACK)
    return sheet, (2 * pad + names_width, bar_width)


def _place(
    sheet: Sheet, box: Box, taken: Sequence[Box], shape: tuple[int, int], *, gap: int, must: bool
) -> tuple[int, int] | None:
    """Upper left corner beside, below or above the box, where nothing else is; None where there is no such place.

    With `must`, the place that hides least is taken then.
    """
    x1, y1, x2, y2 = box
    corners = [
        (x2 + gap, y1),
        (x1 - gap - sheet.width, y1),
        (x1, y2 + gap),
        (x1, y1 - gap - sheet.height),
    ]
    best: tuple[int, int] | None = None
    least = sheet.width * sheet.height + 1
    for x, y in corners:
        spot = _clamped(sheet, x, y, shape)
        if spot is None:
            continue
        area = (*spot, spot[0] + sheet.width, spot[1] + sheet.height)
        hidden = sum(_overlap(area, other) for other in taken)
        if hidden == 0:
            return spot
        if hidden < least:
            best, least = spot, hidden
    return best if must else None


def _clamped(sheet: Sheet, x: int, y: int, shape: tuple[int, int]) -> tuple[int, int] | None:
    if sheet.height > shape[0] or sheet.width > shape[1]:
        return None
    return min(max(x, 0), shape[1] - sheet.width), min(max(y, 0), shape[0] - sheet.height)


def _overlap(a: Box, b: Box) -> int:
    """Pixels that two boxes have in common."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
