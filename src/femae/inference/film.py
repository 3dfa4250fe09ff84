"""The annotated film of an input, or annotated copies of its pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from femae.errors import OutputError
from femae.labels import Compound
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem
from femae.video.overlay import draw
from femae.video.writer import VideoWriter

__all__ = ["PictureSink", "annotated_sink"]


class PictureSink(Protocol):
    """Takes results one by one and leaves pictures or a film at `path`."""

    path: Path

    def write(self, result: FrameResult) -> None: ...


class _Film:
    """One H.264 film with the source's timing and sound; an unreadable frame is black."""

    def __init__(self, writer: VideoWriter, path: Path, info: SourceInfo, compounds: tuple[Compound, ...]) -> None:
        self.path = path
        self._writer, self._info, self._compounds = writer, info, compounds

    def write(self, result: FrameResult) -> None:
        image = result.frame.image
        if image is None:
            image = np.zeros((self._info.height or 2, self._info.width or 2, 3), np.uint8)
        self._writer.write(result.frame, draw(image, result, self._compounds))


class _Folder:
    """Annotated copies of pictures, under their own names as PNG."""

    def __init__(self, path: Path, compounds: tuple[Compound, ...]) -> None:
        self.path, self._compounds = path, compounds
        self._taken: set[str] = set()

    def write(self, result: FrameResult) -> None:
        if result.frame.image is None:
            return
        name = Path(result.frame.source).stem
        number = 1
        while (stem := name if number == 1 else f"{name}-{number}").lower() in self._taken:
            number += 1
        self._taken.add(stem.lower())
        part = self.path / f"{stem}.png.part"
        try:
            Image.fromarray(draw(result.frame.image, result, self._compounds)).save(part, format="PNG")
            part.replace(self.path / f"{stem}.png")
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {self.path / stem}.png: {error.strerror or error}") from error


@contextmanager
def annotated_sink(
    folder: Path, *, stem: str, item: InputItem, info: SourceInfo, compounds: tuple[Compound, ...]
) -> Iterator[PictureSink]:
    """`<stem>.annotated.mp4` for a film, the folder `<stem>.annotated` for pictures."""
    film = item.kind == "video"
    path = folder / (f"{stem}.annotated.mp4" if film else f"{stem}.annotated")
    needed = folder if film else path
    try:
        needed.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {needed}: {error.strerror}; give another --out") from error
    if not film:
        yield _Folder(path, compounds)
        return
    with VideoWriter(path, info=info, source_path=item.paths[0]) as writer:
        yield _Film(writer, path, info, compounds)
