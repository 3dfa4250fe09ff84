"""Live sources: cameras, streams, and films played in real time.

A reading thread keeps only the newest frame; older ones are dropped and counted. So the age of a frame never exceeds
the time it took to process the frame before, however slow processing is.
"""

import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
from av.codec.context import Flags
from av.error import FFmpegError

from femae.errors import InputError
from femae.types import Frame, SourceInfo
from femae.video.container import open_film
from femae.video.rgb import RgbConverter, as_fraction

__all__ = ["LiveSource", "SourceSpec", "find_source"]

_TIMEOUT_S: Final = (10.0, 10.0)  # for opening a stream, and for its next packet
_FAMILIES: Final = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_WAIT_S: Final = 0.1  # longest wait before `end` is noticed


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """What FFmpeg should open, and how."""

    kind: str  # "camera", "stream" or "film"
    name: str  # for messages and the table; without credentials
    address: str  # FFmpeg's URL, path or device
    format: str | None = None  # FFmpeg's input format, for cameras


def find_source(text: str, *, platform: str = sys.platform) -> SourceSpec:
    """Interpret a source given on the command line.

    "" or a number is a camera, `x://` a stream, anything else a film or a camera's name. Raises InputError where it
    does not exist.
    """
    if "://" in text:
        return SourceSpec(kind="stream", name=re.sub(r"//[^/@]*@", "//", text), address=text)
    path = Path(text).expanduser()
    if text and (path.is_file() or path.suffix) and not path.is_char_device():
        if not path.exists():
            raise InputError(f"'{text}' does not exist: check the name and the folder you are in")
        return SourceSpec(kind="film", name=path.name, address=str(path))
    family = _FAMILIES.get("linux" if platform.startswith("linux") else platform)
    if family is None:
        raise InputError(f"cameras are not supported on this system ({platform}); name a film or a stream")
    address = _camera_address(text, family)
    if family == "v4l2" and not Path(address).exists():
        raise InputError(
            f"there is no camera at {address}: plug one in, or name a device, a stream or a film, as in "
            "`femae webcam film.mp4 --realtime`"
        )
    return SourceSpec(kind="camera", name=text or address, address=address, format=family)


def _camera_address(text: str, family: str) -> str:
    if family == "v4l2":
        return f"/dev/video{text or 0}" if not text or text.isdecimal() else text
    if family == "avfoundation":
        return f"{text or 0}:none"
    if not text or text.isdecimal():
        raise InputError(
            'on Windows a camera is given by its name, as in `femae webcam "Integrated Camera"`; the Camera app or '
            "the device manager shows it"
        )
    return f"video={text}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _TimedFrame:
    """A decoded frame with its times."""

    frame: Any  # av.VideoFrame
    index: int
    time_s: float
    arrived_s: float  # of time.monotonic


class LiveSource:
    """Yields the newest frame at each step; a context manager that starts and stops the reading thread.

    `Frame.index` counts all frames that were read, from 1, so that gaps show dropped frames; `time_s` begins at 0.
    Without `drop` (films at full speed), reading waits for the consumer and nothing is dropped.
    """

    def __init__(self, spec: SourceSpec, *, drop: bool, paced: bool = False, size: str = "", rate: float = 0) -> None:
        """`paced`: yield frames no earlier than their times. `size` (as 640x480) and `rate` are requested of a camera.

        Raises InputError where the source cannot be opened.
        """
        self.name = spec.name
        self.problems: list[str] = []
        self.num_dropped = 0  # frames that were read and never yielded
        self.arrived_s = 0.0  # when the frame yielded last was read, of time.monotonic
        self._drop, self._paced = drop, paced
        self._container, self._stream = _open(spec, size=size, rate=rate)
        self.info = SourceInfo(
            name=spec.name,
            width=self._stream.width or None,
            height=self._stream.height or None,
            frame_rate=as_fraction(self._stream.average_rate) or as_fraction(self._stream.guessed_rate),
            num_frames=self._stream.frames or None,
            duration_s=float(self._stream.duration * self._stream.time_base) if self._stream.duration else None,
        )
        self._change = threading.Condition()
        self._newest: _TimedFrame | None = None
        self._is_over = self._is_closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="femae-live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def end(self) -> None:
        """Request reading and iteration to end; takes no lock, so that a signal handler may call it."""
        self._is_closed = True

    def close(self) -> None:
        """End reading and iteration. May be called from any thread, and twice."""
        self.end()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=_TIMEOUT_S[1] + 1)

    def __iter__(self) -> Iterator[Frame]:
        convert = RgbConverter()
        while (timed := self._take()) is not None:
            self.arrived_s = timed.arrived_s
            yield Frame(index=timed.index, time_s=timed.time_s, image=convert(timed.frame), source=self.name)

    def _take(self) -> _TimedFrame | None:
        """Wait for a new frame and take it; None at the end. Raises InputError for a source that was interrupted."""
        with self._change:
            while self._newest is None and not (self._is_over or self._is_closed):
                self._change.wait(_WAIT_S)
            timed, self._newest = self._newest, None
            self._change.notify_all()
        if self._is_closed:
            return None
        if timed is None and self._failure is not None:
            raise InputError(f"'{self.name}' was interrupted: {self._failure}") from self._failure
        return timed

    def _read(self) -> None:
        try:
            for timed in self._frames():
                if not self._put(timed):
                    break
        except (FFmpegError, OSError) as error:
            self._failure = error
        finally:
            self._container.close()
            with self._change:
                self._is_over = True
                self._change.notify_all()

    def _frames(self) -> Iterator[_TimedFrame]:
        first_s: float | None = None
        started_s = time.monotonic()
        last_s = -1.0
        for index, frame in enumerate(self._container.decode(self._stream), start=1):
            arrived_s = time.monotonic()
            stated_s = frame.time if frame.time is not None else arrived_s
            if first_s is None:
                first_s, started_s = stated_s, arrived_s
            time_s = max(stated_s - first_s, last_s + 1e-3)  # strictly increasing
            last_s = time_s
            if self._paced:
                self._sleep_until(started_s + time_s)
                arrived_s = time.monotonic()
            yield _TimedFrame(frame=frame, index=index, time_s=time_s, arrived_s=arrived_s)

    def _put(self, timed: _TimedFrame) -> bool:
        """Make this the newest frame; returns whether reading should continue."""
        with self._change:
            while not self._drop and self._newest is not None and not self._is_closed:
                self._change.wait(_WAIT_S)
            if self._newest is not None:
                self.num_dropped += 1
            self._newest = timed
            self._change.notify_all()
            return not self._is_closed

    def _sleep_until(self, time_s: float) -> None:
        """Sleep until a time of time.monotonic, or until the source is closed."""
        with self._change:
            while not self._is_closed and (left_s := time_s - time.monotonic()) > 0:
                self._change.wait(min(left_s, _WAIT_S))


def _open(spec: SourceSpec, *, size: str, rate: float) -> tuple[Any, Any]:
    """Open the container; returns it with its video stream. Raises InputError."""
    if spec.kind == "film":
        container, stream = open_film(Path(spec.address))
        stream.thread_type = "AUTO"
        return container, stream
    options = {"video_size": size} if size else {}
    options |= {"framerate": f"{rate:g}"} if rate else {}
    options |= {"rtsp_transport": "tcp"} if spec.address.startswith("rtsp") else {}
    try:
        container = av.open(spec.address, format=spec.format, options=options, timeout=_TIMEOUT_S)
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(_explain_failure(spec, error, has_options=bool(size or rate))) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"'{spec.name}' has no video stream: name another source")
    stream = container.streams.video[0]
    stream.codec_context.flags |= Flags.low_delay
    return container, stream


def _explain_failure(spec: SourceSpec, error: Exception, *, has_options: bool) -> str:
    if spec.kind == "stream":
        return f"the stream '{spec.name}' cannot be opened: check the address, and that its sender is running"
    if isinstance(error, PermissionError):
        return f"the camera '{spec.name}' may not be used: allow it (on Linux: join the group 'video')"
    if getattr(error, "errno", None) == 16:
        return f"the camera '{spec.name}' is in use by another program: close that one first"
    hint = "leave out --size and --rate, or " if has_options else ""
    return f"the camera '{spec.name}' cannot be opened: {hint}check that it is plugged in, or name another one"
