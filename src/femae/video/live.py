"""Cameras, streams and films as they come: a reading thread keeps the newest frame, older ones are dropped and counted.

So what is seen is never older than the frame before it took to be worked on, however slow the work is.
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

__all__ = ["LiveSource", "Opening", "find_source"]

_TIMEOUT_S: Final = (10.0, 10.0)  # to open a stream, to wait for its next packet
_FAMILIES: Final = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_WAIT_S: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """How FFmpeg is to open a source."""

    kind: str  # "camera", "stream" or "film"
    name: str  # for messages and the table
    address: str  # what FFmpeg opens
    format: str | None = None  # of FFmpeg, for cameras


def find_source(text: str, *, platform: str = sys.platform) -> Opening:
    """What a source on the command line means: "" or a number a camera, `x://` a stream, else a camera or a film.

    Raises InputError where nothing of that name exists, in words that say what to do.
    """
    if "://" in text:
        return Opening(kind="stream", name=re.sub(r"//[^/@]*@", "//", text), address=text)
    path = Path(text).expanduser()
    if text and (path.is_file() or path.suffix) and not path.is_char_device():
        if not path.exists():
            raise InputError(f"'{text}' does not exist: check the name and the folder you are in")
        return Opening(kind="film", name=path.name, address=str(path))
    family = _FAMILIES.get("linux" if platform.startswith("linux") else platform)
    if family is None:
        raise InputError(f"cameras are not supported on this system ({platform}); name a film or a stream")
    address = _camera_address(text, family)
    if family == "v4l2" and not Path(address).exists():
        raise InputError(
            f"there is no camera at {address}: plug one in, or name a device, a stream or a film, as in "
            "`femae webcam film.mp4 --realtime`"
        )
    return Opening(kind="camera", name=text or address, address=address, format=family)


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
class _Shot:
    """A decoded frame that has not been taken yet."""

    frame: Any  # av.VideoFrame
    index: int
    time_s: float
    arrived_s: float  # of time.monotonic


class LiveSource:
    """Iterating gives the newest frame each time; use it as a context, which starts and ends the reading thread.

    `Frame.index` counts the frames that came, from 1, so that gaps show dropped ones; `time_s` begins at 0. With
    `drop` off (films at full speed) the reading waits instead and nothing is dropped.
    """

    def __init__(self, opening: Opening, *, drop: bool, paced: bool = False, size: str = "", rate: float = 0) -> None:
        """`paced` gives frames no earlier than their times say. `size` and `rate` are asked of a camera.

        Raises InputError where the source cannot be opened.
        """
        self.name = opening.name
        self.problems: list[str] = []
        self.num_dropped = 0  # frames that came and were never taken
        self.arrived_s = 0.0  # of time.monotonic; when the frame given last had come
        self._drop, self._paced = drop, paced
        self._container, self._stream = _open(opening, size=size, rate=rate)
        self.info = SourceInfo(
            name=opening.name,
            width=self._stream.width or None,
            height=self._stream.height or None,
            frame_rate=as_fraction(self._stream.average_rate) or as_fraction(self._stream.guessed_rate),
            num_frames=self._stream.frames or None,
            duration_s=float(self._stream.duration * self._stream.time_base) if self._stream.duration else None,
        )
        self._change = threading.Condition()
        self._newest: _Shot | None = None
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
        """Ask the reading and the iterating to end soon; takes no lock, so a signal handler may call it."""
        self._is_closed = True

    def close(self) -> None:
        """End the reading; iterating ends, too. May be called from any thread, and twice."""
        self.end()
        with self._change:
            self._change.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=_TIMEOUT_S[1] + 1)

    def __iter__(self) -> Iterator[Frame]:
        convert = RgbConverter()
        while (shot := self._take()) is not None:
            self.arrived_s = shot.arrived_s
            yield Frame(index=shot.index, time_s=shot.time_s, image=convert(shot.frame), source=self.name)

    def _take(self) -> _Shot | None:
        """The newest frame, as soon as there is one; None at the end. Raises InputError for a source that broke off."""
        with self._change:
            while self._newest is None and not (self._is_over or self._is_closed):
                self._change.wait(_WAIT_S)
            shot, self._newest = self._newest, None
            self._change.notify_all()
        if self._is_closed:
            return None
        if shot is None and self._failure is not None:
            raise InputError(f"'{self.name}' was interrupted: {self._failure}") from self._failure
        return shot

    def _read(self) -> None:
        try:
            for shot in self._shots():
                if not self._put(shot):
                    break
        except (FFmpegError, OSError) as error:
            self._failure = error
        finally:
            self._container.close()
            with self._change:
                self._is_over = True
                self._change.notify_all()

    def _shots(self) -> Iterator[_Shot]:
        first_s: float | None = None
        begun_s = time.monotonic()
        last_s = -1.0
        for index, frame in enumerate(self._container.decode(self._stream), start=1):
            arrived_s = time.monotonic()
            stated_s = frame.time if frame.time is not None else arrived_s
            if first_s is None:
                first_s, begun_s = stated_s, arrived_s
            time_s = max(stated_s - first_s, last_s + 1e-3)  # times that step back would undo the order
            last_s = time_s
            if self._paced:
                self._sleep_until(begun_s + time_s)
                arrived_s = time.monotonic()
            yield _Shot(frame=frame, index=index, time_s=time_s, arrived_s=arrived_s)

    def _put(self, shot: _Shot) -> bool:
        """Make this the newest frame; returns whether more are wanted."""
        with self._change:
            while not self._drop and self._newest is not None and not self._is_closed:
                self._change.wait(_WAIT_S)
            if self._newest is not None:
                self.num_dropped += 1
            self._newest = shot
            self._change.notify_all()
            return not self._is_closed

    def _sleep_until(self, moment_s: float) -> None:
        with self._change:
            while not self._is_closed and (left_s := moment_s - time.monotonic()) > 0:
                self._change.wait(min(left_s, _WAIT_S))


def _open(opening: Opening, *, size: str, rate: float) -> tuple[Any, Any]:
    """The container and its stream of pictures. Raises InputError."""
    if opening.kind == "film":
        container, stream = open_film(Path(opening.address))
        stream.thread_type = "AUTO"
        return container, stream
    options = {"video_size": size} if size else {}
    options |= {"framerate": f"{rate:g}"} if rate else {}
    options |= {"rtsp_transport": "tcp"} if opening.address.startswith("rtsp") else {}
    try:
        container = av.open(opening.address, format=opening.format, options=options, timeout=_TIMEOUT_S)
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(_why(opening, error, asked=bool(size or rate))) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"'{opening.name}' has no video stream: name another source")
    stream = container.streams.video[0]
    stream.codec_context.flags |= Flags.low_delay
    return container, stream


def _why(opening: Opening, error: Exception, *, asked: bool) -> str:
    if opening.kind == "stream":
        return f"the stream '{opening.name}' cannot be opened: check the address, and that its sender is running"
    if isinstance(error, PermissionError):
        return f"the camera '{opening.name}' may not be used: allow it (on Linux: join the group 'video')"
    if getattr(error, "errno", None) == 16:
        return f"the camera '{opening.name}' is in use by another program: close that one first"
    hint = "leave out --size and --rate, or " if asked else ""
    return f"the camera '{opening.name}' cannot be opened: {hint}check that it is plugged in, or name another one"
