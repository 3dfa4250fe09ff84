"""A work unit (one input with the name of its outputs), its outcome, and its record in the journal."""

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
from femae.video.storage import version_of

__all__ = ["Outcome", "UnitRecord", "WorkUnit", "WorkUnits", "identity_of", "num_bytes", "sizes_of"]

_REMOTE_BYTES: Final = 10_000_000  # assumed for a remote file, whose size is not requested


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkUnit:
    """One input and the stem of its outputs, or one part of a long film; passed between processes."""

    number: int  # position among the inputs, from 0
    item: InputItem
    stem: str
    num_parts: int = 0  # of a long film that workers share; 0: not known yet, or not divided
    part: int | None = None  # process only this part; None with num_parts: join the parts


class WorkUnits:
    """The inputs of a run in the order given; kept on disk, so that there may be any number."""

    def __init__(self, inputs: Sequence[str], *, stem: Callable[[str], str]) -> None:
        """Find the inputs; `stem` makes unique names for their outputs. Raises OutputError if the disk is full."""
        self._table = DiskTable()  # number -> stem and the pickled item, which is slow to load
        for number, item in discover_each(inputs):
            self._table.put(number, pickle.dumps((item.stem, pickle.dumps(item))))
        self._numbers: Sequence[int] = range(len(self._table))
        for number in self._numbers:  # in the order given, not that of discovery
            own, data = self._entry(number)
            self._table.put(number, pickle.dumps((stem(own), data)))

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[WorkUnit]:
        for number in self._numbers:
            stem, data = self._entry(number)
            yield WorkUnit(number=number, item=pickle.loads(data), stem=stem)

    def only(self, numbers: Sequence[int]) -> "WorkUnits":
        """The units with these numbers, in this order."""
        selection = copy(self)
        selection._numbers = numbers
        return selection

    def _entry(self, number: int) -> tuple[str, bytes]:
        entry = self._table.get(number)
        assert entry is not None, number
        stem, data = pickle.loads(entry)
        return stem, data


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitRecord:
    """The record of one finished input: a line of the journal, an entry of run.json."""

    input: str  # as given on the command line
    kind: str  # video or pictures
    stem: str
    identity: str  # see identity_of
    outputs: dict[str, int]  # path in the output folder -> bytes; for a folder the number of files
    num_rows: int  # of the main table
    num_frames: int
    num_no_face: int
    num_unreadable: int
    num_faces: int  # over all frames
    seconds: float
    finished: str  # ISO 8601, UTC
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # its summary on screen
    totals: list[dict[str, Any]] = field(default_factory=list)  # rows for the summary table (Totals.rows)

    def as_json(self) -> dict[str, Any]:
        """The record as JSON-compatible values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record from values of as_json. Raises TypeError if a value is missing or unknown."""
        return cls(**values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a unit ended: its record or an error message; a part of a film that succeeded has neither."""

    unit: WorkUnit
    record: UnitRecord | None = None
    error: str = ""
    trace: str = ""  # traceback of the error
    num_parts: int = 0  # not 0: the film is long; process that many parts and join them


def identity_of(item: InputItem) -> str:
    """Identifies the files of an input and their state: a digest of paths, sizes and modification times (or ETags).

    Raises OSError if a file does not exist.
    """
    facts = [version_of(path) for path in item.paths]
    return hashlib.sha256(json.dumps([item.kind, facts]).encode()).hexdigest()[:32]


def num_bytes(unit: WorkUnit) -> int:
    """Total size of its files, with a fixed estimate for remote ones; 0 if a file cannot be read."""
    try:
        return sum(_REMOTE_BYTES if is_remote(path) else path.stat().st_size for path in unit.item.paths)
    except OSError:
        return 0


def sizes_of(paths: Iterable[Path], *, folder: Path, folders: bool = True) -> dict[str, int]:
    """Path of each output in `folder` -> bytes; for a folder its number of files, or without `folders` each file.

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
