"""Tracks faces through a film, by motion and appearance, and gives each person a constant id.

The faces of each frame are matched with the known people in two rounds. The first is by motion: a person's position is
predicted with a constant, slowly decaying velocity in real time, so that variable frame rates and missed frames do not
matter; appearance decides between people who pass each other. The second is by appearance alone, for people who return
after a gap or a camera cut. Faces without a match get new ids. The appearance features are coarse (shading of the face,
colours of hair, skin and clothes): enough to tell the people of one film apart, not to recognise anybody.

Matching is a linear assignment problem, solved by shortest augmenting paths with dual prices (Kuhn 1955; Jonker and
Volgenant 1987). For the few faces of a frame this suffices, and it avoids a dependency on scipy (100 MB, and a third of
a second at every start).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.errors import ConfigError
from femae.types import Face, Frame

__all__ = ["Tracker", "assign"]

_Features = npt.NDArray[np.float32]  # f32[728]; squared distance of two: 0 equal, 0.3 or more different people

_CELL: Final = 0.05  # sampling step around a face, in sides of the face
_WEIGHTS: Final = np.sqrt(np.array([0.20, 0.25, 0.20, 0.35]) / 2)  # of shading, hair, skin, clothes
_BINS: Final = 5
_CORNERS: Final = np.array(list(np.ndindex(2, 2, 2)))  # [8, 3]: offsets of the bins around a colour
_CHROMA_RANGE: Final = 48.0  # of red or blue minus green; beyond, the last bin
_MAX_DISTANCE_MOVING: Final = 0.40  # of features, for a face at the predicted position
_MAX_DISTANCE_RETURNED: Final = 0.22  # of features, at any position; same person up to .22, different ones from .28
_MAX_DISTANCE_CLEAR: Final = 0.10  # of features, for a face not covered by a near one; at most .095 in 40 ms
_CUT: Final = 18.0  # mean change of colour between two frames, 0..255; within a shot up to 11, across cuts from 25
_DECAY_S: Final = 1.0  # time constant with which the velocity of an unseen person decays
_UNMATCHED: Final = 2.0  # cost from which a person and a face are not matched


@dataclass(slots=True)
class _Person:
    """State of one person: position, velocity and appearance."""

    face_id: int
    centre: npt.NDArray[np.float64]  # f64[2], pixels
    side: float  # pixels
    seen_s: float
    shot: int  # number of the camera shot in which the person was seen last
    recent: _Features
    average: _Features  # moving average
    compared_s: float  # when features were compared last
    velocity: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # f64[2], pixels per second

    def predicted(self, time_s: float) -> npt.NDArray[np.float64]:
        """Predicted centre of the face at a time, f64[2] pixels."""
        return self.centre + self.velocity * _DECAY_S * (1 - math.exp(-(time_s - self.seen_s) / _DECAY_S))

    def distance(self, features: _Features) -> float:
        """Squared distance, 0..2, of features from the recent or the average ones, whichever are nearer."""
        return float(min(((self.recent - features) ** 2).sum(), ((self.average - features) ** 2).sum()))


@dataclass(frozen=True, slots=True)
class _Observation:
    """One face of the current frame."""

    centre: npt.NDArray[np.float64]  # f64[2], pixels
    side: float  # pixels
    features: _Features
    is_isolated: bool  # no other face is near


class Tracker:
    """Assigns an id to each face of a film. Use one Tracker per film, and update it with every frame in order.

    Ids count from 1 without gaps, in order of appearance (left to right within a frame); false detections get ids, too.
    A person who was not seen for `max_gap_s` seconds, or since before a camera cut, keeps the id only if the appearance
    matches; after `remember_s` seconds, or when more than `max_lost` others were lost later, a returning person gets a
    new id. This bounds memory: about 6 KB for each person in view and each of `max_lost` others.

    Raises ConfigError for a setting out of range.
    """

    def __init__(self, *, max_gap_s: float = 2.0, remember_s: float = 120.0, max_lost: int = 64) -> None:
        if not (max_gap_s >= 0 and remember_s >= max_gap_s and max_lost >= 0):
            raise ConfigError(
                f"tracking with max_gap_s {max_gap_s}, remember_s {remember_s}, max_lost {max_lost} is impossible: "
                "expected 0 <= max_gap_s <= remember_s and max_lost >= 0"
            )
        self._max_gap_s, self._remember_s, self._max_lost = max_gap_s, remember_s, max_lost
        self._people: list[_Person] = []
        self._num_ids = 0
        self._shot = 0
        self._time_s = -math.inf
        self._thumbnail: npt.NDArray[np.int16] | None = None
        self._last: list[_Person] = []  # person of each face of the last frame, in the order of its faces

    def update(self, frame: Frame, faces: list[Face], *, moved: bool = False) -> list[tuple[int, Face]]:
        """Assign ids to the faces of the next frame: pairs (id, face) sorted by id, whatever the order of `faces`.

        `moved`: the faces are those of the previous frame in the same order, slightly displaced, as interpolation
        yields them. If no two are near each other, they keep their ids without a comparison of features.

        A frame without an image is ignored and yields no faces. Without presentation times, 25 frames per second are
        assumed.
        """
        if frame.image is None:
            return []
        time_s = frame.index / 25 if frame.time_s is None else frame.time_s
        self._time_s = max(time_s, self._time_s + 1e-3)
        self._detect_cut(frame.image)
        self._people = [p for p in self._people if self._time_s - p.seen_s <= self._remember_s]
        if moved and len(faces) == len(self._last) and _are_isolated(faces).all():
            for person, face in zip(self._last, faces, strict=True):
                self._move(person, *_centre_and_side(face), is_visible=True)
        else:
            self._last = self._identify(frame.image, faces)
        self._drop_surplus()
        pairs = zip(self._last, faces, strict=True)
        return sorted(((person.face_id, face) for person, face in pairs), key=lambda pair: pair[0])

    def _identify(self, image: npt.NDArray[np.uint8], faces: list[Face]) -> list[_Person]:
        """The person of each face, known or new, updated with the face."""
        order = sorted(range(len(faces)), key=lambda k: (*faces[k].box_xyxy.tolist(), faces[k].score))
        isolated = _are_isolated(faces)
        observations = [_observe(image, faces[k], is_isolated=bool(isolated[k])) for k in order]
        matches = self._match(observations)
        for number, observation in enumerate(observations):
            person = matches.get(number)
            if person is None:
                matches[number] = self._add(observation)
            else:
                self._update_person(person, observation)
        people = {k: matches[number] for number, k in enumerate(order)}
        return [people[k] for k in range(len(faces))]

    def _detect_cut(self, image: npt.NDArray[np.uint8]) -> None:
        """Start a new shot when the picture as a whole has changed."""
        thumbnail = image[_thumbnail_indices(*image.shape[:2])].astype(np.int16)
        if self._thumbnail is not None and np.abs(thumbnail - self._thumbnail).mean() > _CUT:
            self._shot += 1
        self._thumbnail = thumbnail

    def _match(self, observations: list[_Observation]) -> dict[int, _Person]:
        """Known people by index of their observation: matched by motion, then, among the rest, by appearance."""
        matches: dict[int, _Person] = {}
        for cost_of in (self._motion_cost, self._return_cost):
            people = [p for p in self._people if not any(p is q for q in matches.values())]
            rest = [k for k in range(len(observations)) if k not in matches]
            if not people or not rest:
                continue
            cost = np.array([[min(cost_of(person, observations[k]), _UNMATCHED) for k in rest] for person in people])
            for row, column in assign(cost):
                if cost[row, column] < _UNMATCHED:
                    matches[rest[column]] = people[row]
        return matches

    def _motion_cost(self, person: _Person, seen: _Observation) -> float:
        """Distance from the predicted position plus distance of features, halved when another face is near."""
        gap_s = self._time_s - person.seen_s
        if person.shot != self._shot or gap_s > self._max_gap_s:
            return _UNMATCHED
        reach = math.sqrt(seen.side * person.side) * (0.6 + 2 * gap_s)
        far = math.dist(seen.centre, person.predicted(self._time_s)) / reach
        grown = abs(math.log(seen.side / person.side)) / (0.4 + 0.6 * gap_s)
        if max(far, grown) >= 1:
            return _UNMATCHED
        unlike = person.distance(seen.features) / _MAX_DISTANCE_MOVING * (1.0 if seen.is_isolated else 0.5)
        return far + 0.5 * grown + 2 * unlike if unlike < 1 else _UNMATCHED

    def _return_cost(self, person: _Person, seen: _Observation) -> float:
        """Distance of features; within a shot, people move by at most eight face sides per second."""
        gap_s = self._time_s - person.seen_s
        reach = math.sqrt(seen.side * person.side) * (1 + 8 * gap_s)
        if person.shot == self._shot and math.dist(seen.centre, person.centre) >= reach:
            return _UNMATCHED
        unlike = person.distance(seen.features)
        return unlike + 1e-4 * gap_s if unlike < _MAX_DISTANCE_RETURNED else _UNMATCHED

    def _add(self, seen: _Observation) -> _Person:
        self._num_ids += 1
        person = _Person(
            face_id=self._num_ids,
            centre=seen.centre,
            side=seen.side,
            seen_s=self._time_s,
            shot=self._shot,
            recent=seen.features,
            average=seen.features,
            compared_s=self._time_s,
        )
        self._people.append(person)
        return person

    def _update_person(self, person: _Person, seen: _Observation) -> None:
        """Update position and appearance; velocity and appearance only if no other face may cover this one."""
        is_visible = seen.is_isolated or person.distance(seen.features) < _MAX_DISTANCE_CLEAR
        elapsed_s, person.compared_s = self._time_s - person.compared_s, self._time_s
        self._move(person, seen.centre, seen.side, is_visible=is_visible)
        if is_visible:
            person.recent = seen.features
            person.average = person.average + np.float32(min(elapsed_s, 1.0) / 4) * (seen.features - person.average)

    def _move(self, person: _Person, centre: npt.NDArray[np.float64], side: float, *, is_visible: bool) -> None:
        """Update a person's position; the velocity only if the face is wholly visible."""
        gap_s = self._time_s - person.seen_s
        if person.shot != self._shot or gap_s > self._max_gap_s:
            person.velocity = np.zeros(2)
        elif is_visible:
            measured = (centre - person.centre) / gap_s
            person.velocity = person.velocity + gap_s / (gap_s + 0.1) * (measured - person.velocity)
        person.centre, person.side, person.seen_s, person.shot = centre, side, self._time_s, self._shot

    def _drop_surplus(self) -> None:
        """Keep the people in view and the `max_lost` others who were seen last."""
        lost = sorted((p.seen_s, p.face_id) for p in self._people if p.seen_s < self._time_s)
        surplus = {face_id for _, face_id in lost[: max(0, len(lost) - self._max_lost)]}
        self._people = [p for p in self._people if p.face_id not in surplus]


def _are_isolated(faces: list[Face]) -> npt.NDArray[np.bool_]:
    """bool[N]: whether the box of a face, enlarged by a quarter on each side, meets no other enlarged box."""
    boxes = np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)
    quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
    low, high = boxes[:, :2] - quarter, boxes[:, 2:] + quarter
    meet = ((low[:, None] < high) & (low < high[:, None])).all(2)  # [N, N]; each meets itself
    isolated: npt.NDArray[np.bool_] = meet.sum(1) <= 1
    return isolated


def _observe(image: npt.NDArray[np.uint8], face: Face, *, is_isolated: bool) -> _Observation:
    centre, side = _centre_and_side(face)
    features = _features(image, centre=centre, side=side)
    return _Observation(centre=centre, side=side, features=features, is_isolated=is_isolated)


def _centre_and_side(face: Face) -> tuple[npt.NDArray[np.float64], float]:
    """Centre f64[2] and side in pixels: the geometric mean of width and height, each at least one pixel."""
    box = face.box_xyxy.astype(np.float64)
    width, height = np.maximum(box[2:] - box[:2], 1)
    return (box[:2] + box[2:]) / 2, math.sqrt(width * height)


@lru_cache(maxsize=8)
def _thumbnail_indices(height: int, width: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Index arrays of a regular grid of 27 x 48 pixels of a picture."""
    rows = ((np.arange(27) + 0.5) * height / 27).astype(int)
    columns = ((np.arange(48) + 0.5) * width / 48).astype(int)
    return np.ix_(rows, columns)


def _features(image: npt.NDArray[np.uint8], *, centre: npt.NDArray[np.float64], side: float) -> _Features:
    """Appearance f32[728]: shading of the face and colour histograms of hair, skin and clothes, each weighted."""
    height, width = image.shape[:2]
    rows = centre[1] + (np.arange(50) - 16.5) * _CELL * side  # from above the hair to the chest
    columns = centre[0] + (np.arange(28) - 13.5) * _CELL * side
    inside = np.ix_(rows.clip(0, height - 1).astype(int), columns.clip(0, width - 1).astype(int))
    around: npt.NDArray[np.float32] = image[inside].astype(np.float32)  # [50, 28, 3]
    shade = around[7:27, 6:22].reshape(10, 2, 8, 2, 3).mean((1, 3, 4)).ravel()
    shade -= shade.mean()
    parts = [around[:12, 3:25], around[11:27, 6:22], around[32:]]  # hair, skin, clothes
    colours = _colours(np.concatenate([part.reshape(-1, 3) for part in parts]), [part[..., 0].size for part in parts])
    vectors = (shade / (np.linalg.norm(shade) + 8), *colours)
    return np.concatenate([w * v for w, v in zip(_WEIGHTS, vectors, strict=True)]).astype(np.float32)


def _colours(pixels: npt.NDArray[np.float32], sizes: list[int]) -> npt.NDArray[np.float64]:
    """Square roots of soft histograms over brightness, red - green and blue - green: f64[len(sizes), 216], unit rows.

    `pixels` [N, 3] holds the regions of the picture one after the other, `sizes` the number of pixels of each.
    """
    red, green, blue = pixels.T
    chroma = (np.stack([red - green, blue - green]) / _CHROMA_RANGE + 1) / 2
    position = np.concatenate([(red + green + blue)[None] / 765, chroma]).clip(0, 1) * (_BINS - 0.001)  # [3, N]
    low = position.astype(int)
    share = np.stack([1 - (position - low), position - low])  # [2, 3, N]
    bins = _BINS + 1
    first = (low[0] * bins + low[1]) * bins + low[2] + np.repeat(np.arange(len(sizes)) * bins**3, sizes)
    step = (_CORNERS @ [bins**2, bins, 1])[:, None]  # [8, 1]
    weight = share[_CORNERS[:, 0], 0] * share[_CORNERS[:, 1], 1] * share[_CORNERS[:, 2], 2]  # [8, N]
    counts = np.bincount((first + step).ravel(), weight.ravel(), minlength=len(sizes) * bins**3)
    roots: npt.NDArray[np.float64] = np.sqrt(counts.reshape(len(sizes), -1) / np.array(sizes)[:, None])
    return roots


def assign(cost: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Solve the linear assignment problem: min(N, M) pairs (row, column), sorted by row, of least total cost.

    `cost` f64[N, M] is finite. The result is deterministic, also among assignments of equal cost.
    """
    assert cost.ndim == 2 and bool(np.isfinite(cost).all()), f"cost: {cost.shape}, expected finite numbers"
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    num_rows, num_columns = cost.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    row_of = np.full(num_columns, -1)  # row assigned to each column, -1: free
    for start in range(num_rows):
        least = np.full(num_columns, np.inf)  # reduced cost of the shortest path from `start` to each column
        before = np.full(num_columns, -1)  # preceding column on that path, -1: none
        done = np.zeros(num_columns, np.bool_)
        row, column, spent = start, -1, 0.0
        while row >= 0:
            through = spent + cost[row] - row_price[row] - column_price
            nearer = ~done & (through < least)
            least[nearer], before[nearer] = through[nearer], column
            column = int(np.where(done, np.inf, least).argmin())
            spent, row = float(least[column]), int(row_of[column])
            done[column] = True
        passed = np.flatnonzero(done & (row_of >= 0))
        row_price[row_of[passed]] += spent - least[passed]
        row_price[start] += spent
        column_price[passed] += least[passed] - spent
        while column >= 0:  # augment: every row on the path moves to the next column
            previous = int(before[column])
            row_of[column] = row_of[previous] if previous >= 0 else start
            column = previous
    return sorted((int(row), column) for column, row in enumerate(row_of.tolist()) if row >= 0)
