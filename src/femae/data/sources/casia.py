"""CASIA-WebFace (Yi et al. 2014): half a million pictures of 10,575 people, `<id>/*.jpg`; paper, section 3.2.

No labels: for pretraining. The person is the group.
"""

from collections.abc import Iterator
from pathlib import Path

from femae.data.samples import RawSample
from femae.data.sources.base import Source, require
from femae.data.sources.files import PICTURE_SUFFIXES, key_of, listed, picture_file

__all__ = ["CasiaWebFaceSource"]


class CasiaWebFaceSource(Source[Path]):
    """Reads the folder that holds one folder per person, or the folder around it."""

    def __init__(self, folder: Path, *, name: str = "casia-webface") -> None:
        """Raises DataError when there are no folders of people."""
        super().__init__(name=name, keep_unlabelled=True)
        inner = [child for child in listed(folder) if child.is_dir()]
        only = inner[0] if len(inner) == 1 else None
        if only is not None and any(child.is_dir() for child in listed(only)):
            folder = only
        self._folder = folder
        self._people = [child for child in listed(folder) if child.is_dir()]
        require(self._people, what=f"{folder} is not CASIA-WebFace", looked_for=["a folder per person, <id>/*.jpg"])

    def _items(self) -> Iterator[tuple[str, Path]]:
        for person in self._people:
            for path in listed(person):
                name = f"{person.name}/{path.name}"
                if path.suffix.lower() in PICTURE_SUFFIXES:
                    yield name, path
                else:
                    self._leave_out("file of another kind", name)

    def _sample(self, item: Path) -> RawSample:
        key = key_of(item.relative_to(self._folder))
        return RawSample(key=key, picture=picture_file(item), group=f"casia-webface/{key.split('/')[0]}")
