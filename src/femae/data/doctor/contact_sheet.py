"""Contact sheets: some faces of each class in one picture, so that a person sees at a glance what a class holds."""

import heapq
import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["ContactSheets", "draw_sheet"]

_THUMB: Final = 96  # pixels a side
_TITLE: Final = 28
_COLUMNS: Final = 10


class ContactSheets:
    """Keeps a fixed number of faces per class: those with the smallest digests, which is a draw that never changes."""

    def __init__(self, *, num_faces: int = 40, max_classes: int = 60) -> None:
        self.num_faces, self.max_classes = num_faces, max_classes
        self._faces: dict[str, list[tuple[int, int, npt.NDArray[np.uint8]]]] = {}
        self._totals: dict[str, int] = {}
        self._count = 0

    def add(self, class_name: str, image: npt.NDArray[np.uint8], digest: bytes) -> None:
        """Offer u8[H, W, 3] RGB of a class; `digest` tells pictures apart."""
        name = class_name or "(no label)"
        self._totals[name] = self._totals.get(name, 0) + 1
        if name not in self._faces and len(self._faces) >= self.max_classes:
            return
        faces = self._faces.setdefault(name, [])
        rank = -int.from_bytes(digest[:8], "big")
        if len(faces) >= self.num_faces and rank <= faces[0][0]:
            return
        self._count += 1
        thumb = Image.fromarray(image)
        thumb.thumbnail((_THUMB, _THUMB), Image.Resampling.BILINEAR)
        entry = (rank, self._count, np.asarray(thumb, np.uint8))
        if len(faces) < self.num_faces:
            heapq.heappush(faces, entry)
        else:
            heapq.heapreplace(faces, entry)

    def sheets(self) -> list[tuple[str, int, bytes]]:
        """(class name, number of its samples, png) of every class, the most frequent first."""
        names = sorted(self._faces, key=lambda name: (-self._totals[name], name))
        return [
            (name, self._totals[name], draw_sheet(name, self._totals[name], [one[2] for one in self._ordered(name)]))
            for name in names
        ]

    def _ordered(self, name: str) -> list[tuple[int, int, npt.NDArray[np.uint8]]]:
        return sorted(self._faces[name], key=lambda one: -one[0])


def draw_sheet(name: str, total: int, faces: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """One sheet as png: a title and rows of ten faces, each at most 96 pixels a side."""
    num_rows = max(-(-len(faces) // _COLUMNS), 1)
    sheet = Image.new("RGB", (_COLUMNS * _THUMB, _TITLE + num_rows * _THUMB), (24, 24, 24))
    title = f"{name}   {len(faces)} of {total:,}"
    ImageDraw.Draw(sheet).text((8, 5), title, fill=(255, 255, 255), font=ImageFont.load_default(16))
    for position, face in enumerate(faces):
        row, column = divmod(position, _COLUMNS)
        height, width = face.shape[:2]
        left = column * _THUMB + (_THUMB - width) // 2
        top = _TITLE + row * _THUMB + (_THUMB - height) // 2
        sheet.paste(Image.fromarray(face), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
