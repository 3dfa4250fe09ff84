"""Models of the Hugging Face Hub by address: hf://owner/name, hf://owner/name@revision, hf://owner/name/file.onnx.

Files are kept in the Hub's own cache; HF_HUB_OFFLINE=1 reads from there alone.
"""

from importlib.util import find_spec
from pathlib import Path

from femae.errors import MissingDependencyError, ModelError

__all__ = ["is_hub_address", "local_file"]


def is_hub_address(path: Path) -> bool:
    """Whether a path reads hf://... (two slashes become one in a Path)."""
    return path.parts[:1] == ("hf:",)


def local_file(path: Path, *, engine: str | None = None) -> Path:
    """The file in the Hub's cache, fetched if need be. Without a file name: model.onnx, for torch model.safetensors.

    Raises ModelError when the address is wrong or the file cannot be had, MissingDependencyError without the package.
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
    fetched = _fetch(repository, file, revision)
    if file.endswith(".xml"):
        _fetch(repository, f"{file.removesuffix('.xml')}.bin", revision)  # lands beside it
    return fetched


def _fetch(repository: str, file: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:  # of the network, the Hub and the disk, without a common base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"hf://{repository}/{file} cannot be had: {reason[0]}") from error
