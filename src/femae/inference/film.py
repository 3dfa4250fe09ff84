"""The annotated film of an input, or annotated copies of its pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.errors import OutputError
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem
from femae.video.writer import VideoWriter

__all__ = ["Draw", "PictureSink", "annotated_sink"]

# (frame u8[H, W, 3] RGB, what is known of it) -> the frame with it drawn in
Draw = Callable[[npt.NDArray[np.uint8], FrameResult], npt.NDArray[np.uint8]]


class PictureSink(Protocol):
    """Takes results one by one and leaves pictures or a film at `path`."""

    path: Path

    def write(self, result: FrameResult) -> None: ...


class _Film:
    """One H.264 film with the source's timing and sound; an unreadable frame is black."""

    def __init__(self, writer: VideoWriter, path: Path, info: SourceInfo, draw: Draw) -> None:
        self.path = path
        self._writer, self._info, self._draw = writer, info, draw

    def write(self, result: FrameResult) -> None:
        image = result.frame.image
        if image is None:
            image = np.zeros((self._info.height or 2, self._info.width or 2, 3), np.uint8)
        self._writer.write(result.frame, self._draw(image, result))


class _Folder:
    """Annotated copies of pictures, under their own names as PNG."""

    def __init__(self, path: Path, draw: Draw) -> None:
        self.path, self._draw = path, draw
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
            Image.fromarray(self._draw(result.frame.image, result)).save(part, format="PNG")
            part.replace(self.path / f"{stem}.png")
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {self.path / stem}.png: {error.strerror or error}") from error


@contextmanager
def annotated_sink(folder: Path, *, stem: str, item: InputItem, info: SourceInfo, draw: Draw) -> Iterator[PictureSink]:
    """`<stem>.annotated.mp4` for a film, the folder `<stem>.annotated` for pictures."""
    film = item.kind == "video"
    path = folder / (f"{stem}.annotated.mp4" if film else f"{stem}.annotated")
    needed = folder if film else path
    try:
        needed.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {needed}: {error.strerror}; give another --out") from error
    if not film:
        yield _Folder(path, draw)
        return
    with VideoWriter(path, info=info, source_path=item.paths[0]) as writer:
        yield _Film(writer, path, info, draw)
