"""F1 per class (paper, eq. (2)), its mean over classes (eq. (3), P_CE), and the confusion matrix.

Classes are integers from 0. A prediction of -1 means no answer, for instance for a missed face: it counts as wrong, but
as a false positive of no class.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["au_f1", "binary_f1", "confusion", "f1_from_counts", "f1_per_class", "macro_f1"]

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]


def f1_per_class(pred: Ints, *, true: Ints, num_classes: int) -> npt.NDArray[np.float64]:
    """F1 f64[num_classes] of predicted and true classes i[N]; 0 for a class that is neither predicted nor present.

    pred: -1 for no answer; true: 0 .. num_classes - 1.
    """
    assert pred.shape == true.shape and pred.ndim == 1, f"pred {pred.shape}, true {true.shape}"
    hits = np.bincount(true[pred == true], minlength=num_classes)
    both = np.bincount(pred[pred >= 0], minlength=num_classes) + np.bincount(true, minlength=num_classes)
    return f1_from_counts(hits, both=both)


def f1_from_counts(hits: npt.NDArray[np.number], *, both: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """2 hits / both, of any shape; both: number predicted plus number present. 0 where both is 0."""
    return np.asarray(2 * hits / np.where(both > 0, both, 1), np.float64)


def macro_f1(pred: Ints, *, true: Ints, num_classes: int, min_present: int = 0) -> float:
    """Mean F1 over the classes (eq. (3)); NaN if no class counts.

    min_present: only classes with at least this many samples in `true` count ("present classes"); 0: all of them, where
    an absent class counts with an F1 of 0, as in eq. (3).
    """
    f1 = f1_per_class(pred, true=true, num_classes=num_classes)
    kept = f1[np.bincount(true, minlength=num_classes) >= min_present]
    return float(kept.mean()) if kept.size else float("nan")


def binary_f1(
    probs: Floats,
    *,
    targets: Floats,
    mask: npt.NDArray[np.bool_] | None = None,
    thresholds: npt.ArrayLike = 0.5,
) -> npt.NDArray[np.float64]:
    """F1 f64[C] of each label by itself (multi-label).

    probs f[N, C]: a label is predicted if the probability reaches its threshold (one number, or one per label);
    NaN: not predicted. targets f[N, C]: present from 0.5 on. mask bool[N, C]: False is unknown and not counted.
    0 for a label that is neither predicted nor present.
    """
    known = np.ones(targets.shape, np.bool_) if mask is None else mask
    assert probs.shape == targets.shape == known.shape and probs.ndim == 2, (probs.shape, targets.shape, known.shape)
    predicted, present = (probs >= np.asarray(thresholds)) & known, (targets >= 0.5) & known
    return f1_from_counts((predicted & present).sum(0), both=predicted.sum(0) + present.sum(0))


def au_f1(probs: Floats, *, targets: Floats, mask: npt.NDArray[np.bool_] | None = None) -> float:
    """Mean over action units of the binary F1 at 0.5, as in Aff-Wild2's AU track; arguments as in `binary_f1`.

    Units without a positive sample are left out, since their F1 could only be 0. NaN if none is left.
    """
    f1 = binary_f1(probs, targets=targets, mask=mask)
    shown = ((targets >= 0.5) if mask is None else (targets >= 0.5) & mask).any(0)
    return float(f1[shown].mean()) if shown.any() else float("nan")


def confusion(pred: Ints, *, true: Ints, num_classes: int) -> npt.NDArray[np.int64]:
    """Confusion matrix i64[num_classes, num_classes + 1]: rows true, columns predicted, the last one no answer (-1)."""
    cells = true * (num_classes + 1) + np.where(pred < 0, num_classes, pred)
    counts = np.bincount(cells, minlength=num_classes * (num_classes + 1))
    return np.asarray(counts.reshape(num_classes, num_classes + 1), np.int64)
