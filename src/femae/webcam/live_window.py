"""The live window: shows the newest result and handles keys."""

import statistics
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from PIL import Image

from femae.errors import OutputError
from femae.files import replacing
from femae.inference.item import Draw
from femae.video.palette import WHITE
from femae.webcam.picture import RED, Part, bar_height, draw_help, paint
from femae.webcam.screen import Screen
from femae.webcam.session import ProcessedFrame, Session

__all__ = ["LiveWindow"]

_NOTICE_S: Final = 3.0  # for which a message is shown in the bar
_REDRAW_S: Final = 0.2  # between two redraws of the window without a new result
_DEFAULT_SIZE: Final = (640, 480)  # width and height of a source that does not state its size


class LiveWindow:
    """Runs a session in its own thread and shows its results until a key, or the end of the source, ends both."""

    def __init__(self, screen: Screen, session: Session, *, draw: Draw, out: Path, stem: str) -> None:
        """Pictures are saved as `<out>/<stem>-1.png` and so on."""
        self._screen, self._session, self._draw = screen, session, draw
        self._out, self._stem = out, stem
        self._latencies: deque[float] = deque(maxlen=15)
        self._frozen: ProcessedFrame | None = None
        self._shows_help = False
        self._is_recording = session.recording_s is not None
        self._notice, self._notice_until_s = "", 0.0
        self._num_pictures = 0
        self.saved: list[Path] = []

    def run(self) -> None:
        """Show the session until it ends. Raises what the session raises."""
        info = self._session.source.info
        width, height = info.width or _DEFAULT_SIZE[0], info.height or _DEFAULT_SIZE[1]
        self._screen.open(width=width, height=height, extra=bar_height(720))
        worker = threading.Thread(target=self._session.run_quietly, name="femae-session", daemon=True)
        worker.start()
        try:
            self._loop()
        finally:
            self._session.stop()
            worker.join(timeout=30)
            self._screen.close()
        if self._session.error is not None:
            raise self._session.error

    def _loop(self) -> None:
        shown: ProcessedFrame | None = None
        shown_s = 0.0
        while not self._session.is_over:
            keys = self._screen.pressed_keys()
            if "q" in keys:
                return
            for key in keys:
                self._on_key(key)
            processed = self._frozen or self._session.newest
            is_new = processed is not shown
            if is_new or keys or time.monotonic() - shown_s > _REDRAW_S:
                self._show(processed)
                shown_s = time.monotonic()
            if is_new and processed is not None and self._frozen is None:
                self._latencies.append(time.monotonic() - processed.arrived_s)
            shown = processed
            self._screen.wait()

    def _on_key(self, key: str) -> None:
        if key == "h":
            self._shows_help = not self._shows_help
        elif key == "space":
            self._frozen = None if self._frozen is not None else self._session.newest
        elif key == "r":
            self._is_recording = not self._is_recording
            self._session.record(self._is_recording)
            self._notify("recording" if self._is_recording else "recording ended")
        elif key == "s":
            self._save()

    def _notify(self, text: str) -> None:
        """Show a message in the bar for some seconds."""
        self._notice, self._notice_until_s = text, time.monotonic() + _NOTICE_S

    def _save(self) -> None:
        """Save the annotated frame that is shown, at the source's own size. Raises OutputError."""
        processed = self._frozen or self._session.newest
        if processed is None or processed.result.frame.image is None:
            self._notify("no frame to save yet")
            return
        self._num_pictures += 1
        path = self._out / f"{self._stem}-{self._num_pictures}.png"
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                Image.fromarray(self._draw(processed.result.frame.image, processed.result)).save(partial, format="PNG")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}; give another --out") from error
        self.saved.append(path)
        self._notify(f"saved {path.name}")

    def _show(self, processed: ProcessedFrame | None) -> None:
        width, height = self._screen.size
        picture = paint(
            processed.result if processed is not None else None,
            width=width,
            height=height,
            draw=self._draw,
            parts=self._bar_texts(processed),
            parts_right=[("h: help", WHITE)],
        )
        if self._shows_help:
            draw_help(picture)
        self._screen.show(picture)

    def _bar_texts(self, processed: ProcessedFrame | None) -> list[Part]:
        """The texts of the bar, the most important first."""
        parts: list[Part] = []
        recording_s = self._session.recording_s
        if recording_s is not None:
            parts.append((f"REC {recording_s // 60:.0f}:{recording_s % 60:04.1f}", RED))
        if self._frozen is not None:
            parts.append(("frozen", RED))
        if processed is None:
            return [*parts, ("waiting for the first frame", WHITE)]
        parts.append((f"{processed.rate:.1f} frames/s", WHITE))
        if self._latencies:
            parts.append((f"latency {1000 * statistics.median(self._latencies):.0f} ms", WHITE))
        parts.append((f"{processed.num_dropped} dropped", WHITE))
        if time.monotonic() < self._notice_until_s:
            parts.append((self._notice, WHITE))
        return parts
