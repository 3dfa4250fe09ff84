"""The label for people as a stage of the stream: none, an emotion or a compound per face, without flicker in films.

A picture is judged by itself. In a film the six probabilities are smoothed over `window_s` to either side
(compound.smoothing; a live stream looks back alone), and a face keeps its label until another is preferred by a margin:
its probability times gain must be MARGIN times that of the label so far. The six probabilities of the table are left as
they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from femae.compound.expression import ExpressionRule
from femae.compound.smoothing import smooth_at
from femae.errors import ConfigError
from femae.inference.temporal import held_back
from femae.types import FaceResult, FrameResult

__all__ = ["MARGIN", "ExpressionStage"]

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
