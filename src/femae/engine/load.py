"""From a path and a wish to an engine: ONNX Runtime, OpenVINO or PyTorch."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from femae.config.options import DeviceName, EngineName
from femae.engine.hub import is_hub_address, local_file
from femae.engine.spec import Engine
from femae.errors import MissingDependencyError, ModelError
from femae.shipped import shipped

__all__ = ["engines_for", "find_model", "load_engine"]

_READERS: Final[dict[str, tuple[EngineName, ...]]] = {  # the first is taken where none is asked for
    ".onnx": ("onnx", "openvino"),
    ".xml": ("openvino",),
    ".safetensors": ("torch",),
}
_FILES: Final = {"onnx": ".onnx", "openvino": ".xml or .onnx", "torch": ".safetensors, or the folder of a run"}
_EXTRAS: Final = {"openvino": "openvino", "torch": "train"}


def engines_for(path: Path) -> tuple[EngineName, ...]:
    """Engines that read a file of this kind, the usual one first. Raises ModelError when there are none."""
    if path.is_dir():
        return ("torch",)
    if path.suffix.lower() not in _READERS:
        raise ModelError(
            f"{path.name} is no kind of model file that femae knows; expected .onnx, .xml (with its .bin), "
            ".safetensors, or the folder of a run"
        )
    return _READERS[path.suffix.lower()]


def find_model(path: Path, *, engine: EngineName | None = None) -> Path:
    """The file or folder that a path, femae:NAME or hf://... stands for. Raises ModelError when there is none."""
    if is_hub_address(path):
        path = local_file(path, engine=engine)
    path = shipped(path, suffixes=(".safetensors",) if engine == "torch" else (".onnx", ".safetensors"))
    if not path.exists():
        raise ModelError(f"there is no model file {path}; give an .onnx, .xml or .safetensors file, or a run's folder")
    return path


def load_engine(
    path: Path, *, engine: EngineName | None = None, num_threads: int = 1, device: DeviceName = "cpu"
) -> Engine:
    """Load a model file, run folder, femae:NAME (one that ships) or hf://owner/name[/file].

    num_threads: of one call of `run`. engine None: by the kind of file. Raises ModelError when the file is missing,
    damaged or not for this engine, MissingDependencyError when the engine's or the device's package is not installed,
    ConfigError for a device that cannot be used.
    """
    path = find_model(path, engine=engine)
    fitting = engines_for(path)
    chosen = engine or fitting[0]
    if chosen not in fitting:
        raise ModelError(
            f"the engine {chosen} does not read {path.name}; it reads {_FILES[chosen]}. Leave --engine out, or make a "
            "file for it with `femae export`"
        )
    if chosen in _EXTRAS and find_spec(chosen) is None:
        raise MissingDependencyError(
            f"the engine {chosen} needs the package {chosen}, which is not installed: "
            f"pip install 'femae[{_EXTRAS[chosen]}]'"
        )
    return _open(chosen, path, num_threads, device)


def _open(engine: EngineName, path: Path, num_threads: int, device: DeviceName) -> Engine:
    if engine == "openvino":
        from femae.engine.openvino import OpenVinoEngine

        return OpenVinoEngine(path, num_threads=num_threads, device=device)
    if engine == "torch":
        from femae.engine.torch import TorchEngine

        return TorchEngine(path, num_threads=num_threads, device=device)
    from femae.engine.onnx import OnnxEngine

    return OnnxEngine(path, num_threads=num_threads, device=device)
