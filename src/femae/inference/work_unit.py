"""A unit of work (one input with the name of its outputs), and the record that remains of it."""

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from femae.config.storage import is_remote
from femae.disk_table import DiskTable
from femae.video.discover import InputItem, discover_each
from femae.video.storage import state_of

__all__ = ["Outcome", "UnitRecord", "WorkUnit", "WorkUnits", "identity_of", "num_bytes", "sizes_of"]

_REMOTE_BYTES: Final = 10_000_000  # that a file of a store counts for: their sizes are not asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkUnit:
    """One input and the stem of its outputs, or one part of a long film; travels between processes."""

    number: int  # its place among the inputs, from 0
    item: InputItem
    stem: str
    num_parts: int = 0  # of a long film that workers share; 0: not known yet, or not divided
    part: int | None = None  # this part alone; None with num_parts: join the parts


class WorkUnits:
    """The inputs of a run in the order in which they were named, however many: they wait in a file."""

    def __init__(self, inputs: Sequence[str], *, stem: Callable[[str], str]) -> None:
        """Find the inputs; `stem` makes names for their outputs, none twice. Raises OutputError: a full disk."""
        self._table = DiskTable()  # number -> stem and the item, which is slow to read
        for number, item in discover_each(inputs):
            self._table.put(number, pickle.dumps((item.stem, pickle.dumps(item))))
        self._numbers: Sequence[int] = range(len(self._table))
        for number in self._numbers:  # in their order, which is not that in which they were found
            own, data = self._entry(number)
            self._table.put(number, pickle.dumps((stem(own), data)))

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[WorkUnit]:
        for number in self._numbers:
            stem, data = self._entry(number)
            yield WorkUnit(number=number, item=pickle.loads(data), stem=stem)

    def only(self, numbers: Sequence[int]) -> "WorkUnits":
        """Those of these numbers, in this order."""
        some = copy(self)
        some._numbers = numbers
        return some

    def _entry(self, number: int) -> tuple[str, bytes]:
        entry = self._table.get(number)
        assert entry is not None, number
        stem, data = pickle.loads(entry)
        return stem, data


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitRecord:
    """The record of one input: a line of the journal, an entry of run.json."""

    input: str  # as it was named
    kind: str  # video or pictures
    stem: str
    identity: str  # of its files: see identity_of
    outputs: dict[str, int]  # path in the output folder -> bytes; of a folder: files in it
    num_rows: int  # of the main table
    num_frames: int
    num_no_face: int
    num_unreadable: int
    num_faces: int  # over all frames
    seconds: float
    finished: str  # ISO 8601, UTC
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # what was said of it on screen
    totals: list[dict[str, Any]] = field(default_factory=list)  # its rows of the summary, where one is asked for

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record that as_json gave. Raises TypeError where a value is missing or unknown."""
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a unit ended: its record, or a sentence on what went wrong; of a part of a film: neither, if all is well."""

    unit: WorkUnit
    record: UnitRecord | None = None
    error: str = ""
    trace: str = ""  # traceback of the error
    num_parts: int = 0  # the film is long: do so many parts, and then join them


def identity_of(item: InputItem) -> str:
    """Which files an input is, and in which state: a digest of paths, sizes and times of last change (or ETags).

    Raises OSError when a file is gone.
    """
    facts = [state_of(path) for path in item.paths]
    return hashlib.sha256(json.dumps([item.kind, facts]).encode()).hexdigest()[:32]


def num_bytes(unit: WorkUnit) -> int:
    """Of its files, as far as they are known without asking a store; 0 where they cannot be asked."""
    try:
        return sum(_REMOTE_BYTES if is_remote(path) else path.stat().st_size for path in unit.item.paths)
    except OSError:
        return 0


def sizes_of(paths: Iterable[Path], *, folder: Path, folders: bool = True) -> dict[str, int]:
    """Each output by its path in `folder`: bytes; of a folder how many files are in it, or without `folders` each file.

    Raises OSError.
    """
    found: dict[str, int] = {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if not path.is_dir():
            found[name] = path.stat().st_size
        elif folders:
            found[name] = sum(1 for _ in path.iterdir())
        else:
            found |= sizes_of(sorted(path.iterdir()), folder=folder)
    return found
