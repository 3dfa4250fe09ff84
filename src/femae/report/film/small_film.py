"""One pass over a film: cuts out face pictures and encodes the annotated film for the page.

The encoded film is H.264 with AAC, at a bit rate that fits a size budget, and begins at time 0.
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
_AUDIO_BITS: Final = 40_000  # per second, mono
_MIN_BITS: Final = 36_000  # per second: with less nothing can be recognised
_MAX_BITS: Final = 1_500_000
_AUDIO_RATE: Final = 32_000
_TOO_LONG: Final = (
    "The film is not part of this page: it is too long for the allowed size. A larger --max-mb makes room for it."
)


class FilmPlan:
    """Longest side in pixels, video bits per second, and whether audio is included."""

    def __init__(self, *, longest: int, bits: int, sound: bool) -> None:
        self.longest, self.bits, self.sound = longest, bits, sound


def plan_film(*, max_bytes: float, duration_s: float) -> FilmPlan | None:
    """How to encode a film of this duration in this many bytes; None if it does not fit."""
    bits = 8 * max_bytes / max(duration_s, 1.0) * 0.97  # the rest is for the container
    if bits < _MIN_BITS:
        return None
    sound = bits > 3 * _AUDIO_BITS
    picture = int(min(_MAX_BITS, bits - (_AUDIO_BITS * 1.1 if sound else 0)))
    longest = next((side for side, least in ((854, 700_000), (640, 130_000), (480, 80_000)) if picture >= least), 320)
    return FilmPlan(longest=longest, bits=picture, sound=sound)


class SmallFilm:
    """Encodes pictures with their times; `finish` returns the bytes of an MP4 file."""

    def __init__(self, plan: FilmPlan, *, source_path: Path, rate: Fraction, start_s: float) -> None:
        self.plan = plan
        self._rate, self._start_s = rate, start_s
        self._source_path = source_path
        self._folder = tempfile.TemporaryDirectory(prefix="femae-report-")
        self._path = Path(self._folder.name) / "film.mp4"
        self._container: Any = None
        self._stream: Any = None
        self._audio: _AudioTrack | None = None
        self._scaler = VideoReformatter()
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._audio is not None:
            self._audio.close()
        if self._container is not None:
            self._container.close()
            self._container = None
        self._folder.cleanup()

    def write(self, picture: npt.NDArray[np.uint8], *, time_s: float) -> None:
        """Add a picture u8[H, W, 3] RGB, scaled to the size of the first one if need be."""
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
        if self._audio is not None:
            self._audio.write_until(time_s - self._start_s)
        self._container.mux(packets)

    def finish(self) -> bytes:
        """The complete file; empty if no picture was written."""
        if self._container is None:
            return b""
        self._container.mux(self._stream.encode(None))
        if self._audio is not None:
            self._audio.finish()
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
            self._audio = _AudioTrack.of(self._source_path, self._container, start_s=self._start_s)


class _AudioTrack:
    """The first audio stream as mono AAC, in sync with the pictures; a damaged stream ends early."""

    def __init__(self, source: Any, container: Any, *, start_s: float) -> None:
        self._source, self._container, self._start_s = source, container, start_s
        self._stream = container.add_stream("aac", rate=_AUDIO_RATE)
        self._stream.layout = "mono"
        self._stream.bit_rate = _AUDIO_BITS
        self._resampler = AudioResampler(format="fltp", layout="mono", rate=_AUDIO_RATE, options={"async": "1"})
        self._frames = self._decode()
        self._next = next(self._frames, None)

    @classmethod
    def of(cls, path: Path, container: Any, *, start_s: float) -> "_AudioTrack | None":
        """The track, or None if the film has no readable audio."""
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
        for resampled in self._resampler.resample(frame):
            self._container.mux(self._stream.encode(resampled))


_NO_PLAN: Final = FilmPlan(longest=320, bits=0, sound=False)


@dataclass(kw_only=True, slots=True)
class FilmPass:
    """`mp4`: the film, empty if it does not fit; `pictures`: u8[S, S, 3] by the keys of `wanted`."""

    mp4: bytes = b""
    pictures: dict[tuple[int, int], npt.NDArray[np.uint8]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _FaceCropper:
    """Cuts the wanted faces out of frames."""

    def __init__(self, wanted: Mapping[tuple[int, int], tuple[PredictionTable, int]]) -> None:
        self.by_frame: dict[int, list[tuple[tuple[int, int], npt.NDArray[np.float32], int]]] = {}
        for key, (table, size) in wanted.items():
            row = key[1]
            self.by_frame.setdefault(int(table.frame[row]), []).append((key, table.boxes[row], size))

    def crop(
        self, frame: int, image: npt.NDArray[np.uint8], into: dict[tuple[int, int], npt.NDArray[np.uint8]]
    ) -> None:
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
    """Decode `video` once. `wanted`: (any number, row) -> (table of that row, side of its picture in pixels).

    `times` f64[F]: presentation time of each frame of the table. Raises InputError if the film cannot be opened.
    """
    result, cropper = FilmPass(), _FaceCropper(wanted)
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
                    cropper.crop(frame.index, frame.image, result.pictures)
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
