"""One pass over a film: the annotated film for the page and the pictures that are cut out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.report.film.small_film import FilmPlan, SmallFilm, plan_film
from femae.report.parts.draw_rows import cut_face, draw_rows, shrink
from femae.report.parts.tables import PredictionTable
from femae.types import SourceInfo
from femae.video.pyav import PyAVSource

__all__ = ["FilmPass", "pass_over_film"]


_NO_PLAN: Final = FilmPlan(longest=320, bits=0, sound=False)
_TOO_LONG: Final = (
    "The film is not part of this page: it is too long for the size that was allowed. "
    "A larger --max-mb makes room for it."
)


@dataclass(kw_only=True, slots=True)
class FilmPass:
    """`mp4` is empty where the film does not fit; `pictures`: u8[S, S, 3] by the keys asked for."""

    mp4: bytes = b""
    pictures: dict[tuple[int, int], npt.NDArray[np.uint8]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Cutter:
    """Cuts faces out of the frames they are in."""

    def __init__(self, wanted: Mapping[tuple[int, int], tuple[PredictionTable, int]]) -> None:
        self.by_frame: dict[int, list[tuple[tuple[int, int], npt.NDArray[np.float32], int]]] = {}
        for key, (table, size) in wanted.items():
            row = key[1]
            self.by_frame.setdefault(int(table.frame[row]), []).append((key, table.boxes[row], size))

    def cut(self, frame: int, image: npt.NDArray[np.uint8], into: dict[tuple[int, int], npt.NDArray[np.uint8]]) -> None:
        for key, box, size in self.by_frame.get(frame, ()):
            picture = cut_face(image, box, size=size)
            if picture is not None:
                into[key] = picture


def pass_over_film(
    video: Path,
    table: PredictionTable,
    *,
    times: npt.NDArray[np.float64],
    wanted: Mapping[tuple[int, int], tuple[PredictionTable, int]],
    max_bytes: float,
    advance: Callable[[], None] = lambda: None,
) -> FilmPass:
    """Decode `video` once. `wanted`: (anything, row) -> (the table of that row, side in pixels of its picture).

    `times` f64[F]: when each frame of the table is shown. Raises InputError when the film cannot be opened.
    """
    result, cutter = FilmPass(), _Cutter(wanted)
    order = np.argsort(table.frame, kind="stable")
    sorted_frames, last = table.frame[order], 0
    with PyAVSource(video) as source:
        plan = plan_film(max_bytes=max_bytes, duration_s=float(times[-1] - times[0]))
        if plan is None:
            result.problems.append(_TOO_LONG)
        rate, blank = source.info.frame_rate or Fraction(25), _blank(source.info)
        with SmallFilm(plan or _NO_PLAN, source_path=video, rate=rate, start_s=float(times[0])) as film:
            for frame in source:
                last = frame.index
                if frame.image is not None:
                    cutter.cut(frame.index, frame.image, result.pictures)
                if plan is not None and frame.index <= len(times):
                    small, factor = shrink(blank if frame.image is None else frame.image, longest=plan.longest)
                    begin, end = np.searchsorted(sorted_frames, [frame.index, frame.index + 1])
                    drawn = draw_rows(small, table, order[begin:end], factor=factor)
                    film.write(drawn, time_s=float(times[frame.index - 1]))
                advance()
            result.mp4 = film.finish()
    if last != len(times):
        result.problems.append(
            f"The film has {last} frames, the table {len(times)}: is it the film that the table was made from?"
        )
    return result


def _blank(info: SourceInfo) -> npt.NDArray[np.uint8]:
    return np.zeros((info.height or 360, info.width or 640, 3), np.uint8)
