"""Model files that come with the package, by name: `femae:model`, `femae:model.int8`, `femae:encoder-mae` ..."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from femae.errors import ModelError

__all__ = ["shipped", "shipped_name"]

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
