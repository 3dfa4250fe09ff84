"""Draws the faces of table rows into frames, and cuts face pictures out of frames."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.report.parts.tables import PredictionTable
from femae.types import Face, FaceResult, Frame, FrameResult
from femae.video.overlay import draw

__all__ = ["cut_face", "draw_rows", "shrink"]

_CUT_SCALE: Final = 1.8  # side of a cut-out relative to the longer side of the face's box


def shrink(image: npt.NDArray[np.uint8], *, longest: int) -> tuple[npt.NDArray[np.uint8], float]:
    """Scale u8[H, W, 3] down to a longer side of at most `longest` pixels; returns the image and the factor."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    if factor == 1.0:
        return image, factor
    size = max(2, round(width * factor)), max(2, round(height * factor))
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small, np.uint8), factor


def draw_rows(
    image: npt.NDArray[np.uint8], table: PredictionTable, rows: npt.NDArray[np.int64], *, factor: float = 1.0
) -> npt.NDArray[np.uint8]:
    """A copy of u8[H, W, 3] with the faces of these rows; their boxes are multiplied by `factor`."""
    frame = Frame(index=1, time_s=None, image=image, source="")
    faces = tuple(_face(table, int(row), factor) for row in rows if table.status[row] == "ok")
    if faces:
        return draw(image, FrameResult(frame=frame, status="ok", faces=faces), table.compounds, labels=table.labels)
    status = table.status[rows[0]] if len(rows) else "no_face"
    known = "unreadable" if status == "unreadable" else "no_face"
    return draw(image, FrameResult(frame=frame, status=known), table.compounds)  # type: ignore[arg-type]


def _face(table: PredictionTable, row: int, factor: float) -> FaceResult:
    name, certainty = table.name_of(row), float(table.certainty[row])  # only the label in view is drawn
    return FaceResult(
        face=Face(box_xyxy=(table.boxes[row] * np.float32(factor)).astype(np.float32), landmarks=None, score=1.0),
        face_id=int(table.face_id[row]),
        probs=table.emotions[row],
        scores=table.scores[row],
        compound=name,
        compound_score=certainty,
        expression=name,
        expression_probability=certainty,
    )


def cut_face(
    image: npt.NDArray[np.uint8], box_xyxy: npt.NDArray[np.float32], *, size: int
) -> npt.NDArray[np.uint8] | None:
    """The square around a box, u8[size, size, 3], black outside the image; None if the box is not finite."""
    if not np.isfinite(box_xyxy).all():
        return None
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    half = max(2.0, max(x2 - x1, y2 - y1) * _CUT_SCALE / 2)
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    corners = tuple(round(v) for v in (middle_x - half, middle_y - half, middle_x + half, middle_y + half))
    cut = Image.fromarray(image).crop(corners)  # type: ignore[arg-type]
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0), np.uint8)
