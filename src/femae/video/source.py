"""What every source of frames offers: films, folders of pictures, cameras."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from femae.types import Frame, SourceInfo

__all__ = ["FrameSource"]


class FrameSource(Protocol):
    """Gives its frames in order of presentation, in constant memory, each of them once, `Frame.index` from 1.

    `info` is known before the first frame. `problems` holds whole sentences and is complete when the frames are at
    their end: "12 of 72 frames could not be decoded, from frame 31 (1.000 s) on". Iterating again starts anew.
    """

    info: SourceInfo
    problems: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
