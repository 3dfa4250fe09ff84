"""Tables of predictions and label files for the tests of femae.abaw."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.inference.tables import Predictions, prediction_schema, results_to_batch
from femae.labels import ABAW_COMPOUNDS
from femae.types import Face, FaceResult, Frame, FrameResult

Sight = tuple[int, Sequence[float], Sequence[float]]  # id, six probabilities, box


def save_table(
    path: Path,
    frames: Sequence[Sequence[Sight] | str],
    *,
    au_names: Sequence[str] = (),
    au_probs: Callable[[int, int], Sequence[float]] = lambda frame, face_id: (),
    sources: Sequence[str] | None = None,
    rate: float | None = 25.0,
) -> Path:
    """Write a table as `femae predict` does; a frame is its faces, or "no_face" or "unreadable"."""
    results = []
    for number, sights in enumerate(frames, start=1):
        frame = Frame(
            index=1 if sources else number,
            time_s=None if rate is None else (number - 1) / rate,
            image=None,
            source=sources[number - 1] if sources else f"{path.stem}.mp4",
        )
        if isinstance(sights, str):
            results.append(FrameResult(frame=frame, status=sights))  # type: ignore[arg-type]
            continue
        faces = tuple(
            FaceResult(
                face=Face(box_xyxy=np.array(box, np.float32), landmarks=None, score=0.9),
                face_id=face_id,
                probs=np.array(probs, np.float32),
                scores=np.zeros(7, np.float32),  # not read: the rule is applied again
                compound="Fearfully Surprised",
                compound_score=0.0,
                au_probs=np.array(au_probs(number, face_id), np.float32),
            )
            for face_id, probs, box in sights
        )
        results.append(FrameResult(frame=frame, status="ok", faces=faces))
    schema = prediction_schema(ABAW_COMPOUNDS, au_names=au_names)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Predictions.from_batches([results_to_batch(results, schema=schema)], schema=schema).write(path)


@pytest.fixture(scope="session")
def write_table() -> Callable[..., Path]:
    return save_table


@pytest.fixture(scope="session")
def write_template() -> Callable[..., Path]:
    """template(path, {"01": 5, "02": [1, 2, 3]}): rows as the organisers have them, without labels."""

    def write(path: Path, videos: dict[str, Any], *, header: str = "image_location,rest") -> Path:
        rows = [header]
        for video, frames in videos.items():
            numbers = range(1, frames + 1) if isinstance(frames, int) else frames
            rows += [f"{video}/{number:05d}.jpg," for number in numbers]
        path.write_bytes("".join(f"{row}\n" for row in rows).encode())
        return path

    return write
