"""Finds a model file and loads it with an engine: ONNX Runtime, OpenVINO or PyTorch.

A path may be an address of the Hugging Face Hub: hf://owner/name, hf://owner/name@revision, hf://owner/name/file.onnx.
Its files are kept in the Hub's own cache; with HF_HUB_OFFLINE=1 they are read from there only.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from femae.config.options import DeviceName, EngineName
from femae.engine.spec import Engine
from femae.errors import MissingDependencyError, ModelError
from femae.shipped import shipped

__all__ = ["engines_for", "find_model", "is_hub_address", "load_engine", "local_file"]

_ENGINES: Final[dict[str, tuple[EngineName, ...]]] = {  # suffix -> engines that read it, the default first
    ".onnx": ("onnx", "openvino"),
    ".xml": ("openvino",),
    ".safetensors": ("torch",),
}
_FILES: Final = {"onnx": ".onnx", "openvino": ".xml or .onnx", "torch": ".safetensors, or the folder of a run"}
_EXTRAS: Final = {"openvino": "openvino", "torch": "train"}


def engines_for(path: Path) -> tuple[EngineName, ...]:
    """Engines that read a file with this suffix, or a run's folder, the default first. Raises ModelError if none do."""
    if path.is_dir():
        return ("torch",)
    if path.suffix.lower() not in _ENGINES:
        raise ModelError(
            f"{path.name} is not a kind of model file that femae can read; expected .onnx, .xml (with its .bin), "
            ".safetensors, or the folder of a run"
        )
    return _ENGINES[path.suffix.lower()]


def find_model(path: Path, *, engine: EngineName | None = None) -> Path:
    """The existing file or folder that a path, femae:NAME or hf://... stands for; downloads it if needed.

    Raises ModelError when there is none, MissingDependencyError for hf:// without huggingface_hub.
    """
    if is_hub_address(path):
        path = local_file(path, engine=engine)
    path = shipped(path, suffixes=(".safetensors",) if engine == "torch" else (".onnx", ".safetensors"))
    if not path.exists():
        raise ModelError(f"there is no model file {path}; give an .onnx, .xml or .safetensors file, or a run's folder")
    return path


def load_engine(
    path: Path, *, engine: EngineName | None = None, num_threads: int = 1, device: DeviceName = "cpu"
) -> Engine:
    """Load a model file, run folder, femae:NAME (a shipped model) or hf://owner/name[/file].

    `engine` None: the default for the file's suffix. `num_threads`: CPU threads of one call of `run`. Raises ModelError
    when the file is missing, damaged or not readable by the engine, MissingDependencyError when the package of the
    engine or the device is not installed, ConfigError for a device that cannot be used.
    """
    path = find_model(path, engine=engine)
    suitable = engines_for(path)
    chosen = engine or suitable[0]
    if chosen not in suitable:
        raise ModelError(
            f"the engine {chosen} does not read {path.name}, only {_FILES[chosen]}: leave out --engine, or make a "
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


def is_hub_address(path: Path) -> bool:
    """Whether a path is hf://... (which Path turns into hf:/...)."""
    return path.parts[:1] == ("hf:",)


def local_file(path: Path, *, engine: str | None = None) -> Path:
    """Path in the Hub's cache of a file hf://owner/name[@revision][/file], downloaded if needed.

    The default file is model.onnx, for torch model.safetensors. Raises ModelError when the address is wrong or the
    download fails, MissingDependencyError without huggingface_hub.
    """
    _, *parts = path.parts
    if len(parts) < 2:
        raise ModelError(f"hf://{'/'.join(parts)} is not the address of a model; expected hf://owner/name[/file]")
    if find_spec("huggingface_hub") is None:
        raise MissingDependencyError(
            "models of the Hugging Face Hub need the package huggingface_hub: pip install 'femae[hub]'"
        )
    name, _, revision = parts[1].partition("@")
    file = "/".join(parts[2:]) or ("model.safetensors" if engine == "torch" else "model.onnx")
    repository = f"{parts[0]}/{name}"
    downloaded = _download(repository, file, revision)
    if file.endswith(".xml"):
        _download(repository, f"{file.removesuffix('.xml')}.bin", revision)  # into the same folder
    return downloaded


def _download(repository: str, file: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:  # errors of the network, the Hub and the disk have no common base class
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"hf://{repository}/{file} cannot be downloaded: {reason[0]}") from error
