"""The interface of data set readers: they yield labelled pictures and count what they exclude."""

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

NUM_EXAMPLES: Final = 5  # names kept for each cause


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFile:
    """A picture in a separate file."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFrame:
    """One frame of a film."""

    path: Path
    frame: int  # from 1


@dataclass(frozen=True, kw_only=True, slots=True)
class AtlasCell:
    """A square cell of an atlas, a large picture of equal cells."""

    path: Path
    left: int  # pixels
    top: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InlinePicture:
    """Pixels stored in the label file itself (FER2013)."""

    pixels: bytes  # u8[height, width], gray
    height: int
    width: int


PictureRef = PictureFile | VideoFrame | AtlasCell | InlinePicture


@dataclass(frozen=True, kw_only=True, slots=True)
class RawSample:
    """One picture and its labels. Unknown labels are masked, never 0."""

    key: str  # unique within the source and stable between machines: relative path, with "#frame" or "#cell"
    picture: PictureRef
    group: str  # subject or video, which folds must not split
    split: str = ""  # train, val, test of the data set; empty: unknown
    class_name: str = ""  # name of the label, for counts and contact sheets; empty: no label
    targets: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(6, np.float32))  # f32[6], 0..1
    mask: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(6, np.bool_))  # bool[6], True: known
    action_units: dict[str, float] = field(default_factory=dict)  # "AU01" -> 0..1, only known units
    box_xyxy: tuple[float, float, float, float] | None = None  # the data set's face box, pixels of the picture
    is_crop: bool = False  # whether the picture is a face crop already


@dataclass(kw_only=True, slots=True)
class Reading:
    """Counts of a reader: the samples it yielded, and those it excluded by cause."""

    source: str
    num_samples: int = 0
    num_unlabelled: int = 0  # samples without a known emotion or action unit
    classes: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)  # emotion or action unit -> samples where it is known
    positive: Counter[str] = field(default_factory=Counter)  # of these, samples with a target of at least 0.5
    excluded: Counter[str] = field(default_factory=Counter)  # cause -> number of pictures
    examples: dict[str, list[str]] = field(default_factory=dict)  # cause -> the first few names
    _groups: set[int] = field(default_factory=set, repr=False)

    @property
    def num_groups(self) -> int:
        """Number of distinct subjects or films among the samples."""
        return len(self._groups)

    def clear(self) -> None:
        """Reset all counts before a new reading."""
        self.num_samples = self.num_unlabelled = 0
        for counts in (self.classes, self.known, self.positive, self.excluded, self.examples, self._groups):
            counts.clear()

    def keep(self, sample: RawSample) -> RawSample:
        """Count a sample and return it."""
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
        """Count excluded pictures by cause."""
        self.excluded[cause] += count
        names = self.examples.setdefault(cause, [])
        if len(names) < NUM_EXAMPLES:
            names.append(example)


class SourceReader(Protocol):
    """Reads one raw data set. Iterating fills `reading`, which is complete when the iteration ends."""

    reading: Reading

    def __iter__(self) -> Iterator[RawSample]: ...
