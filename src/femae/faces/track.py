"""Face ids that stay with a person within one film: motion, appearance, and what lies between two camera cuts.

Each frame's faces are matched with the people seen so far in two rounds. First by motion: where a person must be by
now, at constant, slowly fading speed in seconds, so that variable frame rates and missed frames do no harm; the looks
decide between people who pass each other. Then by looks alone, for people who come back after a gap or a camera cut.
Who is left over gets the next id. The looks are coarse (light and shade of the face, colours of hair, skin and
clothes): enough to tell people of one film apart, not to recognise anybody.

Who goes with whom is an assignment problem, solved here by shortest augmenting paths with prices (Kuhn 1955; Jonker and
Volgenant 1987): for the few faces of a frame that is all that is needed, and it keeps scipy, 100 MB and a third of a
second of every start, out of the installation.
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

Looks = npt.NDArray[np.float32]  # f32[728]; squared distance of two: 0 same, about 0.3 and more: two people

_CELL: Final = 0.05  # of the face's side: one sample of its surroundings
_WEIGHTS: Final = np.sqrt(np.array([0.20, 0.25, 0.20, 0.35]) / 2)  # of shade, hair, skin, clothes
_BINS: Final = 5
_CORNERS: Final = np.array(list(np.ndindex(2, 2, 2)))  # [8, 3]: the bins about a colour
_CHROMA_RANGE: Final = 48.0  # red or blue minus green; beyond, the last bin
_LIMIT_MOVING: Final = 0.40  # looks of a face that is where the person must be
_LIMIT_RETURNED: Final = 0.22  # looks of a face that could be anybody; same person up to .22, two people from .28
_CLEAR: Final = 0.10  # looks of a face beside another one that is not hidden by it; within a shot at most .095 in 40 ms
_CUT: Final = 18.0  # mean change of colour between two frames, 0..255; within a shot up to 11, across cuts from 25
_FADE_S: Final = 1.0  # time constant in which the speed of an unseen person fades
_UNMATCHED: Final = 2.0  # cost from which a person rather stays unseen and a face unknown than being paired


@dataclass(slots=True)
class _Person:
    """What is remembered of one person: place, speed and looks."""

    face_id: int
    centre: npt.NDArray[np.float64]  # f64[2], pixels
    side: float  # pixels
    seen_s: float
    shot: int  # number of the camera shot in which it was seen last
    recent: Looks
    usual: Looks
    looked_s: float  # when the looks were compared last
    speed: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # f64[2], pixels per second

    def predicted(self, time_s: float) -> npt.NDArray[np.float64]:
        """Where the face must be at a time, f64[2] pixels."""
        return self.centre + self.speed * _FADE_S * (1 - math.exp(-(time_s - self.seen_s) / _FADE_S))

    def unlike(self, looks: Looks) -> float:
        """Squared distance, 0..2, of looks from the nearer of the latest and the usual ones."""
        return float(min(((self.recent - looks) ** 2).sum(), ((self.usual - looks) ** 2).sum()))


@dataclass(frozen=True, slots=True)
class _Seen:
    """One face of the present frame."""

    centre: npt.NDArray[np.float64]  # f64[2], pixels
    side: float  # pixels
    looks: Looks
    alone: bool  # no other face is near


class Tracker:
    """Gives each face of a film the id of its person. One Tracker per film; feed it every frame in order.

    Ids count from 1 without gaps, in order of appearance (left to right within a frame); a false detection takes one
    as well. A person who is not seen for `max_gap_s` seconds, or across a camera cut, keeps the id only if the looks
    say so; after `remember_s` seconds, or when more than `max_lost` others were lost later, a returning person gets a
    new id. So memory is bounded: about 6 KB for each person in view and each of `max_lost` others.

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
        self._last: list[_Person] = []  # whose the faces of the last frame are, in the order in which they were given

    def update(self, frame: Frame, faces: list[Face], *, moved: bool = False) -> list[tuple[int, Face]]:
        """Ids of the faces of the next frame, as pairs (id, face) sorted by id; their order in `faces` does not matter.

        moved: these are the faces of the frame before, one by one, each a little further on, as interpolation gives
        them. Where none is near another one, they keep their ids without a look at the picture.

        A frame without a picture changes nothing and has no faces. Without presentation times, 25 frames a second are
        assumed.
        """
        if frame.image is None:
            return []
        time_s = frame.index / 25 if frame.time_s is None else frame.time_s
        self._time_s = max(time_s, self._time_s + 1e-3)
        self._look_for_cut(frame.image)
        self._people = [p for p in self._people if self._time_s - p.seen_s <= self._remember_s]
        if moved and len(faces) == len(self._last) and _alone(faces).all():
            for person, face in zip(self._last, faces, strict=True):
                self._move(person, *_place_of(face), clear=True)
        else:
            self._last = self._who(frame.image, faces)
        self._forget()
        pairs = zip(self._last, faces, strict=True)
        return sorted(((person.face_id, face) for person, face in pairs), key=lambda pair: pair[0])

    def _who(self, image: npt.NDArray[np.uint8], faces: list[Face]) -> list[_Person]:
        """The person of each face, known or new."""
        order = sorted(range(len(faces)), key=lambda k: (*faces[k].box_xyxy.tolist(), faces[k].score))
        alone = _alone(faces)
        seen = [_look_at(image, faces[k], alone=bool(alone[k])) for k in order]
        found = self._match(seen)
        for place, one in enumerate(seen):
            person = found.get(place)
            if person is None:
                found[place] = self._add(one)
            else:
                self._refresh(person, one)
        people = {k: found[place] for place, k in enumerate(order)}
        return [people[k] for k in range(len(faces))]

    def _look_for_cut(self, image: npt.NDArray[np.uint8]) -> None:
        """Begin a new shot when the picture as a whole has changed."""
        thumbnail = image[_thumbnail_places(*image.shape[:2])].astype(np.int16)
        if self._thumbnail is not None and np.abs(thumbnail - self._thumbnail).mean() > _CUT:
            self._shot += 1
        self._thumbnail = thumbnail

    def _match(self, seen: list[_Seen]) -> dict[int, _Person]:
        """Faces (by position) that are people seen before: by motion, then, of what is left, by looks."""
        found: dict[int, _Person] = {}
        for cost_of in (self._cost_of_motion, self._cost_of_return):
            people = [p for p in self._people if not any(p is q for q in found.values())]
            rest = [k for k in range(len(seen)) if k not in found]
            if not people or not rest:
                continue
            cost = np.array([[min(cost_of(person, seen[k]), _UNMATCHED) for k in rest] for person in people])
            for row, column in assign(cost):
                if cost[row, column] < _UNMATCHED:
                    found[rest[column]] = people[row]
        return found

    def _cost_of_motion(self, person: _Person, one: _Seen) -> float:
        """Distance from the predicted place plus difference of looks; half of that when another face is in the way."""
        gap_s = self._time_s - person.seen_s
        if person.shot != self._shot or gap_s > self._max_gap_s:
            return _UNMATCHED
        reach = math.sqrt(one.side * person.side) * (0.6 + 2 * gap_s)
        far = math.dist(one.centre, person.predicted(self._time_s)) / reach
        grown = abs(math.log(one.side / person.side)) / (0.4 + 0.6 * gap_s)
        if max(far, grown) >= 1:
            return _UNMATCHED
        unlike = person.unlike(one.looks) / _LIMIT_MOVING * (1.0 if one.alone else 0.5)
        return far + 0.5 * grown + 2 * unlike if unlike < 1 else _UNMATCHED

    def _cost_of_return(self, person: _Person, one: _Seen) -> float:
        """Difference of looks; within a shot nobody crosses more than eight faces a second."""
        gap_s = self._time_s - person.seen_s
        reach = math.sqrt(one.side * person.side) * (1 + 8 * gap_s)
        if person.shot == self._shot and math.dist(one.centre, person.centre) >= reach:
            return _UNMATCHED
        unlike = person.unlike(one.looks)
        return unlike + 1e-4 * gap_s if unlike < _LIMIT_RETURNED else _UNMATCHED

    def _add(self, one: _Seen) -> _Person:
        self._num_ids += 1
        person = _Person(
            face_id=self._num_ids,
            centre=one.centre,
            side=one.side,
            seen_s=self._time_s,
            shot=self._shot,
            recent=one.looks,
            usual=one.looks,
            looked_s=self._time_s,
        )
        self._people.append(person)
        return person

    def _refresh(self, person: _Person, one: _Seen) -> None:
        """Note where and how a person was seen; speed and looks only where no other face is in the way."""
        clear = one.alone or person.unlike(one.looks) < _CLEAR
        unseen_s, person.looked_s = self._time_s - person.looked_s, self._time_s
        self._move(person, one.centre, one.side, clear=clear)
        if clear:
            person.recent = one.looks
            person.usual = person.usual + np.float32(min(unseen_s, 1.0) / 4) * (one.looks - person.usual)

    def _move(self, person: _Person, centre: npt.NDArray[np.float64], side: float, *, clear: bool) -> None:
        """Note where a person is; the speed only where the face is `clear`."""
        gap_s = self._time_s - person.seen_s
        if person.shot != self._shot or gap_s > self._max_gap_s:
            person.speed = np.zeros(2)
        elif clear:
            person.speed = person.speed + gap_s / (gap_s + 0.1) * ((centre - person.centre) / gap_s - person.speed)
        person.centre, person.side, person.seen_s, person.shot = centre, side, self._time_s, self._shot

    def _forget(self) -> None:
        """Keep those in view and the `max_lost` others who were seen last."""
        lost = sorted((p.seen_s, p.face_id) for p in self._people if p.seen_s < self._time_s)
        surplus = {face_id for _, face_id in lost[: max(0, len(lost) - self._max_lost)]}
        self._people = [p for p in self._people if p.face_id not in surplus]


def _alone(faces: list[Face]) -> npt.NDArray[np.bool_]:
    """bool[N]: whether no other face is nearer to a face than half a face."""
    boxes = np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4)
    quarter = (boxes[:, 2:] - boxes[:, :2]) / 4
    low, high = boxes[:, :2] - quarter, boxes[:, 2:] + quarter
    meet = ((low[:, None] < high) & (low < high[:, None])).all(2)  # [N, N]; each meets itself
    alone: npt.NDArray[np.bool_] = meet.sum(1) <= 1
    return alone


def _look_at(image: npt.NDArray[np.uint8], face: Face, *, alone: bool) -> _Seen:
    """Place of a face and its looks."""
    centre, side = _place_of(face)
    return _Seen(centre=centre, side=side, looks=_looks(image, centre=centre, side=side), alone=alone)


def _place_of(face: Face) -> tuple[npt.NDArray[np.float64], float]:
    """Centre f64[2] and side of a face in pixels: the geometric mean of width and height, at least one pixel."""
    box = face.box_xyxy.astype(np.float64)
    width, height = np.maximum(box[2:] - box[:2], 1)
    return (box[:2] + box[2:]) / 2, math.sqrt(width * height)


@lru_cache(maxsize=8)
def _thumbnail_places(height: int, width: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Rows and columns of 27 x 48 pixels all over a picture, to index it with."""
    rows = ((np.arange(27) + 0.5) * height / 27).astype(int)
    columns = ((np.arange(48) + 0.5) * width / 48).astype(int)
    return np.ix_(rows, columns)


def _looks(image: npt.NDArray[np.uint8], *, centre: npt.NDArray[np.float64], side: float) -> Looks:
    """Light and shade of a face and the colours of hair, skin and clothes, each scaled to its weight."""
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
    """Square roots of soft histograms over brightness, red - green and blue - green: f64[len(sizes), 216], length 1.

    `pixels` [N, 3] holds the parts of the picture one after the other, `sizes` how many pixels each has.
    """
    red, green, blue = pixels.T
    chroma = (np.stack([red - green, blue - green]) / _CHROMA_RANGE + 1) / 2
    place = np.concatenate([(red + green + blue)[None] / 765, chroma]).clip(0, 1) * (_BINS - 0.001)  # [3, N]
    low = place.astype(int)
    share = np.stack([1 - (place - low), place - low])  # [2, 3, N]
    bins = _BINS + 1
    first = (low[0] * bins + low[1]) * bins + low[2] + np.repeat(np.arange(len(sizes)) * bins**3, sizes)
    step = (_CORNERS @ [bins**2, bins, 1])[:, None]  # [8, 1]
    weight = share[_CORNERS[:, 0], 0] * share[_CORNERS[:, 1], 1] * share[_CORNERS[:, 2], 2]  # [8, N]
    counts = np.bincount((first + step).ravel(), weight.ravel(), minlength=len(sizes) * bins**3)
    roots: npt.NDArray[np.float64] = np.sqrt(counts.reshape(len(sizes), -1) / np.array(sizes)[:, None])
    return roots


def assign(cost: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column), as many as the shorter side has, in the order of the rows; cost f64[N, M], finite.

    Of several assignments of the same cost always the same one is given.
    """
    assert cost.ndim == 2 and bool(np.isfinite(cost).all()), f"cost: {cost.shape}, expected finite numbers"
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    num_rows, num_columns = cost.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    row_of = np.full(num_columns, -1)  # of each column, -1: free
    for start in range(num_rows):
        least = np.full(num_columns, np.inf)  # of a chain from `start` to each column
        before = np.full(num_columns, -1)  # the column before it in that chain, -1: none
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
        while column >= 0:  # every row of the chain moves on by one
            previous = int(before[column])
            row_of[column] = row_of[previous] if previous >= 0 else start
            column = previous
    return sorted((int(row), column) for column, row in enumerate(row_of.tolist()) if row >= 0)
