"""Fewer rows for drawing, without losing a peak."""

import numpy as np
import numpy.typing as npt

__all__ = ["keep_peaks"]


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
