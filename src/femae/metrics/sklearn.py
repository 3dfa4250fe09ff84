"""The one place that asks for scikit-learn, which comes with the extras `evaluate` and `train`."""

from typing import Any

from femae.errors import MissingDependencyError

__all__ = ["sklearn_metrics"]


def sklearn_metrics() -> Any:
    """The module sklearn.metrics. Raises MissingDependencyError where it is not installed."""
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependencyError(
            "average precision, AUROC and confusion need scikit-learn: pip install 'femae[evaluate]'"
        ) from error
    return metrics
