"""The stages that need the frames of a film in their order: smoothing, filling of gaps, and the label for people.

Smoothing and filling give the numbers of femae.compound.smoothing in bounded memory. Per face id, gaps of at most
`max_gap_s` are filled first (box and values on a straight line in time), then all samples, measured and filled, are
smoothed. A frame is held back only until nothing that may still come can change it: until `window_s` have passed where
it holds a face, and while a face that is out of sight may yet come back in time to be filled into it. No frame is held
for longer than window_s + max_gap_s of presentation time (plus the wait for the next frame). Frames whose time is
unknown pass in their turn, untouched; a step back in time ends all series and starts again.

The label for people is none, an emotion or a compound per face. A picture is judged by itself. In a film the six
probabilities are smoothed over `window_s` to either side (a live stream looks back alone), and a face keeps its label
until another is preferred by a margin: its probability times gain must be MARGIN times that of the label so far. The
six probabilities of the table are left as they are.
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
    """Turns results frame by frame into smoothed and filled ones, each frame once and in order.

    window_s, max_gap_s: seconds, 0 or more and finite; with both 0 the stage does nothing. compounds, rule, weights
    (f32[6] or None) and threshold decide again on the changed probabilities (see compound.rules). A smoothed face keeps
    its own probabilities in `raw_probs`; a filled one has `filled` set, no raw probabilities, no landmarks and the
    detection score NaN, and makes a `no_face` frame `ok`. Unreadable frames are never filled. Action units are filled
    but not smoothed. Raises ConfigError for seconds out of range.
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
        """The same frames in the same order. What is held back when `results` raises is lost."""
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
    """Each frame once, in order, when its gaps are filled and nothing can change its smoothed values any more."""
    line = _Line(window_s=window_s, max_gap_s=max_gap_s)
    for result in results:
        time_s = result.frame.time_s
        if time_s is not None and time_s < line.now_s:
            yield from line.end()
            line = _Line(window_s=window_s, max_gap_s=max_gap_s)
        line.add(result)
        yield from line.ready()
    yield from line.end()


@dataclass(kw_only=True, slots=True)
class HeldFrame:
    """A frame that is held back: as it came, its faces, and what smoothing makes of them."""

    result: FrameResult
    number: int  # position in the stream
    faces: dict[int, FaceResult]  # by face_id, the filled ones too
    smoothed: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)  # FaceResult.outputs by face_id

    @property
    def time_s(self) -> float | None:
        return self.result.frame.time_s

    @property
    def fillable(self) -> bool:
        return self.time_s is not None and self.result.status != "unreadable"


@dataclass(kw_only=True, slots=True)
class _Series:
    """What is remembered of one face id: when it was last seen, and the samples that smoothing may still need."""

    last: FaceResult
    last_s: float
    missing_since_s: float | None = None  # first fillable frame without it, while it may still come back in time
    numbers: list[int] = field(default_factory=list)  # of the samples' frames
    times_s: list[float] = field(default_factory=list)
    outputs: list[npt.NDArray[np.float32]] = field(default_factory=list)  # f32[6 or 7] each

    def append(self, *, number: int, time_s: float, outputs: npt.NDArray[np.float32]) -> None:
        self.numbers.append(number)
        self.times_s.append(time_s)
        self.outputs.append(outputs)

    def forget(self, *, until_s: float) -> None:
        """Drop the samples up to a time, once it pays."""
        stale = bisect.bisect_right(self.times_s, until_s)
        if 2 * stale >= len(self.times_s):
            del self.numbers[:stale], self.times_s[:stale], self.outputs[:stale]


class _Line:
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
                series.missing_since_s = None  # nothing that comes can be near enough
            elif held.fillable and face_id not in held.faces and series.missing_since_s is None:
                series.missing_since_s = self.now_s

    def _see(self, face: FaceResult, *, held: HeldFrame, time_s: float) -> None:
        """Take a face of the newest frame into its series, after filling the gap before it."""
        series = self.series.setdefault(face.face_id, _Series(last=face, last_s=time_s))
        if series.missing_since_s is not None and bridges(series.last_s, time_s, max_gap_s=self.max_gap_s):
            self._fill(series, face=face, time_s=time_s)
        if self.window_s > 0:
            series.append(number=held.number, time_s=time_s, outputs=face.outputs)
        series.last, series.last_s, series.missing_since_s = face, time_s, None

    def _fill(self, series: _Series, *, face: FaceResult, time_s: float) -> None:
        """Put the face into the waiting frames between its last sight and the newest frame."""
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
        """The frames at the head of the line that nothing later can change, smoothed."""
        while self.frames and self._is_final(self.frames[0]):
            yield self._smooth(self.frames.popleft())
        self._forget()

    def end(self) -> Iterator[HeldFrame]:
        """All frames left, when nothing more will come."""
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
                if self.window_s > 0 and series.missing_since_s < reach_s:  # samples may be filled in within reach
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

    def _forget(self) -> None:
        """Drop samples out of reach of every frame to come, and ids that are gone."""
        head_s = next((held.time_s for held in self.frames if held.time_s is not None), self.now_s)
        until_s = head_s - self.window_s
        for face_id, series in list(self.series.items()):
            series.forget(until_s=until_s)
            if not series.numbers and not bridges(series.last_s, self.now_s, max_gap_s=self.max_gap_s):
                del self.series[face_id]


def _between(start: FaceResult, stop: FaceResult, *, share: float) -> FaceResult:
    """The face at a share of the way from one sight to the next; its scores are still to be decided."""
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


MARGIN: Final = 1.5  # by which another label must be preferred
_FORGET_S: Final = 1.0  # out of sight for longer, a face is judged afresh

Outputs = npt.NDArray[np.float32]  # f32[6 or 7] of a face: FaceResult.outputs


@dataclass(kw_only=True, slots=True)
class _Track:
    """What is remembered of one face id."""

    label: int = -1  # of ExpressionRule.names
    last_s: float = -math.inf
    times_s: list[float] = field(default_factory=list)  # of a live stream: the samples within the window
    outputs: list[Outputs] = field(default_factory=list)


class ExpressionStage:
    """Turns results into results with `expression` and `expression_probability`, each frame once and in order.

    mode: `single` judges each frame by itself; `film` smooths over window_s seconds (0: not at all) to either side, for
    which a frame with a face waits; `live` looks back alone and holds nothing back. Frames whose time is unknown are
    judged by themselves. Raises ConfigError for seconds out of range.
    """

    def __init__(self, rule: ExpressionRule, *, window_s: float, mode: Literal["single", "film", "live"]) -> None:
        if not (math.isfinite(window_s) and window_s >= 0):
            raise ConfigError(f"the window of the expression cannot be {window_s} s: expected 0 or more seconds")
        self.rule, self.window_s, self.mode = rule, window_s, mode
        self._tracks: dict[int, _Track] = {}
        self._now_s = -math.inf

    def __call__(self, results: Iterator[FrameResult]) -> Iterator[FrameResult]:
        """The same frames in the same order. What is held back when `results` raises is lost."""
        if self.mode == "single":
            for result in results:
                yield self._by_itself(result)
        elif self.mode == "live":
            for result in results:
                yield self._in_time(result, [self._looking_back(face, result) for face in result.faces])
        else:
            for held in held_back(results, window_s=self.window_s, max_gap_s=0):
                yield self._in_time(
                    held.result, [held.smoothed.get(face.face_id, face.outputs) for face in held.result.faces]
                )

    def _by_itself(self, result: FrameResult) -> FrameResult:
        if not result.faces:
            return result
        names, values = self.rule.decide(np.stack([face.outputs for face in result.faces]))
        faces = zip(result.faces, names, values, strict=True)
        return replace(result, faces=tuple(_labelled(face, name, float(value)) for face, name, value in faces))

    def _in_time(self, result: FrameResult, smoothed: list[Outputs]) -> FrameResult:
        """Judge the faces of a frame on their smoothed probabilities, each in the light of its label so far."""
        time_s = result.frame.time_s
        if time_s is None or not result.faces:
            return self._by_itself(result)
        if time_s < self._now_s:  # a step back in time: all starts anew
            self._tracks.clear()
        self._now_s = time_s
        answers = self.rule.probabilities(np.stack(smoothed))
        preferences = self.rule.preferences(answers)
        faces = []
        for row, face in enumerate(result.faces):
            track = self._tracks.setdefault(face.face_id, _Track())
            best = int(preferences[row].argmax())
            held = track.label if time_s - track.last_s <= _FORGET_S else -1
            if held < 0 or preferences[row, best] - preferences[row, held] > math.log(MARGIN):
                held = best
            track.label, track.last_s = held, time_s
            faces.append(_labelled(face, self.rule.names[held], float(answers[row, held])))
        if len(self._tracks) > 2 * len(result.faces) + 16:
            self._tracks = {i: t for i, t in self._tracks.items() if time_s - t.last_s <= _FORGET_S}
        return replace(result, faces=tuple(faces))

    def _looking_back(self, face: FaceResult, result: FrameResult) -> Outputs:
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
