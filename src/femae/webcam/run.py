"""`femae webcam`: source, models, window or no window, and the summary at the end."""

import signal
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from rich.console import Console

from femae.config.webcam import WebcamConfig
from femae.errors import ConfigError
from femae.inference.output_folder import UniqueStems
from femae.inference.predictor import Predictor
from femae.video.live import LiveSource, find_source
from femae.video.overlay import draw
from femae.webcam.live_window import LiveWindow
from femae.webcam.recorder import Recorder
from femae.webcam.screen import Screen
from femae.webcam.session import ProcessedFrame, Session

__all__ = ["run_webcam"]


def run_webcam(config: WebcamConfig) -> int:
    """Run until the source ends, --seconds are over, or somebody ends it; returns 0.

    Raises InputError (no such source), OutputError (no display, nothing can be written), ConfigError, ModelError,
    MissingDependencyError (no pygame-ce).
    """
    if config.headless and not config.record:
        raise ConfigError("--headless shows nothing, so it must record: add --record, or leave out --headless")
    opening = find_source(config.source)
    screen = None if config.headless else Screen(f"femae webcam: {opening.name}")
    predictor = Predictor(
        model=config.model,
        device=config.device,
        threads=config.threads,
        **config.detect.model_dump(),
        **config.rules.model_dump(),
    )
    annotate = partial(draw, compounds=predictor.compounds, labels=config.labels)
    drop = config.realtime or opening.kind != "film"
    paced = config.realtime and opening.kind == "film"
    with LiveSource(opening, drop=drop, paced=paced, size=config.size, rate=config.rate or 0) as source:
        namer = _Namer()
        session = Session(
            source,
            predictor,
            new_recorder=lambda: Recorder(
                config.out,
                stem=namer.recording(),
                formats=config.formats,
                schema=predictor.schema(),
                draw=annotate,
                info=source.info,
            ),
            max_s=config.seconds,
        )
        session.record(config.record)
        latencies: list[float] = []
        saved: list[Any] = []
        if screen is None:
            with _signals_stop(session):
                session.run(lambda sight: _note(latencies, sight))
        else:
            window = LiveWindow(screen, session, draw=annotate, out=config.out, stem=f"webcam-{_stamp()}")
            window.run()
            saved = window.saved
        _report(session, latencies, saved)
    return 0


class _Namer:
    """Names of recordings: the time at which they begin; never one twice."""

    def __init__(self) -> None:
        self._unique = UniqueStems()

    def recording(self) -> str:
        return self._unique(f"webcam-{_stamp()}")


def _stamp() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def _note(latencies: list[float], sight: ProcessedFrame) -> None:
    if len(latencies) < 100_000:
        latencies.append(sight.ready_s - sight.arrived_s)


@contextmanager
def _signals_stop(session: Session) -> Iterator[None]:
    """Ctrl-C and a plain `kill` end the session after the frame under way, so that the recording is whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        session.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(session: Session, latencies: list[float], saved: list[Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    sight = session.newest
    if sight is not None:
        line = f"{session.source.name}: {sight.number} frames processed, {session.source.num_dropped} dropped"
        if latencies:
            line += f", latency {1000 * statistics.median(latencies):.0f} ms"
        console.print(line, markup=False)
    for sentence in [*session.recordings, *(f"picture -> {path}" for path in saved)]:
        console.print(f"  {sentence}", markup=False)
