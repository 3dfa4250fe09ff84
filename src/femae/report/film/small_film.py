"""One pass over a film: the pictures that are cut out of it, and the annotated film inside the page.

That film is H.264 with AAC at a bit rate that keeps to a budget, beginning at time 0.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from femae.report.parts.draw_rows import cut_face, draw_rows, shrink
from femae.report.parts.tables import PredictionTable
from femae.types import SourceInfo
from femae.video.pyav import PyAVSource

__all__ = ["FilmPass", "FilmPlan", "SmallFilm", "pass_over_film", "plan_film"]

_TIME_BASE: Final = Fraction(1, 90_000)
_SOUND_BITS: Final = 40_000  # a second, mono
_LEAST_BITS: Final = 36_000  # a second: below this nothing can be recognised
_BEST_BITS: Final = 1_500_000
_SOUND_RATE: Final = 32_000
_TOO_LONG: Final = (
    "The film is not part of this page: it is too long for the allowed size. A larger --max-mb makes room for it."
)


class FilmPlan:
    """Longest side in pixels, bits a second of picture, whether there is sound."""

    def __init__(self, *, longest: int, bits: int, sound: bool) -> None:
        self.longest, self.bits, self.sound = longest, bits, sound


def plan_film(*, max_bytes: float, duration_s: float) -> FilmPlan | None:
    """How to encode a film of this length in this many bytes; None: it does not fit."""
    bits = 8 * max_bytes / max(duration_s, 1.0) * 0.97  # the rest is for the container
    if bits < _LEAST_BITS:
        return None
    sound = bits > 3 * _SOUND_BITS
    picture = int(min(_BEST_BITS, bits - (_SOUND_BITS * 1.1 if sound else 0)))
    longest = next((side for side, least in ((854, 700_000), (640, 130_000), (480, 80_000)) if picture >= least), 320)
    return FilmPlan(longest=longest, bits=picture, sound=sound)


class SmallFilm:
    """Takes pictures with their times, gives the bytes of an MP4 file."""

    def __init__(self, plan: FilmPlan, *, source_path: Path, rate: Fraction, start_s: float) -> None:
        self.plan = plan
        self._rate, self._start_s = rate, start_s
        self._source_path = source_path
        self._folder = tempfile.TemporaryDirectory(prefix="femae-report-")
        self._path = Path(self._folder.name) / "film.mp4"
        self._container: Any = None
        self._stream: Any = None
        self._sound: _Sound | None = None
        self._scaler = VideoReformatter()
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sound is not None:
            self._sound.close()
        if self._container is not None:
            self._container.close()
            self._container = None
        self._folder.cleanup()

    def write(self, picture: npt.NDArray[np.uint8], *, time_s: float) -> None:
        """Add u8[H, W, 3] RGB; one of another size than the first is scaled to it."""
        if self._container is None:
            self._open(picture)
        height, width = self._stream.height, self._stream.width
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            width=width,
            height=height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        self._last = max(self._last + 1, round((time_s - self._start_s) / _TIME_BASE))
        frame.pts, frame.time_base = self._last, _TIME_BASE
        packets = self._stream.encode(frame)
        if self._sound is not None:
            self._sound.write_until(time_s - self._start_s)
        self._container.mux(packets)

    def finish(self) -> bytes:
        """The whole file; empty when no picture was written."""
        if self._container is None:
            return b""
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish()
        self._container.close()
        self._container = None
        return self._path.read_bytes()

    def _open(self, picture: npt.NDArray[np.uint8]) -> None:
        self._container = av.open(str(self._path), "w", format="mp4")
        bits, second = self.plan.bits, max(1, round(self._rate))
        options = {"preset": "veryfast", "crf": "25", "maxrate": str(bits), "bufsize": str(2 * bits), "bf": "0"}
        stream: Any = self._container.add_stream("libx264", rate=self._rate, options=options | {"g": str(2 * second)})
        stream.height, stream.width = (max(2, side - side % 2) for side in picture.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        context = stream.codec_context
        context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
        context.color_primaries, context.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        self._stream = stream
        if self.plan.sound:
            self._sound = _Sound.of(self._source_path, self._container, start_s=self._start_s)


class _Sound:
    """The first track of sound, mono AAC, in step with the pictures; a damaged track ends early."""

    def __init__(self, source: Any, container: Any, *, start_s: float) -> None:
        self._source, self._container, self._start_s = source, container, start_s
        self._stream = container.add_stream("aac", rate=_SOUND_RATE)
        self._stream.layout = "mono"
        self._stream.bit_rate = _SOUND_BITS
        self._filler = AudioResampler(format="fltp", layout="mono", rate=_SOUND_RATE, options={"async": "1"})
        self._frames = self._decode()
        self._next = next(self._frames, None)

    @classmethod
    def of(cls, path: Path, container: Any, *, start_s: float) -> "_Sound | None":
        """None where the film has no sound that can be read."""
        try:
            source = av.open(str(path))
        except (FFmpegError, OSError):
            return None
        if not source.streams.audio:
            source.close()
            return None
        return cls(source, container, start_s=start_s)

    def _decode(self) -> Iterator[Any]:
        try:
            for frame in self._source.decode(audio=0):
                if frame.pts is not None and frame.time >= self._start_s:
                    frame.pts -= round(Fraction(self._start_s) / frame.time_base)
                    yield frame
        except FFmpegError:
            return

    def write_until(self, time_s: float) -> None:
        while self._next is not None and self._next.time <= time_s:
            self._encode(self._next)
            self._next = next(self._frames, None)

    def finish(self) -> None:
        self.write_until(float("inf"))
        self._encode(None)
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        self._source.close()

    def _encode(self, frame: Any) -> None:
        for filled in self._filler.resample(frame):
            self._container.mux(self._stream.encode(filled))


_NO_PLAN: Final = FilmPlan(longest=320, bits=0, sound=False)


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
