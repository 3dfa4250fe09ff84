"""How series are drawn: a palette for colour-blind readers, never by colour alone, and without losing a peak."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS, Compound
from femae.video.palette import label_styles

__all__ = ["OKABE_ITO", "action_unit_style", "compound_style", "emotion_style", "is_light", "keep_peaks"]

# Of series that are no labels of faces: action units, folds, curves of a run; `black` is drawn light on a dark ground.
OKABE_ITO: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "black", "#F0E442")
_SECOND_ROUND: Final = [6, 3]  # dashes of the ninth series and on


def is_light(colour: str) -> bool:
    """Whether #rrggbb is too light for a line on white paper: its contrast is below 3, of WCAG 2."""
    if not colour.startswith("#"):
        return False
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 1.05 / (luminance + 0.05) < 3


def _style(number: int, colours: list[str], key: str, name: str, *, code: str = "") -> dict[str, Any]:
    return {
        "key": key,
        "name": name,
        "code": code,
        "colours": colours,
        "dash": _SECOND_ROUND if number >= len(OKABE_ITO) else [],
        "symbol": number % 8,
        "cased": any(map(is_light, colours)),  # a light line on white needs an outline
        "number": number,
    }


def emotion_style() -> list[dict[str, Any]]:
    """A line in its colour for each of the six."""
    styles = label_styles(EMOTIONS, ())
    return [_style(n, style["colours"], style["name"], style["name"]) for n, style in enumerate(styles)]


def compound_style(compounds: tuple[Compound, ...]) -> list[dict[str, Any]]:
    """A line in the two colours of each compound."""
    styles = label_styles([compound.name for compound in compounds], compounds)
    return [
        _style(n, style["colours"], compound.column, compound.name, code=style["code"])
        for n, (compound, style) in enumerate(zip(compounds, styles, strict=True))
    ]


def action_unit_style(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_style(n, [OKABE_ITO[n % len(OKABE_ITO)]], name, name) for n, name in enumerate(names)]


def keep_peaks(values: npt.NDArray[np.floating], *, max_rows: int) -> npt.NDArray[np.int64]:
    """Rows of f[N, S] to draw, at most about `max_rows`, rising.

    The rows are cut into equal stretches; of each, the rows with the lowest and the highest value of every column stay,
    and its first row. NaN counts as absent. All rows stay where N <= max_rows.
    """
    num_rows, num_columns = values.shape
    if num_rows <= max_rows:
        return np.arange(num_rows, dtype=np.int64)
    per_stretch = 2 * num_columns + 1
    num_stretches = max(1, max_rows // per_stretch)
    size = -(-num_rows // num_stretches)
    padded = np.full((num_stretches * size, num_columns), np.nan, np.float64)
    padded[:num_rows] = values
    blocks = padded.reshape(num_stretches, size, num_columns)  # [stretches, rows, S]
    starts = np.arange(num_stretches)[:, None] * size
    low = np.where(np.isnan(blocks), np.inf, blocks).argmin(axis=1) + starts
    high = np.where(np.isnan(blocks), -np.inf, blocks).argmax(axis=1) + starts
    ends = np.array([0, num_rows - 1])
    kept = np.unique(np.concatenate([low.ravel(), high.ravel(), starts.ravel(), ends]))
    return np.asarray(kept[kept < num_rows], np.int64)
