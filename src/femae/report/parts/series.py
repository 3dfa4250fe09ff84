"""Styles of chart series, with a colour-blind safe palette and symbols, and downsampling that keeps peaks."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS, Compound
from femae.video.palette import label_styles

__all__ = ["OKABE_ITO", "action_unit_style", "compound_style", "emotion_style", "is_light", "keep_peaks"]

# For series other than face labels: action units, folds, curves of a run; `black` is drawn light in the dark theme.
OKABE_ITO: Final = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "black", "#F0E442")
_DASHES: Final = [6, 3]  # from the ninth series on


def is_light(colour: str) -> bool:
    """Whether #rrggbb is too light for a line on white: its WCAG 2 contrast is below 3."""
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
        "dash": _DASHES if number >= len(OKABE_ITO) else [],
        "symbol": number % 8,
        "cased": any(map(is_light, colours)),  # drawn with an outline
        "number": number,
    }


def emotion_style() -> list[dict[str, Any]]:
    """Styles of the six emotions."""
    styles = label_styles(EMOTIONS, ())
    return [_style(n, style["colours"], style["name"], style["name"]) for n, style in enumerate(styles)]


def compound_style(compounds: tuple[Compound, ...]) -> list[dict[str, Any]]:
    """Styles of compounds, each with two colours."""
    styles = label_styles([compound.name for compound in compounds], compounds)
    return [
        _style(n, style["colours"], compound.column, compound.name, code=style["code"])
        for n, (compound, style) in enumerate(zip(compounds, styles, strict=True))
    ]


def action_unit_style(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_style(n, [OKABE_ITO[n % len(OKABE_ITO)]], name, name) for n, name in enumerate(names)]


def keep_peaks(values: npt.NDArray[np.floating], *, max_rows: int) -> npt.NDArray[np.int64]:
    """Row numbers i64[M] of f[N, S] to draw, ascending, about `max_rows` at most.

    The rows are divided into equal blocks; each keeps its first row and, per column, the rows with the lowest and the
    highest value. NaN is ignored. If N <= max_rows all rows are kept.
    """
    num_rows, num_columns = values.shape
    if num_rows <= max_rows:
        return np.arange(num_rows, dtype=np.int64)
    per_block = 2 * num_columns + 1
    num_blocks = max(1, max_rows // per_block)
    size = -(-num_rows // num_blocks)
    padded = np.full((num_blocks * size, num_columns), np.nan, np.float64)
    padded[:num_rows] = values
    blocks = padded.reshape(num_blocks, size, num_columns)  # [blocks, rows, S]
    starts = np.arange(num_blocks)[:, None] * size
    low = np.where(np.isnan(blocks), np.inf, blocks).argmin(axis=1) + starts
    high = np.where(np.isnan(blocks), -np.inf, blocks).argmax(axis=1) + starts
    ends = np.array([0, num_rows - 1])
    kept = np.unique(np.concatenate([low.ravel(), high.ravel(), starts.ravel(), ends]))
    return np.asarray(kept[kept < num_rows], np.int64)
