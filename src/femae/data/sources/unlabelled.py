"""Pictures and films without labels, in any folders: for pretraining, annotation or as a test of one's own.

Each film is a group; each picture too, or with `group="folder"` all pictures of one folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from femae.data.samples import PictureFile, RawSample, VideoFrame
from femae.data.sources.base import LeftOut, Source, check_every, require
from femae.data.sources.files import FILM_SUFFIXES, PICTURE_SUFFIXES, film_length, key_of, picture_file

__all__ = ["UnlabelledSource"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    path: Path
    frame: int | None  # None: a picture


class UnlabelledSource(Source[_Picture]):
    """Reads a folder at any depth, or one film or picture."""

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 1,
        group: Literal["file", "folder"] = "file",
        crops: bool = False,
        name: str = "unlabelled",
    ) -> None:
        """`every`: of films take frames 1, 1 + every, ... `crops`: pictures are face crops.

        Raises DataError when there is no picture and no film.
        """
        super().__init__(name=name, keep_unlabelled=True)
        self._root = folder if folder.is_dir() else folder.parent
        self._every, self._group, self._crops = check_every(every), group, crops
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        self._files = [path for path in files if not path.is_dir()]
        kinds = (*PICTURE_SUFFIXES, *FILM_SUFFIXES)
        require(
            any(path.suffix.lower() in kinds and path.exists() for path in self._files),
            what=f"{folder} holds no picture and no film",
            looked_for=[f"*{suffix}" for suffix in kinds],
        )

    def _items(self) -> Iterator[tuple[str, _Picture]]:
        for path in self._files:
            name = path.relative_to(self._root).as_posix()
            if path.suffix.lower() in PICTURE_SUFFIXES:
                yield name, _Picture(path=path, frame=None)
            elif path.suffix.lower() in FILM_SUFFIXES:
                yield from self._frames(path, name)
            else:
                self._leave_out("file of another kind", name)

    def _frames(self, path: Path, name: str) -> Iterator[tuple[str, _Picture]]:
        try:
            count = film_length(path)
        except LeftOut as problem:
            self._leave_out(str(problem), name)
            return
        chosen = range(1, count + 1, self._every)
        for number in chosen:
            yield f"{name}#{number}", _Picture(path=path, frame=number)
        if len(chosen) < count:
            self._leave_out(f"frame passed over (every {self._every})", name, count=count - len(chosen))

    def _sample(self, item: _Picture) -> RawSample:
        key = key_of(item.path.relative_to(self._root))
        if item.frame is not None:
            return RawSample(
                key=f"{key}#{item.frame:05d}",
                picture=VideoFrame(path=item.path, frame=item.frame),
                group=f"{self.reading.source}/{key}",
            )
        picture: PictureFile = picture_file(item.path)
        group = key if self._group == "file" else Path(key).parent.as_posix()
        return RawSample(key=key, picture=picture, group=f"{self.reading.source}/{group}", is_crop=self._crops)
