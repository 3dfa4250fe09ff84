"""femae: compound facial expressions, frame by frame, from any video."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from femae.errors import FemaeError as FemaeError
    from femae.inference.predictor import Predictor as Predictor
    from femae.inference.predictor import predict as predict
    from femae.inference.tables import Predictions as Predictions

__version__ = "0.2.0"
__all__ = ["FemaeError", "Predictions", "Predictor", "__version__", "predict"]

_MODULES = {
    "FemaeError": "femae.errors",
    "Predictions": "femae.inference.tables",
    "Predictor": "femae.inference.predictor",
    "predict": "femae.inference.predictor",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access, which keeps `import femae` fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'femae' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
