"""F1 per class (paper, eq. (2) and (3)): the only one in the project."""

import numpy as np
import numpy.typing as npt

__all__ = ["f1_per_class"]


def f1_per_class(
    pred: npt.NDArray[np.integer], *, true: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.float64]:
    """F1 f64[num_classes] of predicted and true classes i[N]; 0 for a class that is neither predicted nor present."""
    hits = np.bincount(true[pred == true], minlength=num_classes)
    both = np.bincount(pred, minlength=num_classes) + np.bincount(true, minlength=num_classes)
    return np.asarray(2 * hits / np.maximum(both, 1), np.float64)
