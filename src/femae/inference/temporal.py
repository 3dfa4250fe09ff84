"""The stages that need the frames of a film in order: smoothing, gap filling, and the label for people.

Smoothing and filling compute the numbers of femae.compound.smoothing in bounded memory. Per face id, gaps of at most
`max_gap_s` are filled first (box and values by linear interpolation), then all samples, measured and filled, are
smoothed. A frame is held back until no later frame can change it: for `window_s` if it has a face, and as long as a
missing face may still return in time to be filled into it. No frame is held for longer than window_s + max_gap_s of
presentation time (plus the wait for the next frame). Frames whose time is unknown pass in order, unchanged; a step back
in time ends all series and starts new ones.

The label for people is none, an emotion or a compound per face. A picture is decided by itself. In a film the six
probabilities are smoothed over `window_s` to either side (a live stream only looks back), and a face keeps its label
until another one exceeds it by a margin: its probability times gain must be MARGIN times that of the current label.
The six probabilities of the table stay as they are.
"""

import bisect
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from femae.compound.expression import ExpressionRule
from femae.compound.rules import Rule, combine, decide
from femae.compound.smoothing import bridges, lerp, smooth_at, time_share
from femae.errors import ConfigError
from femae.labels import EMOTIONS, Compound
from femae.types import Face, FaceResult, FrameResult

__all__ = ["MARGIN", "ExpressionStage", "HeldFrame", "TemporalStage", "held_back"]


class TemporalStage:
    """Smooths results and fills gaps; yields each frame once and in order.

    window_s, max_gap_s: seconds, 0 or more and finite; with both 0 the stage does nothing. compounds, rule, weights
    (f32[6] or None) and threshold are applied again to the changed probabilities (see compound.rules). A smoothed face
    keeps its own probabilities in `raw_probs`; a filled one has `filled` set, no raw probabilities, no landmarks and
    the detection score NaN, and makes a `no_face` frame `ok`. Unreadable frames are never filled. Action units are
    filled but not smoothed. Raises ConfigError for seconds out of range.
    """

    def __init__(
        self,
        *,
        window_s: float,
        max_gap_s: float,
        compounds: tuple[Compound, ...],
        rule: Rule = "sum",
        weights: npt.NDArray[np.float32] | None = None,
        threshold: float | None = None,
    ) -> None:
        for name, seconds in (("smoothing window", window_s), ("longest gap to fill", max_gap_s)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ConfigError(f"the {name} cannot be {seconds} s: expected 0 or more seconds")
        self.window_s, self.max_gap_s = window_s, max_gap_s
        self.compounds, self.rule, self.weights, self.threshold = compounds, rule, weights, threshold

    def __call__(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        """The same frames in the same order. Frames held back are lost if `results` raises."""
        if self.window_s == 0 and self.max_gap_s == 0:
            yield from results
            return
        yield from map(self._finish, held_back(results, window_s=self.window_s, max_gap_s=self.max_gap_s))

    def _finish(self, held: "HeldFrame") -> FrameResult:
        """Score the changed faces of a frame and order all of them by id."""
        for face_id, outputs in held.smoothed.items():
            face = held.faces[face_id]
            raw = None if face.filled else face.probs
            probs, none_probs = outputs[: len(EMOTIONS)], outputs[len(EMOTIONS) :]
            held.faces[face_id] = replace(face, probs=probs, none_probs=none_probs, raw_probs=raw)
        changed = {face_id: face for face_id, face in held.faces.items() if face.filled or face_id in held.smoothed}
        if not changed:
            return held.result
        probs = np.stack([face.probs for face in changed.values()])
        scores = combine(probs, compounds=self.compounds, rule=self.rule, weights=self.weights)
        names, best = decide(scores, compounds=self.compounds, threshold=self.threshold)
        for row, (face_id, face) in enumerate(changed.items()):
            held.faces[face_id] = replace(
                face, scores=scores[row], compound=names[row], compound_score=float(best[row])
            )
        faces = tuple(face for _, face in sorted(held.faces.items()))
        return replace(held.result, status="ok", faces=faces)


def held_back(results: Iterator[FrameResult], *, window_s: float, max_gap_s: float) -> Iterator["HeldFrame"]:
    """Yields each frame once, in order, when its gaps are filled and its smoothed values are final."""
    buffer = _FrameBuffer(window_s=window_s, max_gap_s=max_gap_s)
    for result in results:
        time_s = result.frame.time_s
        if time_s is not None and time_s < buffer.now_s:
            yield from buffer.end()
            buffer = _FrameBuffer(window_s=window_s, max_gap_s=max_gap_s)
        buffer.add(result)
        yield from buffer.ready()
    yield from buffer.end()


@dataclass(kw_only=True, slots=True)
class HeldFrame:
    """A frame that is held back: its result, its faces, and their smoothed outputs."""

    result: FrameResult
    number: int  # position in the stream
    faces: dict[int, FaceResult]  # by face_id, including filled ones
    smoothed: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)  # FaceResult.outputs by face_id

    @property
    def time_s(self) -> float | None:
        return self.result.frame.time_s

    @property
    def fillable(self) -> bool:
        return self.time_s is not None and self.result.status != "unreadable"


@dataclass(kw_only=True, slots=True)
class _Series:
    """State of one face id: when it was last seen, and the samples that smoothing may still need."""

    last: FaceResult
    last_s: float
    missing_since_s: float | None = None  # first fillable frame without it, while the gap may still be filled
    numbers: list[int] = field(default_factory=list)  # HeldFrame.number of each sample
    times_s: list[float] = field(default_factory=list)
    outputs: list[npt.NDArray[np.float32]] = field(default_factory=list)  # f32[6 or 7] each

    def append(self, *, number: int, time_s: float, outputs: npt.NDArray[np.float32]) -> None:
        self.numbers.append(number)
        self.times_s.append(time_s)
        self.outputs.append(outputs)

    def prune(self, *, until_s: float) -> None:
        """Drop the samples up to a time, if they are at least half of all."""
        stale = bisect.bisect_right(self.times_s, until_s)
        if 2 * stale >= len(self.times_s):
            del self.numbers[:stale], self.times_s[:stale], self.outputs[:stale]


class _FrameBuffer:
    """The frames held back, and the series of every face id seen recently."""

    def __init__(self, *, window_s: float, max_gap_s: float) -> None:
        self.window_s, self.max_gap_s = window_s, max_gap_s
        self.now_s = -math.inf  # no later frame is earlier than this
        self.frames: deque[HeldFrame] = deque()
        self.series: dict[int, _Series] = {}
        self.num_added = 0

    def add(self, result: FrameResult) -> None:
        held = HeldFrame(result=result, number=self.num_added, faces={face.face_id: face for face in result.faces})
        self.num_added += 1
        self.frames.append(held)
        if held.time_s is None:
            return
        self.now_s = held.time_s
        for face in result.faces:
            self._see(face, held=held, time_s=held.time_s)
        for face_id, series in self.series.items():
            if not bridges(series.last_s, self.now_s, max_gap_s=self.max_gap_s):
                series.missing_since_s = None  # the gap is too long by now
            elif held.fillable and face_id not in held.faces and series.missing_since_s is None:
                series.missing_since_s = self.now_s

    def _see(self, face: FaceResult, *, held: HeldFrame, time_s: float) -> None:
        """Append a face of the newest frame to its series, after filling the gap before it."""
        series = self.series.setdefault(face.face_id, _Series(last=face, last_s=time_s))
        if series.missing_since_s is not None and bridges(series.last_s, time_s, max_gap_s=self.max_gap_s):
            self._fill(series, face=face, time_s=time_s)
        if self.window_s > 0:
            series.append(number=held.number, time_s=time_s, outputs=face.outputs)
        series.last, series.last_s, series.missing_since_s = face, time_s, None

    def _fill(self, series: _Series, *, face: FaceResult, time_s: float) -> None:
        """Interpolate the face in the held frames between its last sample and the newest frame."""
        gap: list[HeldFrame] = []
        for held in list(self.frames)[-2::-1]:
            if face.face_id in held.faces and held.time_s is not None:
                break
            if held.fillable:
                gap.append(held)
        for held in reversed(gap):
            assert held.time_s is not None
            share = time_share(held.time_s, start_s=series.last_s, stop_s=time_s)
            filled = _between(series.last, face, share=share)
            held.faces[face.face_id] = filled
            if self.window_s > 0:
                series.append(number=held.number, time_s=held.time_s, outputs=filled.outputs)

    def ready(self) -> Iterator[HeldFrame]:
        """Yields, smoothed, the frames at the head of the buffer that no later frame can change."""
        while self.frames and self._is_final(self.frames[0]):
            yield self._smooth(self.frames.popleft())
        self._prune()

    def end(self) -> Iterator[HeldFrame]:
        """Yields all remaining frames at the end of the stream."""
        while self.frames:
            yield self._smooth(self.frames.popleft())

    def _is_final(self, held: HeldFrame) -> bool:
        if held.time_s is None:
            return True
        reach_s = held.time_s + self.window_s
        if held.faces and self.window_s > 0 and self.now_s < reach_s:
            return False
        for face_id, series in self.series.items():
            if series.missing_since_s is None:
                continue
            if face_id in held.faces:
                if self.window_s > 0 and series.missing_since_s < reach_s:  # may fill samples in the window
                    return False
            elif held.fillable and held.time_s >= series.missing_since_s:  # it may be filled into this frame
                return False
        return True

    def _smooth(self, held: HeldFrame) -> HeldFrame:
        if self.window_s > 0 and held.time_s is not None:
            for face_id in held.faces:
                series = self.series[face_id]
                index = bisect.bisect_left(series.numbers, held.number)
                times_s, outputs = np.array(series.times_s), np.array(series.outputs)
                held.smoothed[face_id] = smooth_at(times_s, outputs, index=index, window_s=self.window_s)
        return held

    def _prune(self) -> None:
        """Drop samples that no held or later frame needs, and ids that are gone."""
        head_s = next((held.time_s for held in self.frames if held.time_s is not None), self.now_s)
        until_s = head_s - self.window_s
        for face_id, series in list(self.series.items()):
            series.prune(until_s=until_s)
            if not series.numbers and not bridges(series.last_s, self.now_s, max_gap_s=self.max_gap_s):
                del self.series[face_id]


def _between(start: FaceResult, stop: FaceResult, *, share: float) -> FaceResult:
    """The face interpolated at `share` (0..1) between two samples; its compound scores are computed later."""
    face = Face(box_xyxy=lerp(start.face.box_xyxy, stop.face.box_xyxy, share=share), landmarks=None, score=float("nan"))
    return replace(
        start,
        face=face,
        probs=lerp(start.probs, stop.probs, share=share),
        au_probs=lerp(start.au_probs, stop.au_probs, share=share),
        none_probs=lerp(start.none_probs, stop.none_probs, share=share),
        measured=np.full_like(start.measured, np.nan),
        raw_probs=None,
        filled=True,
    )


MARGIN: Final = 1.5  # factor by which another label must be preferred
_MAX_ABSENCE_S: Final = 1.0  # after a longer absence a face loses its label

Outputs = npt.NDArray[np.float32]  # f32[6 or 7] of a face: FaceResult.outputs


@dataclass(kw_only=True, slots=True)
class _Track:
    """State of one face id."""

    label: int = -1  # index in ExpressionRule.names
    last_s: float = -math.inf
    times_s: list[float] = field(default_factory=list)  # live streams only: the samples in the window
    outputs: list[Outputs] = field(default_factory=list)


class ExpressionStage:
    """Sets `expression` and `expression_probability` of each face; yields each frame once and in order.

    mode: `single` decides each frame by itself; `film` smooths over window_s seconds (0: not at all) to either side and
    holds a frame with a face back that long; `live` only looks back and holds nothing back. Frames whose time is
    unknown are decided by themselves. Raises ConfigError for seconds out of range.
    """

    def __init__(self, rule: ExpressionRule, *, window_s: float, mode: Literal["single", "film", "live"]) -> None:
        if not (math.isfinite(window_s) and window_s >= 0):
            raise ConfigError(f"the window of the expression cannot be {window_s} s: expected 0 or more seconds")
        self.rule, self.window_s, self.mode = rule, window_s, mode
        self._tracks: dict[int, _Track] = {}
        self._now_s = -math.inf

    def __call__(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        """The same frames in the same order. Frames held back are lost if `results` raises."""
        if self.mode == "single":
            for result in results:
                yield self._decide_alone(result)
        elif self.mode == "live":
            for result in results:
                yield self._decide_tracked(result, [self._smoothed_backwards(face, result) for face in result.faces])
        else:
            for held in held_back(results, window_s=self.window_s, max_gap_s=0):
                yield self._decide_tracked(
                    held.result, [held.smoothed.get(face.face_id, face.outputs) for face in held.result.faces]
                )

    def _decide_alone(self, result: FrameResult) -> FrameResult:
        if not result.faces:
            return result
        names, values = self.rule.decide(np.stack([face.outputs for face in result.faces]))
        faces = zip(result.faces, names, values, strict=True)
        return replace(result, faces=tuple(_labelled(face, name, float(value)) for face, name, value in faces))

    def _decide_tracked(self, result: FrameResult, smoothed: list[Outputs]) -> FrameResult:
        """Decide the faces of a frame on their smoothed probabilities, with hysteresis towards their current labels."""
        time_s = result.frame.time_s
        if time_s is None or not result.faces:
            return self._decide_alone(result)
        if time_s < self._now_s:  # a step back in time
            self._tracks.clear()
        self._now_s = time_s
        probabilities = self.rule.probabilities(np.stack(smoothed))
        preferences = self.rule.preferences(probabilities)
        faces = []
        for row, face in enumerate(result.faces):
            track = self._tracks.setdefault(face.face_id, _Track())
            best = int(preferences[row].argmax())
            label = track.label if time_s - track.last_s <= _MAX_ABSENCE_S else -1
            if label < 0 or preferences[row, best] - preferences[row, label] > math.log(MARGIN):
                label = best
            track.label, track.last_s = label, time_s
            faces.append(_labelled(face, self.rule.names[label], float(probabilities[row, label])))
        if len(self._tracks) > 2 * len(result.faces) + 16:
            self._tracks = {i: t for i, t in self._tracks.items() if time_s - t.last_s <= _MAX_ABSENCE_S}
        return replace(result, faces=tuple(faces))

    def _smoothed_backwards(self, face: FaceResult, result: FrameResult) -> Outputs:
        """The mean f32[6 or 7] over the window that ends now."""
        time_s = result.frame.time_s
        if time_s is None or self.window_s == 0:
            return face.outputs
        if time_s < self._now_s:
            self._tracks.clear()
        track = self._tracks.setdefault(face.face_id, _Track())
        track.times_s.append(time_s)
        track.outputs.append(face.outputs)
        stale = sum(time_s - earlier >= self.window_s for earlier in track.times_s)
        del track.times_s[:stale], track.outputs[:stale]
        times_s, outputs = np.array(track.times_s), np.stack(track.outputs)
        return smooth_at(times_s, outputs, index=len(times_s) - 1, window_s=self.window_s)


def _labelled(face: FaceResult, name: str, probability: float) -> FaceResult:
    return replace(face, expression=name, expression_probability=probability)
