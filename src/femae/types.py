"""Data types passed between the stages: frozen, keyword-only, with rank and dtype of arrays checked on creation."""

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
LabelView = Literal["expression", "compound"]  # which of a face's two labels is shown
CLEAR_SUM: Final = 0.5  # sum of the six probabilities from which a face shows an emotion or a blend rather than none


def _check(name: str, array: npt.NDArray[Any], dtype: type, shape: Sequence[int | None]) -> None:
    """Assert dtype and shape of one field; None in `shape` is any length."""
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    assert array.dtype == dtype and fits, f"{name}: {array.dtype}{array.shape}, expected {dtype.__name__}{tuple(shape)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInfo:
    """Properties of a film or a set of pictures that are known before its frames are read."""

    name: str  # file or folder name, for messages
    width: int | None = None  # pixels, as displayed after rotation; None for sets of pictures
    height: int | None = None  # pixels
    frame_rate: Fraction | None = None  # average, frames per second; None for pictures
    time_base: Fraction | None = None  # unit of presentation times in the file, seconds
    num_frames: int | None = None  # as stated by the file; for progress only
    duration_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame of a film, or one picture. `image` is None where it could not be decoded."""

    index: int  # from 1; 0: warm-up frame before a part of a film
    time_s: float | None  # presentation time; None for pictures
    image: npt.NDArray[np.uint8] | None  # u8[H, W, 3] RGB as displayed
    source: str  # name of the film's or picture's file
    problem: str = ""  # why image is None

    def __post_init__(self) -> None:
        assert self.index >= 0
        if self.image is not None:
            _check("image", self.image, np.uint8, (None, None, 3))


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """A detected face. Landmarks: left and right eye, nose, left and right corner of the mouth, as seen."""

    box_xyxy: npt.NDArray[np.float32]  # f32[4], pixels of the frame; may reach beyond its border
    landmarks: npt.NDArray[np.float32] | None  # f32[5, 2], pixels of the frame; None: the detector gives none
    score: float  # confidence 0..1; NaN: not detected, see FaceResult.filled

    def __post_init__(self) -> None:
        _check("box_xyxy", self.box_xyxy, np.float32, (4,))
        if self.landmarks is not None:
            _check("landmarks", self.landmarks, np.float32, (5, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceCrop:
    """A square picture of one face, the input of the model."""

    face: Face
    image: npt.NDArray[np.uint8]  # u8[S, S, 3] RGB
    frame_to_crop: npt.NDArray[np.float32]  # f32[2, 3]: crop (x, y) = M @ frame (x, y, 1)

    def __post_init__(self) -> None:
        _check("image", self.image, np.uint8, (None, None, 3))
        _check("frame_to_crop", self.frame_to_crop, np.float32, (2, 3))


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceResult:
    """Results for one face of one frame: id, six probabilities, compound scores, labels, action units if available."""

    face: Face
    face_id: int  # from 1; constant for a person within one film
    probs: npt.NDArray[np.float32]  # f32[6], 0..1, order of labels.EMOTIONS
    scores: npt.NDArray[np.float32]  # f32[K], order of the class set
    compound: str  # name of the compound; empty: abstained, below the threshold
    compound_score: float  # the largest score, also when abstained
    au_probs: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[A], 0..1
    expression: str = ""  # the label for people: none, an emotion, or a compound's name; empty: not decided yet
    expression_probability: float = float("nan")  # 0..1, calibrated where the model has fitted parameters
    none_probs: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[1] or f32[0]
    measured: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # f32[E] of --columns
    raw_probs: npt.NDArray[np.float32] | None = None  # f32[6] before smoothing; None: probs were not smoothed
    filled: bool = False  # not detected in this frame but interpolated from others; Face.score is NaN

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
        """f32[6] or f32[7]: the six probabilities and, if the model has it, that of none of them."""
        return np.concatenate([self.probs, self.none_probs])

    def label(self, view: LabelView) -> tuple[str, float]:
        """Name and number of the label to show: expression and its probability, or compound and its score."""
        if view == "expression":
            return self.expression, self.expression_probability
        return self.compound, self.compound_score

    @property
    def weak(self) -> bool:
        """Whether the six probabilities sum to less than CLEAR_SUM, so that the compound is hardly meaningful."""
        return not bool(np.sum(self.probs) >= CLEAR_SUM)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameResult:
    """Results for one frame, with faces ordered by face_id."""

    frame: Frame
    status: Status
    faces: tuple[FaceResult, ...] = ()

    def __post_init__(self) -> None:
        assert (self.status == "ok") == bool(self.faces)
