"""Live processing behind the window: takes the newest frame, keeps the newest result, records what was processed."""

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

_RATE_WINDOW: Final = 30  # results over which the rate is averaged


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessedFrame:
    """One result with its timing."""

    result: FrameResult
    number: int  # results so far, this one included
    num_dropped: int  # frames dropped so far
    arrived_s: float  # when its frame arrived, of time.monotonic
    ready_s: float  # when the result was ready, of time.monotonic
    rate: float  # results per second, over the last thirty


class Session:
    """Runs a source through a predictor, one frame at a time; recording can be switched on and off meanwhile."""

    def __init__(
        self,
        source: LiveSource,
        predictor: Predictor,
        *,
        new_recorder: Callable[[], Recorder],
        max_s: float | None = None,
    ) -> None:
        """`new_recorder` opens the files of one recording; the session ends at `max_s` seconds of the source."""
        self.source, self.predictor = source, predictor
        self._new_recorder, self._max_s = new_recorder, max_s
        self._ready: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._should_record = False
        self._recorder: Recorder | None = None
        self._newest: ProcessedFrame | None = None
        self._stopped = False
        self.recordings: list[str] = []  # a sentence for each completed recording
        self.error: BaseException | None = None
        self.is_over = False

    @property
    def newest(self) -> ProcessedFrame | None:
        """The latest result."""
        return self._newest

    @property
    def recording_s(self) -> float | None:
        """Length of the current recording in seconds; None if there is none."""
        recorder = self._recorder
        return recorder.length_s if recorder is not None else (0.0 if self._should_record else None)

    def record(self, on: bool) -> None:
        """Start or end a recording with the next frame."""
        self._should_record = on

    def stop(self) -> None:
        """End the session after the current frame; may be called from a signal handler."""
        self._stopped = True
        self.source.end()

    def run(self, on_frame: Callable[[ProcessedFrame], None] = lambda _: None) -> None:
        """Process frames until the source ends or `stop` is called. Raises FemaeError; completes the recording."""
        number = 0
        try:
            with closing(self.predictor.live(self._frames())) as results:
                for result in results:
                    number += 1
                    processed = self._timed(result, number)
                    self._newest = processed  # before recording, which takes time
                    self._record(processed)
                    on_frame(processed)
        finally:
            self.is_over = True
            self._should_record = False
            self._end_recording()

    def run_quietly(self) -> None:
        """`run` as the target of a thread: keeps an exception in `error`, for the thread of the window."""
        try:
            self.run()
        except BaseException as error:
            self.error = error

    def _frames(self) -> Iterator[Frame]:
        for frame in self.source:
            if self._stopped or (self._max_s is not None and (frame.time_s or 0.0) > self._max_s):
                return
            yield frame
            if self._stopped:
                return

    def _timed(self, result: FrameResult, number: int) -> ProcessedFrame:
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

    def _record(self, processed: ProcessedFrame) -> None:
        if self._should_record and self._recorder is None:
            self._recorder = self._new_recorder()
        if not self._should_record:
            self._end_recording()
        if self._recorder is not None:
            self._recorder.add(processed.result)

    def _end_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self.recordings.append(recorder.close())
