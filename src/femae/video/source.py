"""The protocol of all sources of frames (films, pictures, cameras), and counts of a film's lost and damaged frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from femae.types import Frame, SourceInfo

__all__ = ["Count", "FrameSource", "Tally"]


class FrameSource(Protocol):
    """Yields each frame once, in order of presentation and in constant memory, with `Frame.index` from 1.

    `info` is known before the first frame. `problems` holds whole sentences and is complete at the end of the
    iteration: "12 of 72 frames could not be decoded, from frame 31 (1.000 s) on". Iterating again starts over.
    """

    info: SourceInfo
    problems: list[str]

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(slots=True)
class Count:
    """The number of frames of one kind, and index and time of the first of them."""

    number: int = 0
    first_index: int = 0
    first_s: float = 0.0

    def add(self, index: int, time_s: float) -> None:
        if not self.number:
            self.first_index, self.first_s = index, time_s
        self.number += 1

    def sentence(self, num_frames: int, what: str) -> str:
        first = f"frame {self.first_index} ({self.first_s:.3f} s)"
        where = f": {first}" if self.number == 1 else f", from {first} on"
        return f"{self.number} of {num_frames} frames {what}{where}"


@dataclass(slots=True)
class Tally:
    """Counts all, lost and damaged frames of a film or of a part of it."""

    num_frames: int = 0
    lost: Count = field(default_factory=Count)
    damaged: Count = field(default_factory=Count)
    breaks_off_s: float | None = None  # time of the last frame of a film that ends too early

    def add(self, time_s: float, *, lost: bool, damaged: bool) -> int:
        """Count a frame; returns its number, from 1."""
        self.num_frames += 1
        if lost:
            self.lost.add(self.num_frames, time_s)
        elif damaged:
            self.damaged.add(self.num_frames, time_s)
        return self.num_frames

    @classmethod
    def joined(cls, parts: "Iterable[Tally]") -> Self:
        """The tally of a whole film from those of its parts, in order."""
        whole = cls()
        for part in parts:
            for own, other in ((whole.lost, part.lost), (whole.damaged, part.damaged)):
                if other.number and not own.number:
                    own.first_index, own.first_s = whole.num_frames + other.first_index, other.first_s
                own.number += other.number
            whole.num_frames += part.num_frames
            whole.breaks_off_s = part.breaks_off_s
        return whole

    def sentences(self) -> list[str]:
        """Sentences about lost and damaged frames for the user; empty if there are none."""
        found = []
        if self.lost.number:
            found.append(self.lost.sentence(self.num_frames, "could not be decoded"))
        if self.damaged.number:
            found.append(self.damaged.sentence(self.num_frames, "are damaged and may look wrong"))
        if self.breaks_off_s is not None:
            found.append(
                f"the film ends early, after {self.breaks_off_s:.3f} s: the rest of the file is missing or damaged"
            )
        return found
