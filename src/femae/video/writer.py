"""Writes annotated films: H.264 in MP4 with the source's presentation times, length and sound."""

import contextlib
import errno
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
import numpy.typing as npt
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from femae.errors import InputError, OutputError
from femae.types import Frame, SourceInfo
from femae.video.sound import Sound

__all__ = ["VideoWriter"]

_MAX_TIMESCALE: Final = 2**31 - 1
_DEFAULT_RATE: Final = Fraction(25)
_DEFAULT_SIZE: Final = (360, 640)  # height, width


class VideoWriter:
    """Encodes frames one by one, in constant memory, interleaved with the sound of the source.

    Each frame keeps its exact presentation time, also at a variable frame rate; one that is not later than the frame
    before it is moved to the next tick. A source that begins before 0 is shifted to begin at 0, together with its
    sound. The last frame lasts as long as in the source. Pictures of odd width or height are padded by repeating the
    last column or row (H.264 in 4:2:0 needs even sizes); a picture that differs in size from the first is scaled to it.

    The film is written to `<name>.part` beside `path` and renamed when it is complete; if an exception leaves the
    `with` block, the part is removed.
    """

    def __init__(
        self,
        path: Path,
        *,
        info: SourceInfo,
        source_path: Path | None = None,
        crf: int = 20,
        preset: str = "veryfast",
        num_threads: int = 0,
    ) -> None:
        """`source_path`: film whose sound is copied; None: no sound. `crf`: of x264, 0 (lossless) to 51 (worst).

        `num_threads`: of the encoder; 0: FFmpeg's choice. Raises OutputError where `path` cannot be written.
        """
        self.path = path
        self.info = info
        self._part = path.with_name(path.name + ".part")
        self._source_path = source_path
        self._options = {"preset": preset, "crf": str(crf), "bf": "0"}  # without B-frames, packets are in order
        self._num_threads = num_threads
        self._rate = info.frame_rate or _DEFAULT_RATE
        self._time_base = info.time_base or 1 / self._rate
        if self._time_base.denominator > _MAX_TIMESCALE:
            self._time_base = Fraction(1, 90_000)
        self._scaler = VideoReformatter()
        self._container: Any | None = None
        self._stream: Any | None = None
        self._sound: Sound | None = None
        self._offset = 0  # ticks
        self._last_pts: int | None = None
        self._held: Any | None = None  # the last packet; held back, since at the end its duration is changed
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder, so no film can be written there: give another name")
        try:
            self._part.open("wb").close()
        except OSError as error:
            raise self._output_error(error) from error

    def blank(self) -> npt.NDArray[np.uint8]:
        """A black picture u8[H, W, 3] of the film's size, as a substitute for a frame that could not be decoded."""
        height, width = _DEFAULT_SIZE
        return np.zeros((self.info.height or height, self.info.width or width, 3), np.uint8)

    def write(self, frame: Frame, image: npt.NDArray[np.uint8] | None = None) -> None:
        """Add `image`, u8[H, W, 3] RGB (None: black), at the time of `frame`.

        Raises OutputError: disk full, no permission, no H.264 encoder.
        """
        picture = self.blank() if image is None else image
        try:
            if self._container is None:
                self._open(picture, frame)
            self._encode(picture, self._ticks(frame))
        except (FFmpegError, OSError) as error:
            raise self._output_error(error) from error

    def close(self) -> None:
        """Complete the film and rename it to `path`. Raises OutputError, also where no frame was written."""
        if self._container is None:
            self.abort()
            raise OutputError(f"'{self.path}' was not written: there was no frame")
        try:
            self._finish()
            self._part.replace(self.path)
        except (FFmpegError, OSError) as error:
            self.abort()
            raise self._output_error(error) from error

    def abort(self) -> None:
        """Close all files and remove the part."""
        container, self._container = self._container, None
        if self._sound is not None:
            self._sound.close()
        if container is not None:
            with contextlib.suppress(FFmpegError, OSError):
                container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def _open(self, picture: npt.NDArray[np.uint8], frame: Frame) -> None:
        """Set up the streams, with the size of the first picture and the time offset of the first frame."""
        # The same time scale as the stream's, so that a film that does not begin at 0 begins at its exact time.
        scale = str(self._time_base.denominator)
        self._container = av.open(
            str(self._part.absolute()), "w", format="mp4", container_options={"movie_timescale": scale}
        )
        try:
            stream: Any = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        except UnknownCodecError as error:
            raise OutputError("this FFmpeg has no H.264 encoder (libx264): install PyAV's own wheel, 'av'") from error
        stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._time_base
        context = stream.codec_context
        context.color_range, context.colorspace = int(ColorRange.MPEG), int(Colorspace.ITU709)
        context.color_primaries, context.color_trc = int(ColorPrimaries.BT709), int(ColorTrc.BT709)
        context.thread_count, context.thread_type = self._num_threads, "FRAME"
        self._stream = stream
        self._offset = max(0, -round((frame.time_s or 0.0) / self._time_base))
        if self._source_path is not None:
            with contextlib.suppress(InputError):  # deleted meanwhile: a film without sound
                self._sound = Sound(self._source_path, self._container, offset_s=self._offset * self._time_base)

    def _ticks(self, frame: Frame) -> int:
        """Presentation time of the frame in the written film, in ticks; strictly increasing."""
        last = self._last_pts
        if frame.time_s is None:
            step = max(1, round(1 / self._rate / self._time_base))
            return 0 if last is None else last + step
        pts = round(frame.time_s / self._time_base) + self._offset
        return pts if last is None else max(pts, last + 1)

    def _encode(self, picture: npt.NDArray[np.uint8], pts: int) -> None:
        assert self._stream is not None
        height, width = picture.shape[:2]
        picture = (
            np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else picture
        )
        frame = self._scaler.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = pts, self._time_base
        self._last_pts = pts
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        """Write all packets but the newest, each after the sound up to its time."""
        assert self._container is not None
        for packet in packets:
            if self._held is not None:
                if self._sound is not None:
                    self._sound.write_until(float((self._held.pts - self._offset) * self._time_base))
                self._container.mux(self._held)
            self._held = packet

    def _finish(self) -> None:
        assert self._container is not None and self._stream is not None
        self._mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish()
        if self._held is not None:
            self._held.duration = self._last_duration()
            self._container.mux(self._held)
        if self._sound is not None:
            self._sound.close()
        self._container.close()

    def _last_duration(self) -> int:
        """Duration of the last frame, in ticks."""
        usual = max(1, round(1 / self._rate / self._time_base))
        end_s = None if self._sound is None else self._sound.video_end_s
        if end_s is None or self._last_pts is None:
            return usual
        left = round(end_s / self._time_base) + self._offset - self._last_pts
        return left if left > 0 else usual

    def _output_error(self, error: Exception) -> OutputError:
        code = getattr(error, "errno", None)
        if code == errno.ENOSPC:
            return OutputError(f"'{self.path}' cannot be written: the disk is full; make room or choose another folder")
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            return OutputError(f"'{self.path}' cannot be written: no permission; choose another folder")
        if code == errno.ENOENT:
            return OutputError(f"'{self.path}' cannot be written: its folder does not exist; create it first")
        return OutputError(f"'{self.path}' cannot be written: {getattr(error, 'strerror', None) or error}")
