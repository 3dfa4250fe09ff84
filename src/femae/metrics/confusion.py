"""Which class is taken for which."""

import numpy as np
import numpy.typing as npt

from femae.metrics.sklearn import sklearn_metrics

__all__ = ["confusion"]


def confusion(
    pred: npt.NDArray[np.integer], *, true: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Counts i64[num_classes, num_classes + 1]: row true class, column predicted class, the last one no answer (-1).

    Raises MissingDependencyError without scikit-learn.
    """
    if len(true) == 0:
        return np.zeros((num_classes, num_classes + 1), np.int64)
    answered = np.where(pred < 0, num_classes, pred)
    counts = sklearn_metrics().confusion_matrix(true, answered, labels=np.arange(num_classes + 1))
    return np.asarray(counts[:num_classes], np.int64)
