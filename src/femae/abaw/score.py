"""Macro-F1 of a label file against the true labels, over all frames of all videos (paper, eq. (3)).

CE: mean F1 over the seven compounds. EXPR: over the eight expressions. AU: mean over the twelve units of the F1 of
"present". A class that is neither predicted nor present counts as 0.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from femae.abaw.label_file import CE_ROWS, CE_VIDEOS, LabelFile
from femae.errors import DataError
from femae.metrics.f1 import binary_f1, f1_per_class

__all__ = ["Score", "is_challenge", "score_labels"]

_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """F1 per class (AU: per unit), and the numbers of frames."""

    f1: npt.NDArray[np.float64]  # f64[K]; NaN: an action unit without a known label
    support: _Integers  # i64[K], frames with this label
    predicted: _Integers  # i64[K]
    num_frames: int  # with a known label
    num_unknown: int  # frames without a known label

    @property
    def macro_f1(self) -> float:
        """Mean over the classes; for AU over the units with a known label."""
        return float(np.nanmean(self.f1))


def is_challenge(labels: LabelFile) -> bool:
    """Whether these are labels of the compound-expression challenge, judged by its videos and number of frames."""
    videos = {where.partition("/")[0] for where in labels.locations}
    return labels.track.name == "ce" and len(labels.locations) == CE_ROWS and videos == set(CE_VIDEOS)


def score_labels(predictions: LabelFile, *, labels: LabelFile) -> Score:
    """Score every frame with a known label; for AU each unit is known or unknown by itself.

    Raises DataError if a labelled frame has no prediction, or if no frame has a known label.
    """
    assert predictions.track.name == labels.track.name
    row_of = {where: row for row, where in enumerate(predictions.locations)}
    known = np.asarray((labels.values >= 0).any(axis=1))
    wanted = [where for where, is_known in zip(labels.locations, known, strict=True) if is_known]
    missing = [where for where in wanted if where not in row_of]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(wanted):,} labelled frames have no prediction, the first of them "
            f"{missing[0]}; a score over the rest would not be comparable: write the predictions with --template LABELS"
        )
    if not wanted:
        raise DataError("none of the frames has a known label: give the file of true labels")
    true = labels.values[known]
    pred = predictions.values[[row_of[where] for where in wanted]]
    if labels.track.num_values == 1:
        num_classes = len(labels.track.classes)
        f1 = f1_per_class(pred[:, 0], true=true[:, 0], num_classes=num_classes)
        support, predicted = (np.bincount(column[:, 0], minlength=num_classes) for column in (true, pred))
    else:
        mask = true >= 0
        f1 = binary_f1(pred.astype(np.float64), targets=true.astype(np.float64), mask=mask)
        f1 = np.where(mask.any(axis=0), f1, np.nan)
        support, predicted = ((true == 1).sum(axis=0), ((pred == 1) & mask).sum(axis=0))
    return Score(f1=f1, support=support, predicted=predicted, num_frames=len(wanted), num_unknown=int((~known).sum()))
