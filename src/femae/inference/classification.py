"""Crops and probabilities of tracked faces, in batches on all threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from femae.compound.rules import Rule, combine, decide
from femae.engine.spec import Engine
from femae.inference.parallel import ordered_map
from femae.labels import Compound
from femae.types import Face, FaceCrop, FaceResult, Frame, FrameResult

__all__ = ["Cropper", "TrackedFrame", "classify"]

TrackedFrame = tuple[Frame, list[tuple[int, Face]]]
Cropper = Callable[[npt.NDArray[np.uint8], Face], FaceCrop]

_BATCH_FRAMES = 8  # frames whose faces go through the network together


def _batches(frames: Iterator[TrackedFrame]) -> Iterator[list[TrackedFrame]]:
    batch: list[TrackedFrame] = []
    pixels = 0
    for item in frames:
        batch.append(item)
        pixels += item[0].image.nbytes if item[0].image is not None else 0
        if len(batch) == _BATCH_FRAMES or pixels > 50e6:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def classify(
    frames: Iterator[TrackedFrame],
    *,
    engine: Engine,
    cropper: Cropper,
    compounds: tuple[Compound, ...],
    rule: Rule,
    weights: npt.NDArray[np.float32] | None,
    threshold: float | None,
    pool: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[FrameResult]:
    """Every frame, in order, with six probabilities, compound scores and the winning compound of each face."""

    def run(batch: list[TrackedFrame]) -> list[FrameResult]:
        crops = [
            cropper(frame.image, face).image for frame, faces in batch if frame.image is not None for _, face in faces
        ]
        size = engine.spec.image_size
        stacked = np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)
        probs, au_probs = engine.run(stacked)
        scores = combine(probs, compounds=compounds, rule=rule, weights=weights)
        names, best = decide(scores, compounds=compounds, threshold=threshold)
        results, position = [], 0
        for frame, faces in batch:
            found = []
            for face_id, face in faces:
                found.append(
                    FaceResult(
                        face=face,
                        face_id=face_id,
                        probs=probs[position],
                        scores=scores[position],
                        compound=names[position],
                        compound_score=float(best[position]),
                        au_probs=au_probs[position],
                    )
                )
                position += 1
            found.sort(key=lambda result: result.face_id)
            status = "unreadable" if frame.image is None else "ok" if found else "no_face"
            results.append(FrameResult(frame=frame, status=status, faces=tuple(found)))  # type: ignore[arg-type]
        return results

    for results in ordered_map(pool, run, _batches(frames), ahead=ahead):
        yield from results
