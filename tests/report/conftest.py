"""Tables, films and a browser for the tests of pages."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from femae.compound.expression import ExpressionRule
from femae.inference.tables import Predictions, prediction_schema
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, emotion_indices

RULE = ExpressionRule(ABAW_COMPOUNDS)


def predictions(
    *,
    num_frames: int,
    rate: float = 25.0,
    num_faces: int = 2,
    missing: dict[int, range] | None = None,
    gaps: dict[str, range] | None = None,
    source: str = "clip.mp4",
    seed: int = 0,
    start_s: float = 0.0,
    lift: float = 0.0,
) -> Predictions:
    """A table of a film; `missing`: face id -> frames without it; `gaps`: status -> frames without any face."""
    rng = np.random.default_rng(seed)
    pairs = emotion_indices(ABAW_COMPOUNDS)
    rows: list[dict[str, Any]] = []
    status_of = {frame: status for status, frames in (gaps or {}).items() for frame in frames}
    waves = rng.uniform(0.2, 1.5, (num_faces, 6))
    for frame in range(1, num_frames + 1):
        time_s = start_s + (frame - 1) / rate
        row: dict[str, Any] = {"source": source, "frame": frame, "time_s": time_s}
        faces = [n for n in range(num_faces) if frame not in (missing or {}).get(n + 1, ())]
        if frame in status_of or not faces:
            rows.append(row | {"status": status_of.get(frame, "no_face")})
            continue
        for n in faces:
            probs = np.clip(0.4 + lift + 0.4 * np.sin(waves[n] * time_s + np.arange(6)), 0, 1)
            scores = [float(probs[a] + probs[b]) for a, b in pairs]
            best = int(np.argmax(scores))
            x1 = 8.0 + 60 * n
            values = dict(zip(("x1", "y1", "x2", "y2"), (x1, 10.0, x1 + 30, 50.0), strict=True))
            values |= {"detection_score": 0.9, **dict(zip(EMOTIONS, map(float, probs), strict=True))}
            values |= {c.column: score for c, score in zip(ABAW_COMPOUNDS, scores, strict=True)}
            (expression,), (probability,) = RULE.decide(probs[None].astype(np.float32))
            label = {"compound": ABAW_COMPOUNDS[best].name, "compound_score": scores[best]}
            label |= {"expression": expression, "expression_probability": float(probability)}
            rows.append(row | {"status": "ok", "face_id": n + 1} | values | label)
    metadata = {"model": "femae-test 1", "rules": '{"rule":"sum","threshold":null}'}
    schema = prediction_schema(ABAW_COMPOUNDS, metadata=metadata)
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    return Predictions(pa.table(columns, schema=schema))


def pictures(num_frames: int, *, height: int = 72, width: int = 128) -> Iterator[np.ndarray]:
    """Frames whose gray level encodes the frame number."""
    for number in range(num_frames):
        picture = np.full((height, width, 3), 40 + number * 4 % 180, np.uint8)
        picture[10:50, 8:38], picture[10:50, 68:98] = (200, 150, 130), (150, 110, 90)
        yield picture


@pytest.fixture(scope="session")
def make_table() -> Callable[..., Predictions]:
    return predictions


@pytest.fixture(scope="session")
def small_film(tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]) -> Path:
    """Three seconds, 75 frames of 128 x 72."""
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    return make_video(path, pictures(75), rate=Fraction(25))


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    running = launch()
    yield running
    running.close()


class Watched:
    """A page with all its requests and error messages."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.blocked: list[str] = []
        page.on("requestfailed", lambda request: self.blocked.append(f"{request.failure} {request.url}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def assert_clean(self) -> None:
        assert self.complaints == []
        assert {url.split(":")[0] for url in self.requests} <= {"file", "data", "blob"}
        assert sum(url.startswith("file:") for url in self.requests) == 1


def wait_until(page: Any, expression: str) -> None:
    """Poll until the expression is true. (Playwright's own waiting evaluates strings, which the page's CSP forbids.)"""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {expression}")


@pytest.fixture(scope="session")
def until() -> Callable[[Any, str], None]:
    return wait_until


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Open a report as a local file and wait until it is drawn."""
    contexts = []

    def opened(path: Path, **options: Any) -> Watched:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        watched = Watched(context.new_page())
        watched.page.goto(path.resolve().as_uri())
        watched.page.wait_for_selector("html[data-ready]", timeout=30_000)
        return watched

    yield opened
    for context in contexts:
        context.close()
