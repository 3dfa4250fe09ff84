"""The work behind the window: newest frame in, newest result out, every processed frame recorded."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from femae.inference.predictor import Predictor
from femae.types import Frame, FrameResult
from femae.video.live import LiveSource
from femae.webcam.recorder import Recorder

__all__ = ["ProcessedFrame", "Session"]

_RATE_OVER: Final = 30  # results


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessedFrame:
    """One result and how it came about."""

    result: FrameResult
    number: int  # results so far, this one included
    num_dropped: int  # frames so far that came and were never looked at
    arrived_s: float  # when its frame came, of time.monotonic
    ready_s: float  # when the result was there
    rate: float  # results a second, over the last thirty


class Session:
    """Runs a source through a predictor, one frame at a time; recording may be switched at any moment."""

    def __init__(
        self,
        source: LiveSource,
        predictor: Predictor,
        *,
        new_recorder: Callable[[], Recorder],
        max_s: float | None = None,
    ) -> None:
        """`new_recorder` opens the files of one recording; `max_s` ends the session at that time of the source."""
        self.source, self.predictor = source, predictor
        self._new_recorder, self._max_s = new_recorder, max_s
        self._ready: deque[float] = deque(maxlen=_RATE_OVER)
        self._wanted = False  # recording
        self._recorder: Recorder | None = None
        self._newest: ProcessedFrame | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self.recordings: list[str] = []  # one sentence for each that is complete
        self.error: BaseException | None = None
        self.is_over = False

    @property
    def newest(self) -> ProcessedFrame | None:
        """The latest result."""
        return self._newest

    @property
    def recording_s(self) -> float | None:
        """Length of the recording under way, seconds; None: none is under way."""
        recorder = self._recorder
        return recorder.length_s if recorder is not None else (0.0 if self._wanted else None)

    def record(self, on: bool) -> None:
        """Begin or end a recording with the next frame."""
        self._wanted = on

    def stop(self) -> None:
        """End after the frame under way; a signal handler may call it."""
        self._stopped = True
        self.source.end()

    def run(self, on_sight: Callable[[ProcessedFrame], None] = lambda _: None) -> None:
        """Work until the source ends or `stop` is called. Raises FemaeError; a recording under way is completed."""
        number = 0
        try:
            with closing(self.predictor.live(self._frames())) as results:
                for result in results:
                    number += 1
                    sight = self._sight(result, number)
                    self._newest = sight  # first, so that recording does not hold up what is shown
                    self._record(sight)
                    on_sight(sight)
        finally:
            self.is_over = True
            self._wanted = False
            self._end_recording()

    def run_quietly(self) -> None:
        """`run` for a thread: what it raises is kept in `error`."""
        try:
            self.run()
        except BaseException as error:  # handed to the thread that shows the window, whatever it is
            self.error = error

    def _frames(self) -> Iterator[Frame]:
        for frame in self.source:
            if self._stopped or (self._max_s is not None and (frame.time_s or 0.0) > self._max_s):
                return
            yield frame
            if self._stopped:
                return

    def _sight(self, result: FrameResult, number: int) -> ProcessedFrame:
        now = time.monotonic()
        self._ready.append(now)
        span_s = now - self._ready[0]
        return ProcessedFrame(
            result=result,
            number=number,
            num_dropped=self.source.num_dropped,
            arrived_s=self.source.arrived_s,
            ready_s=now,
            rate=(len(self._ready) - 1) / span_s if span_s > 0 else 0.0,
        )

    def _record(self, sight: ProcessedFrame) -> None:
        if self._wanted and self._recorder is None:
            self._recorder = self._new_recorder()
        if not self._wanted:
            self._end_recording()
        if self._recorder is not None:
            self._recorder.add(sight.result)

    def _end_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self.recordings.append(recorder.close())
