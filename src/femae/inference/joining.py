"""One film from its parts: frames counted through, and each face under one id wherever parts meet.

A part begins before its own frames (video.film_parts), so that stretch is looked at twice: at the end of one part and
at the beginning of the next. Faces that stood in the same places there are the same person. The stretch is as long as a
person out of sight is remembered, so whoever is not in it would have got a new id in the uncut film, too.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.faces.assignment import assign
from femae.faces.nms import iou_of_one
from femae.types import FrameResult
from femae.video.film_parts import WARM_UP_S

__all__ = ["joined"]

_SAME_PLACE: Final = 0.5  # least overlap of the boxes of one face in two parts
_SLACK_S: Final = 1.0  # of what is kept of a part, beyond what the next can have seen

Faces = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # ids i64[F], boxes f32[F, 4]


def joined(parts: Iterable[Iterable[FrameResult]]) -> Iterator[FrameResult]:
    """The results of a film from those of its parts, in order; each begins with its frames of index 0, if any.

    Frames are counted from 1, ids in order of appearance.
    """
    num_frames = num_ids = 0
    recent: deque[tuple[float, Faces]] = deque()  # of the film so far: times and faces
    for part in parts:
        votes: Counter[tuple[int, int]] = Counter()  # (id in the part, id in the film) -> frames in one place
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
    """Count which faces of a frame of the part stand where faces of the film stood."""
    seen.update(face.face_id for face in result.faces)
    if before is None:
        return
    ids, boxes = before
    for face in result.faces:
        overlaps = iou_of_one(face.face.box_xyxy, boxes)
        best = int(overlaps.argmax())
        if overlaps[best] >= _SAME_PLACE:
            votes[face.face_id, int(ids[best])] += 1


def _matched(votes: Counter[tuple[int, int]], seen: Counter[int]) -> dict[int, int]:
    """The ids that agree most, one to one; an id must agree in half of the frames that it was in."""
    mine, theirs = sorted({pair[0] for pair in votes}), sorted({pair[1] for pair in votes})
    if not votes:
        return {}
    shared = np.array([[votes[one, other] for other in theirs] for one in mine], np.float64)
    return {
        mine[row]: theirs[column]
        for row, column in assign(-shared)
        if shared[row, column] > 0 and 2 * shared[row, column] >= seen[mine[row]]
    }


def _renumbered(result: FrameResult, index: int, ids: dict[int, int]) -> FrameResult:
    faces = tuple(
        sorted((replace(face, face_id=ids[face.face_id]) for face in result.faces), key=lambda face: face.face_id)
    )
    return replace(result, frame=replace(result.frame, index=index), faces=faces)


def _remember(recent: deque[tuple[float, Faces]], result: FrameResult) -> None:
    """Keep where faces stood for as long as the next part may ask."""
    now_s = _time(result)
    if result.faces:
        ids = np.array([face.face_id for face in result.faces], np.int64)
        recent.append((now_s, (ids, np.stack([face.face.box_xyxy for face in result.faces]))))
    while recent and recent[0][0] < now_s - WARM_UP_S - _SLACK_S:
        recent.popleft()
