"""The values that travel between stages: frozen, keyword-only, checked for rank and dtype when built."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "CLEAR_SUM",
    "Face",
    "FaceCrop",
    "FaceResult",
    "Frame",
    "FrameResult",
    "LabelView",
    "Rule",
    "SourceInfo",
    "Status",
]

Status = Literal["ok", "no_face", "unreadable"]
Rule = Literal["sum", "product", "arithmetic", "geometric", "harmonic"]  # see compound/rules.py
LabelView = Literal["expression", "compound"]  # which of its two labels a face is shown with
CLEAR_SUM: Final = 0.5  # from here on a face shows one of the six emotions, or a blend, rather than none


def _check(name: str, array: npt.NDArray[Any], dtype: type, shape: Sequence[int | None]) -> None:
    """Assert dtype and shape (None: any length) of one field."""
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    assert array.dtype == dtype and fits, f"{name}: {array.dtype}{array.shape}, expected {dtype.__name__}{tuple(shape)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInfo:
    """What is known of a film or a set of pictures before its frames are read."""

    name: str  # file or folder name, for messages
    width: int | None = None  # pixels as displayed, rotation tags applied; None where pictures differ
    height: int | None = None
    frame_rate: Fraction | None = None  # average; None for pictures
    time_base: Fraction | None = None  # unit of presentation times in the file
    num_frames: int | None = None  # as the file states it, for progress only
    duration_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One picture of a source. `image` is None where it could not be decoded."""

    index: int  # from 1; 0: before the part of a film that was asked for
    time_s: float | None  # presentation time; None for pictures and where the file does not tell
    image: npt.NDArray[np.uint8] | None  # u8[H, W, 3] RGB as displayed
    source: str  # file name, of the picture for a folder of pictures
    problem: str = ""  # why image is None

    def __post_init__(self) -> None:
        assert self.index >= 0
        if self.image is not None:
            _check("image", self.image, np.uint8, (None, None, 3))


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """A detected face. Landmarks: left eye, right eye, nose, left mouth, right mouth, as seen in the picture."""

    box_xyxy: npt.NDArray[np.float32]  # f32[4], pixels of the frame; may reach beyond its border
    landmarks: npt.NDArray[np.float32] | None  # f32[5, 2], pixels of the frame; None: the detector gives none
    score: float  # 0..1; NaN: not detected, see FaceResult.filled

    def __post_init__(self) -> None:
        _check("box_xyxy", self.box_xyxy, np.float32, (4,))
        if self.landmarks is not None:
            _check("landmarks", self.landmarks, np.float32, (5, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceCrop:
    """A square picture of one face, as the model is fed with it."""

    face: Face
    image: npt.NDArray[np.uint8]  # u8[S, S, 3] RGB
    frame_to_crop: npt.NDArray[np.float32]  # f32[2, 3]: crop pixel = M @ (x, y, 1) of the frame

    def __post_init__(self) -> None:
        _check("image", self.image, np.uint8, (None, None, 3))
        _check("frame_to_crop", self.frame_to_crop, np.float32, (2, 3))


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceResult:
    """One face of one frame: where, who, six probabilities, compound scores, action units where the model has them."""

    face: Face
    face_id: int  # from 1; stays with a person within one video
    probs: npt.NDArray[np.float32]  # f32[6], sigmoid, order of labels.EMOTIONS
    scores: npt.NDArray[np.float32]  # f32[K], order of the class set
    compound: str  # name in words; empty: abstained
    compound_score: float  # the largest score, also when abstained
    au_probs: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[A]
    expression: str = ""  # the label for people: none, an emotion, or a compound's name; empty: not decided yet
    expression_probability: float = float("nan")  # 0..1, calibrated where the model carries fitted numbers
    none_probs: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[1]: none of them
    measured: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[E] of --columns
    raw_probs: npt.NDArray[np.float32] | None = None  # f32[6] before smoothing; None: probs were not smoothed
    filled: bool = False  # not detected in this frame: interpolated from frames before and after; Face.score is NaN

    def __post_init__(self) -> None:
        _check("probs", self.probs, np.float32, (6,))
        if self.raw_probs is not None:
            _check("raw_probs", self.raw_probs, np.float32, (6,))
        _check("scores", self.scores, np.float32, (None,))
        _check("au_probs", self.au_probs, np.float32, (None,))
        _check("none_probs", self.none_probs, np.float32, (None,))
        _check("measured", self.measured, np.float32, (None,))

    @property
    def outputs(self) -> npt.NDArray[np.float32]:
        """f32[6 or 7]: the six probabilities and, where the model gives it, that of none of them."""
        return np.concatenate([self.probs, self.none_probs])

    def label(self, view: LabelView) -> tuple[str, float]:
        """Name and number of the label that people see: expression and probability, or compound and score."""
        if view == "expression":
            return self.expression, self.expression_probability
        return self.compound, self.compound_score

    @property
    def weak(self) -> bool:
        """The six probabilities add up to less than CLEAR_SUM: the compound is the best of its set and says little."""
        return not bool(np.sum(self.probs) >= CLEAR_SUM)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameResult:
    """All that is known of one frame, faces ordered by face_id."""

    frame: Frame
    status: Status
    faces: tuple[FaceResult, ...] = ()

    def __post_init__(self) -> None:
        assert (self.status == "ok") == bool(self.faces)
