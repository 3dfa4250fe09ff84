"""The mapping from ARKit blendshapes to action units of FACS, with the calibration of each coefficient.

The pairs of blendshapes and units follow from their definitions: Apple's documentation describes the movement of each
coefficient, the FACS manual (Ekman, Friesen and Hager, 2002) the appearance of each unit; the shape names of
ICT-FaceKit and comparisons of ARKit with FACS by expression coders (such as Melinda Ozel's) give the same pairs. Left
and right are averaged, since the data sets in use have one intensity per face.

A coefficient is not an intensity: some are well above 0 on neutral faces, others never come near 1. So each unit has
two numbers, measured on real faces by benchmarks/pseudo_aus.py: `rest`, the median over FER+ pictures that nearly all
annotators called neutral, maps to 0, and `full`, the 99th percentile over FER+ (training part) and LFW, maps to 1,
linearly. 1 means `as strong as in one picture of a hundred`, not intensity E of FACS.

Some units are masked for all pictures, if the coefficient is not informative: it is flat (MediaPipe's cheekSquint and
noseSneer stay below 0.001 on any face), it does not follow the unit on rendered faces with known intensities, or it
responds to something else on real faces. Others are masked in single pictures, when a stronger movement is known to
influence them (`unless`). benchmarks/results/pseudo_aus.md has the measurements behind each decision.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.data.pseudo_aus.blendshapes import BLENDSHAPES
from femae.data.store.shards import ACTION_UNITS

__all__ = ["AU_RULES", "AuRule", "action_units_from_blendshapes", "raw_action_unit"]

_SMILE: Final = ("mouthSmile", 0.3)
_TEETH: Final = ("mouthLowerDown", 0.3)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuRule:
    """How a unit is computed: the maximum of `shapes`, each the mean of its sides, mapped from rest..full to 0..1."""

    unit: str
    shapes: tuple[str, ...]  # names of BLENDSHAPES without Left and Right
    rest: float = 0.0  # value that maps to 0
    full: float = 1.0  # value that maps to 1
    unless: tuple[str, float] | None = None  # (shape, limit): unknown if the shape is above the limit
    masked: str = ""  # why the unit is always unknown; empty: it is used

    def words(self) -> str:
        """The rule as a line of text."""
        text = self.shapes[0] if len(self.shapes) == 1 else f"maximum of {', '.join(self.shapes)}"
        if self.masked:
            return f"{text}; masked: {self.masked}"
        text += f"; {self.rest} becomes 0, {self.full} becomes 1"
        return text if self.unless is None else f"{text}; unknown where {self.unless[0]} is above {self.unless[1]}"


AU_RULES: Final[tuple[AuRule, ...]] = (
    AuRule(unit="AU01", shapes=("browInnerUp",), rest=0.047, full=0.936),
    AuRule(unit="AU02", shapes=("browOuterUp",), rest=0.121, full=0.899),
    AuRule(unit="AU04", shapes=("browDown",), rest=0.026, full=0.784),
    AuRule(unit="AU05", shapes=("eyeWide",), rest=0.015, full=0.348),
    AuRule(unit="AU06", shapes=("cheekSquint",), masked="flat"),
    AuRule(unit="AU07", shapes=("eyeSquint",), rest=0.227, full=0.741),
    AuRule(unit="AU09", shapes=("noseSneer",), masked="flat"),
    AuRule(unit="AU10", shapes=("mouthUpperUp",), rest=0.000, full=0.808, unless=_SMILE),
    AuRule(unit="AU12", shapes=("mouthSmile",), rest=0.000, full=0.955),
    AuRule(unit="AU14", shapes=("mouthDimple",), masked="on real faces it follows open mouths"),
    AuRule(unit="AU15", shapes=("mouthFrown",), rest=0.004, full=0.305, unless=_TEETH),
    AuRule(unit="AU16", shapes=("mouthLowerDown",), masked="follows the open mouth, AU25, rather than the unit"),
    AuRule(unit="AU17", shapes=("mouthShrugLower",), rest=0.018, full=0.494),
    AuRule(unit="AU18", shapes=("mouthPucker",), masked="high on many faces at rest"),
    AuRule(unit="AU20", shapes=("mouthStretch",), rest=0.004, full=0.497, unless=_SMILE),
    AuRule(unit="AU22", shapes=("mouthFunnel",), rest=0.002, full=0.160),
    AuRule(unit="AU24", shapes=("mouthPress",), masked="does not follow the unit on rendered faces"),
    AuRule(unit="AU25", shapes=("jawOpen", "mouthLowerDown", "mouthUpperUp"), rest=0.012, full=0.906),
    AuRule(unit="AU26", shapes=("jawOpen",), rest=0.007, full=0.350),  # jaw dropped: half of what AU27 takes
    AuRule(unit="AU27", shapes=("jawOpen",), rest=0.007, full=0.699),  # mouth stretched open
    AuRule(unit="AU28", shapes=("mouthRollLower",), masked="on real faces it follows hands, beards and shadows"),
    AuRule(unit="AU43", shapes=("eyeBlink",), rest=0.058, full=0.658),  # one picture cannot tell closed eyes
    AuRule(unit="AU45", shapes=("eyeBlink",), rest=0.058, full=0.658),  # from a blink
)


def _shape(blendshapes: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
    """f32[N, 52] -> f32[N], the mean of the sides of a shape."""
    columns = [BLENDSHAPES.index(name + side) for side in ("", "Left", "Right") if name + side in BLENDSHAPES]
    return np.asarray(blendshapes[:, columns].mean(axis=1), np.float32)


def raw_action_unit(blendshapes: npt.NDArray[np.float32], *, rule: AuRule) -> npt.NDArray[np.float32]:
    """Coefficients f32[N, 52] -> values f32[N] before the calibration by `rest` and `full`; also of masked rules."""
    shapes = np.stack([_shape(blendshapes, name) for name in rule.shapes])
    return np.asarray(shapes.max(axis=0), np.float32)


def action_units_from_blendshapes(
    blendshapes: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Coefficients f32[N, 52] 0..1 -> targets f32[N, 46] 0..1 and mask bool[N, 46], in the order of ACTION_UNITS."""
    targets = np.zeros((len(blendshapes), len(ACTION_UNITS)), np.float32)
    mask = np.zeros(targets.shape, np.bool_)
    for rule in AU_RULES:
        if not rule.masked:
            unit = ACTION_UNITS.index(rule.unit)
            raw = raw_action_unit(blendshapes, rule=rule)
            mask[:, unit] = True if rule.unless is None else _shape(blendshapes, rule.unless[0]) <= rule.unless[1]
            targets[:, unit] = np.clip((raw - rule.rest) / (rule.full - rule.rest), 0, 1) * mask[:, unit]
    return targets, mask
