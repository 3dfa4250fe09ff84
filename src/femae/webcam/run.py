"""`femae webcam`: opens the source and the networks, runs with or without a window, and prints a summary."""

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
    """Run until the source ends, --seconds are over, or the user quits; returns 0.

    Raises InputError (no such source), OutputError (no display, nothing can be written), ConfigError, ModelError,
    MissingDependencyError (no pygame-ce).
    """
    if config.headless and not config.record:
        raise ConfigError("--headless shows nothing, so it must record: add --record, or leave out --headless")
    spec = find_source(config.source)
    screen = None if config.headless else Screen(f"femae webcam: {spec.name}")
    predictor = Predictor(
        model=config.model,
        device=config.device,
        threads=config.threads,
        **config.detect.model_dump(),
        **config.rules.model_dump(),
    )
    annotate = partial(draw, compounds=predictor.compounds, labels=config.labels)
    drop = config.realtime or spec.kind != "film"
    paced = config.realtime and spec.kind == "film"
    with LiveSource(spec, drop=drop, paced=paced, size=config.size, rate=config.rate or 0) as source:
        unique = UniqueStems()
        session = Session(
            source,
            predictor,
            new_recorder=lambda: Recorder(
                config.out,
                stem=unique(f"webcam-{_timestamp()}"),
                formats=config.formats,
                schema=predictor.schema(),
                draw=annotate,
                info=source.info,
            ),
            max_s=config.seconds,
        )
        session.record(config.record)
        latencies: list[float] = []  # seconds
        saved: list[Any] = []
        if screen is None:
            with _stop_on_signals(session):
                session.run(lambda processed: _add_latency(latencies, processed))
        else:
            window = LiveWindow(screen, session, draw=annotate, out=config.out, stem=f"webcam-{_timestamp()}")
            window.run()
            saved = window.saved
        _print_summary(session, latencies, saved)
    return 0


def _timestamp() -> str:
    return datetime.now().strftime("%Y%m%d-%H%M%S")


def _add_latency(latencies: list[float], processed: ProcessedFrame) -> None:
    if len(latencies) < 100_000:  # bounds memory
        latencies.append(processed.ready_s - processed.arrived_s)


@contextmanager
def _stop_on_signals(session: Session) -> Iterator[None]:
    """SIGINT and SIGTERM end the session after the current frame, so that the recording is completed."""
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


def _print_summary(session: Session, latencies: list[float], saved: list[Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    last = session.newest
    if last is not None:
        line = f"{session.source.name}: {last.number} frames processed, {session.source.num_dropped} dropped"
        if latencies:
            line += f", latency {1000 * statistics.median(latencies):.0f} ms"
        console.print(line, markup=False)
    for sentence in [*session.recordings, *(f"picture -> {path}" for path in saved)]:
        console.print(f"  {sentence}", markup=False)
