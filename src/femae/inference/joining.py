"""Joins the parts of a film: consecutive frame numbers, and one id per face across parts.

A part begins before its own frames (video.film_parts), so consecutive parts overlap. Faces at the same place in the
overlap are the same person. The overlap is as long as the tracker remembers a lost face, so a person who is not in it
would get a new id in the undivided film, too.

If several workers share a film, the results of a part are passed on in a Parquet file without pictures: a row for each
face and one for each frame without any. All numbers survive bit by bit.
"""

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from femae.errors import OutputError
from femae.faces.nms import iou_of_one
from femae.faces.track import assign
from femae.types import Face, FaceResult, Frame, FrameResult
from femae.video.film_parts import WARM_UP_S
from femae.video.source import Count, Tally

__all__ = ["joined", "read_part", "read_part_notes", "write_part"]

_SAME_FACE_IOU: Final = 0.5  # at least, of the boxes of one face in two parts
_SLACK_S: Final = 1.0  # kept of a part in addition to the overlap

Faces = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # ids i64[F], boxes f32[F, 4]


def joined(parts: Iterable[Iterable[FrameResult]]) -> Iterator[FrameResult]:
    """Yields the results of a film from those of its parts, in order; frames of the overlap (index 0) come first.

    Frames are counted from 1, ids in order of appearance.
    """
    num_frames = num_ids = 0
    recent: deque[tuple[float, Faces]] = deque()  # times and faces at the end of the film so far
    for part in parts:
        votes: Counter[tuple[int, int]] = Counter()  # (id in the part, id in the film) -> frames that agree
        seen: Counter[int] = Counter()  # id in the part -> frames it was in
        ids: dict[int, int] | None = None  # id in the part -> id in the film
        before = dict(recent)
        for result in part:
            if result.frame.index == 0:
                _vote(result, before.get(_time(result)), votes, seen)
                continue
            if ids is None:
                ids = _matched(votes, seen)
                before.clear()
            num_frames += 1
            for face in result.faces:
                if face.face_id not in ids:
                    num_ids += 1
                    ids[face.face_id] = num_ids
            result = _renumbered(result, num_frames, ids)
            _remember(recent, result)
            yield result


def _time(result: FrameResult) -> float:
    return -1.0 if result.frame.time_s is None else result.frame.time_s


def _vote(result: FrameResult, before: Faces | None, votes: Counter[tuple[int, int]], seen: Counter[int]) -> None:
    """Count which faces of a part overlap which faces of the film in the same frame."""
    seen.update(face.face_id for face in result.faces)
    if before is None:
        return
    ids, boxes = before
    for face in result.faces:
        overlaps = iou_of_one(face.face.box_xyxy, boxes)
        best = int(overlaps.argmax())
        if overlaps[best] >= _SAME_FACE_IOU:
            votes[face.face_id, int(ids[best])] += 1


def _matched(votes: Counter[tuple[int, int]], seen: Counter[int]) -> dict[int, int]:
    """The one-to-one assignment with most agreement; an id must agree in at least half of its frames."""
    part_ids, film_ids = sorted({pair[0] for pair in votes}), sorted({pair[1] for pair in votes})
    if not votes:
        return {}
    agreement = np.array([[votes[part_id, film_id] for film_id in film_ids] for part_id in part_ids], np.float64)
    return {
        part_ids[row]: film_ids[column]
        for row, column in assign(-agreement)
        if agreement[row, column] > 0 and 2 * agreement[row, column] >= seen[part_ids[row]]
    }


def _renumbered(result: FrameResult, index: int, ids: dict[int, int]) -> FrameResult:
    faces = tuple(
        sorted((replace(face, face_id=ids[face.face_id]) for face in result.faces), key=lambda face: face.face_id)
    )
    return replace(result, frame=replace(result.frame, index=index), faces=faces)


def _remember(recent: deque[tuple[float, Faces]], result: FrameResult) -> None:
    """Keep the boxes of the faces for as long as the next part may need them."""
    now_s = _time(result)
    if result.faces:
        ids = np.array([face.face_id for face in result.faces], np.int64)
        recent.append((now_s, (ids, np.stack([face.face.box_xyxy for face in result.faces]))))
    while recent and recent[0][0] < now_s - WARM_UP_S - _SLACK_S:
        recent.popleft()


_VECTORS: Final = ("box", "landmarks", "probs", "scores", "au_probs", "none_probs", "measured")  # columns of a face
_FRAMES_PER_BATCH: Final = 256
_ROWS_PER_BATCH: Final = 1024
_METADATA_KEY: Final = "femae"
_FIELDS: Final[list[Any]] = [
    pa.field("place", pa.int64()),  # position of the frame in the part, from 0
    pa.field("index", pa.int64()),  # Frame.index
    pa.field("time_s", pa.float64()),
    pa.field("status", pa.string()),
    pa.field("source", pa.string()),
    pa.field("problem", pa.string()),
    pa.field("face_id", pa.int64()),  # null: a frame without a face
    pa.field("score", pa.float64()),
    pa.field("compound", pa.string()),
    pa.field("compound_score", pa.float64()),
    *(pa.field(name, pa.list_(pa.float32())) for name in _VECTORS),
]
_SCHEMA: Final = pa.schema(_FIELDS)


def write_part(path: Path, results: Iterable[FrameResult], *, tally: Callable[[], Tally]) -> None:
    """Write results as they come; the file gets its final name when complete. `tally` is called at the end.

    Raises OutputError; what `results` raises passes through.
    """
    began = time.perf_counter()
    import pyarrow.parquet as pq

    own = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(own, _SCHEMA, compression="zstd") as writer:
            pending: list[tuple[int, FrameResult]] = []
            for position, result in enumerate(results):
                pending.append((position, result))
                if len(pending) == _FRAMES_PER_BATCH:
                    writer.write_batch(_batch(pending))
                    pending = []
            if pending:
                writer.write_batch(_batch(pending))
            notes = {"tally": asdict(tally()), "seconds": time.perf_counter() - began}
            writer.add_key_value_metadata({_METADATA_KEY: json.dumps(notes)})
        own.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    finally:
        with suppress(OSError):
            own.unlink()


def read_part_notes(path: Path) -> tuple[Tally, float]:
    """The decoding problems of the part, and its processing time in seconds. Raises OSError, ValueError."""
    import pyarrow.parquet as pq

    notes = json.loads((pq.read_metadata(path).metadata or {})[_METADATA_KEY.encode()])
    tally = notes["tally"] | {kind: Count(**notes["tally"][kind]) for kind in ("lost", "damaged")}
    return Tally(**tally), float(notes["seconds"])


def read_part(path: Path) -> Iterator[FrameResult]:
    """Yields the results, frame by frame. Raises OSError, ValueError."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(batch_size=_ROWS_PER_BATCH)
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        for _, group in groupby(rows, key=lambda row: row["place"]):
            yield _result(list(group))


def _batch(results: list[tuple[int, FrameResult]]) -> pa.RecordBatch:
    rows = [(position, result, face) for position, result in results for face in result.faces or (None,)]
    columns: dict[str, list[Any]] = {
        "place": [position for position, _, _ in rows],
        "index": [result.frame.index for _, result, _ in rows],
        "time_s": [result.frame.time_s for _, result, _ in rows],
        "status": [result.status for _, result, _ in rows],
        "source": [result.frame.source.encode("utf-8", "replace").decode() for _, result, _ in rows],
        "problem": [result.frame.problem for _, result, _ in rows],
        "face_id": [face and face.face_id for _, _, face in rows],
        "score": [face and face.face.score for _, _, face in rows],
        "compound": [face and face.compound for _, _, face in rows],
        "compound_score": [face and face.compound_score for _, _, face in rows],
    }
    for name in _VECTORS:
        columns[name] = [None if face is None else _vector(face, name) for _, _, face in rows]
    return pa.record_batch([pa.array(columns[f.name], f.type) for f in _SCHEMA], schema=_SCHEMA)


def _vector(face: FaceResult, name: str) -> npt.NDArray[np.float32] | None:
    if name == "box":
        return face.face.box_xyxy
    if name == "landmarks":
        return None if face.face.landmarks is None else face.face.landmarks.ravel()
    vector: npt.NDArray[np.float32] = getattr(face, name)
    return vector


def _result(rows: list[dict[str, Any]]) -> FrameResult:
    row = rows[0]
    frame = Frame(index=row["index"], time_s=row["time_s"], image=None, source=row["source"], problem=row["problem"])
    faces = tuple(_face(row) for row in rows if row["face_id"] is not None)
    return FrameResult(frame=frame, status=row["status"], faces=faces)


def _face(row: dict[str, Any]) -> FaceResult:
    vectors = {name: None if row[name] is None else np.array(row[name], np.float32) for name in _VECTORS}
    box, landmarks = vectors.pop("box"), vectors.pop("landmarks")
    assert box is not None
    landmarks = None if landmarks is None else landmarks.reshape(5, 2)
    return FaceResult(
        face=Face(box_xyxy=box, landmarks=landmarks, score=row["score"]),
        face_id=row["face_id"],
        compound=row["compound"],
        compound_score=row["compound_score"],
        **vectors,  # type: ignore[arg-type]
    )
