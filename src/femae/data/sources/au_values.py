"""Codes of action units as data sets write them -> 0..1 or unknown.

| scale | values | becomes |
|---|---|---|
| occurrence | 0, 1 | itself |
| intensity | 0..5, or A..E for 1..5 | 1 from the threshold on, else 0 |
| probability | 0..1 | itself |

The threshold is 2 by default: in DISFA an action unit counts as present from intensity 2 (B) on, which is how results
on that set are reported. Empty, NaN, -1 and 9 (BP4D) are unknown, in every scale.
"""

import math
from typing import Final, Literal, get_args

from femae.data.sources.base import LeftOut
from femae.errors import ConfigError

__all__ = ["DEFAULT_THRESHOLD", "AuScale", "action_unit_value", "check_scale"]

AuScale = Literal["occurrence", "intensity", "probability"]
DEFAULT_THRESHOLD: Final = 2.0  # of 5
_UNKNOWN: Final = (-1.0, 9.0)
_LETTERS: Final = {letter: float(number) for number, letter in enumerate("abcde", 1)}


def check_scale(scale: str, threshold: float) -> None:
    """Raises ConfigError for an unknown scale or a threshold outside of 0..5."""
    if scale not in get_args(AuScale):
        raise ConfigError(f"there is no scale '{scale}': expected one of {', '.join(get_args(AuScale))}")
    if not 0 < threshold <= 5:
        raise ConfigError(f"an intensity threshold of {threshold:g}: expected more than 0, at most 5")


def action_unit_value(text: str, *, scale: AuScale, threshold: float = DEFAULT_THRESHOLD) -> float | None:
    """One code -> 0..1, None where it is unknown. Raises LeftOut."""
    word = text.strip().lower()
    try:
        value = _LETTERS[word] if scale == "intensity" and word in _LETTERS else float(word or "nan")
    except ValueError:
        raise LeftOut("action unit is not a number") from None
    if math.isnan(value) or value in _UNKNOWN:
        return None
    if scale == "intensity":
        if not 0 <= value <= 5:
            raise LeftOut("intensity of an action unit is not in 0..5")
        return float(value >= threshold)
    if scale == "occurrence" and value not in (0, 1):
        raise LeftOut("action unit is not 0 or 1 (for intensities choose the scale intensity)")
    if not 0 <= value <= 1:
        raise LeftOut("probability of an action unit is not in 0..1")
    return value
