"""What a reader of a data set yields: one labelled picture after the other, and counts of what it left out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from femae.labels import EMOTIONS

__all__ = [
    "AtlasCell",
    "InlinePicture",
    "PictureFile",
    "PictureRef",
    "RawSample",
    "Reading",
    "SourceReader",
    "VideoFrame",
]

NUM_EXAMPLES: Final = 5  # names kept of each cause


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFile:
    """A picture in a file of its own."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFrame:
    """One frame of a film."""

    path: Path
    frame: int  # from 1


@dataclass(frozen=True, kw_only=True, slots=True)
class AtlasCell:
    """A cell of a large picture of equal square cells."""

    path: Path
    left: int  # pixels
    top: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InlinePicture:
    """Pixels that stand in the label file itself (FER2013)."""

    pixels: bytes  # u8[height, width], gray
    height: int
    width: int


PictureRef = PictureFile | VideoFrame | AtlasCell | InlinePicture


@dataclass(frozen=True, kw_only=True, slots=True)
class RawSample:
    """One picture and all that its data set says of it. Unknown is masked, never 0."""

    key: str  # unique within the source and stable between machines: relative path, with "#frame" or "#cell"
    picture: PictureRef
    group: str  # subject or video: what a fold must not split
    split: str = ""  # train, val, test as the data set says; empty: it does not say
    class_name: str = ""  # the label in words, for counts and contact sheets; empty: no label
    targets: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(6, np.float32))  # f32[6], 0..1
    mask: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(6, np.bool_))  # bool[6], True: known
    action_units: dict[str, float] = field(default_factory=dict)  # "AU01" -> 0..1, only the known ones
    box_xyxy: tuple[float, float, float, float] | None = None  # the data set's own face box, pixels of the picture
    is_crop: bool = False  # the picture is a face crop already


@dataclass(kw_only=True, slots=True)
class Reading:
    """The account a reader keeps while it runs: what it gave and what it left out, by cause."""

    source: str
    num_samples: int = 0
    num_unlabelled: int = 0  # samples of which neither an emotion nor an action unit is known
    classes: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)  # emotion or action unit -> samples where it is known
    positive: Counter[str] = field(default_factory=Counter)  # of these, the target is at least one half
    excluded: Counter[str] = field(default_factory=Counter)  # cause in words -> number of pictures
    examples: dict[str, list[str]] = field(default_factory=dict)  # cause -> the first few names
    _groups: set[int] = field(default_factory=set, repr=False)

    @property
    def num_groups(self) -> int:
        """Different subjects or films among the samples."""
        return len(self._groups)

    def clear(self) -> None:
        """Forget everything but the name: a new reading begins."""
        self.num_samples = self.num_unlabelled = 0
        for tally in (self.classes, self.known, self.positive, self.excluded, self.examples, self._groups):
            tally.clear()

    def keep(self, sample: RawSample) -> RawSample:
        """Count a sample that is given."""
        self.num_samples += 1
        self._groups.add(hash(sample.group))
        self.classes[sample.class_name] += 1
        self.num_unlabelled += not (sample.mask.any() or sample.action_units)
        values = dict(sample.action_units)
        values.update((EMOTIONS[i], float(sample.targets[i])) for i in np.flatnonzero(sample.mask))
        self.known.update(values.keys())
        self.positive.update(name for name, value in values.items() if value >= 0.5)
        return sample

    def leave_out(self, cause: str, *, example: str, count: int = 1) -> None:
        """Count what is not given, and why."""
        self.excluded[cause] += count
        names = self.examples.setdefault(cause, [])
        if len(names) < NUM_EXAMPLES:
            names.append(example)


class SourceReader(Protocol):
    """Reads one raw data set. Iterating fills `reading`, which is complete when the iteration has ended."""

    reading: Reading

    def __iter__(self) -> Iterator[RawSample]: ...
