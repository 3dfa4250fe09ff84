"""`femae data prepare`: pictures and films of any data set -> face crops with labels in Parquet shards.

Work is divided into units (data/prepare/plan.py), one shard each, committed by a rename. A run that was killed can be
resumed: finished units are recognised by their fingerprint and not made again, unfinished ones leave only a hidden
partial file that the next run removes. When a data set is complete its record `sources/NAME.json` is written, and from
all records the manifest. Several data sets may share one folder, in one run or in several, if their settings agree. A
run that finds everything done changes no byte.
"""

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from femae.cores import num_cores
from femae.data.prepare.plan import ExclusionCounts, PrepareSettings, Unit, plan_units, reading_exclusions
from femae.data.prepare.pool import Workers, run_units
from femae.data.prepare.unit import UnitResult
from femae.data.samples import SourceReader
from femae.data.store.manifest import ShardFile, file_sha256, write_bytes, write_manifest
from femae.data.store.shards import read_shard_note
from femae.errors import DataError, OutputError

__all__ = ["PrepareProgress", "PrepareResult", "PrepareSettings", "Workers", "prepare"]

_LOCAL: Final = Workers()
_PACKAGES: Final = ("av", "numpy", "onnxruntime", "pillow", "pyarrow")
_SHARD_NAME: Final = re.compile(r"(?P<source>.+)-(?P<number>\d{5,})\.parquet")


class PrepareProgress:
    """Counts samples and faces, and shows a progress bar on a terminal. Context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self.num_samples = 0  # processed by this run
        self.num_faces = 0  # found by this run
        self._started = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def reading(self, source: str, count: int) -> None:
        """Show the number of samples of a data set that were read so far."""
        if self._task is None:
            self._task = self._progress.add_task("", total=0, rate="")
        self._progress.update(self._task, description=f"reading {source}", completed=count, total=count)

    def start(self, num_samples: int) -> None:
        """Begin to show the processing of `num_samples` samples."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._started = time.perf_counter()
        self._task = self._progress.add_task("faces", total=num_samples, rate="")

    def update(self, num_samples: int, num_faces: int) -> None:
        self.num_samples, self.num_faces = num_samples, num_faces
        if self._task is not None:
            rate = num_faces / max(time.perf_counter() - self._started, 1e-9)
            self._progress.update(self._task, completed=num_samples, rate=f"{rate:,.0f} faces/s")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareResult:
    """The result of a run."""

    folder: Path
    info: dict[str, Any]  # manifest.json
    sources: tuple[str, ...]  # of this run
    num_units: int
    num_units_made: int  # by this run; the others existed already
    num_pictures: int  # processed by this run
    num_faces: int  # found by this run
    seconds: float  # without reading the labels
    num_workers: int

    @property
    def nothing_to_do(self) -> bool:
        """Whether all shards existed already."""
        return self.num_units_made == 0


def prepare(
    readers: Sequence[SourceReader],
    *,
    out: Path,
    settings: PrepareSettings,
    workers: Workers = _LOCAL,
    quiet: bool = False,
) -> PrepareResult:
    """Make or complete the shards of data sets in `out`; see the module's docstring.

    Raises DataError when `out` has shards of other settings or two data sets have one name, OutputError when it
    cannot be written or another run is using it.
    """
    names = [reader.reading.source for reader in readers]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two data sets are called {', '.join(sorted(repeated))}: prepare them in two folders")
    if workers.detector_path is not None:
        settings = replace(settings, detector=_detector_digest(workers.detector_path))
    with _lock(out), PrepareProgress(quiet=quiet) as progress:
        _check_settings(out, settings)
        units, records = _plan(readers, out, settings, progress)
        todo = [unit for unit in units if unit.payload is not None]
        started = time.perf_counter()
        if not todo and _is_complete(out, records):
            info = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        else:
            run = partial(run_units, workers=workers)
            try:
                info = _complete(out, todo, records, settings, run, progress)
            except OSError as error:
                raise OutputError(f"{out} cannot be written: {error}; what is finished is kept") from error
    return PrepareResult(
        folder=out,
        info=info,
        sources=tuple(names),
        num_units=len(units),
        num_units_made=len(todo),
        num_pictures=progress.num_samples,
        num_faces=progress.num_faces,
        seconds=time.perf_counter() - started,
        num_workers=min(workers.num or num_cores(), max(len(todo), 1)),
    )


def _plan(
    readers: Sequence[SourceReader], out: Path, settings: PrepareSettings, progress: PrepareProgress
) -> tuple[list[Unit], dict[str, dict[str, Any]]]:
    """The units of all data sets, and the record of each."""
    units: list[Unit] = []
    records: dict[str, dict[str, Any]] = {}
    for reader in readers:
        name, exclusions = reader.reading.source, ExclusionCounts()
        planned = plan_units(
            reader,
            source=name,
            out=out,
            settings=settings,
            exclusions=exclusions,
            on_sample=partial(progress.reading, name),
        )
        units += planned
        records[name] = _source_record(reader, planned, exclusions)
    return units, records


def _complete(
    out: Path,
    todo: list[Unit],
    records: dict[str, dict[str, Any]],
    settings: PrepareSettings,
    run: Callable[..., Iterator[UnitResult]],
    progress: PrepareProgress,
) -> dict[str, Any]:
    """Make the missing shards by `run` (run_units), write the records and the manifest; returns manifest.json."""
    (out / "manifest.json").unlink(missing_ok=True)
    for name in records:
        (out / "sources" / f"{name}.json").unlink(missing_ok=True)
    for leftover in (out / "shards").glob(".*.partial"):
        leftover.unlink()
    progress.start(sum(unit.num_samples for unit in todo))
    digests: dict[str, str] = {}
    if todo:
        for result in run(todo, settings=settings, on_progress=progress.update):
            digests[f"{result.source}-{result.number:05d}.parquet"] = result.sha256
    _remove_stale(out, records)
    (out / "sources").mkdir(exist_ok=True)
    for name, record in records.items():
        write_bytes(out / "sources" / f"{name}.json", _json_bytes(record))
    return _write_manifest(out, settings, digests)


def _source_record(reader: SourceReader, units: Sequence[Unit], exclusions: ExclusionCounts) -> dict[str, Any]:
    """The record of a data set: its number of units and samples, and what its reader left out."""
    return {
        "num_units": len(units),
        "num_read": sum(unit.num_samples for unit in units),
        "left_out_by_reader": reading_exclusions(reader.reading).as_json() | exclusions.as_json(),
    }


def _write_manifest(out: Path, settings: PrepareSettings, digests: dict[str, str]) -> dict[str, Any]:
    """Write the manifest of all complete data sets; `digests`: known sha256 by shard. Returns manifest.json."""
    shards: list[ShardFile] = []
    per_source: dict[str, dict[str, Any]] = {}
    for record_path in sorted((out / "sources").glob("*.json")):
        record = json.loads(record_path.read_text(encoding="utf-8"))
        left_out = ExclusionCounts()
        for number in range(record["num_units"]):
            path = out / "shards" / f"{record_path.stem}-{number:05d}.parquet"
            note = read_shard_note(path)
            left_out.merge(note["left_out"])
            digest = digests.get(path.name) or file_sha256(path)
            shards.append(
                ShardFile(
                    file=path.name,
                    source=record_path.stem,
                    num_rows=int(note["num_rows"]),
                    num_bytes=path.stat().st_size,
                    sha256=digest,
                )
            )
        per_source[record_path.stem] = {
            "num_read": record["num_read"],
            "num_left_out": sum(left_out.left_out.values()),
            "left_out": left_out.as_json(),
            "left_out_by_reader": record["left_out_by_reader"],
        }
    versions = {name: importlib.metadata.version(name) for name in ("femae", *_PACKAGES) if _is_installed(name)}
    return write_manifest(out, shards=shards, settings=asdict(settings), versions=versions, per_source=per_source)


def _is_complete(out: Path, records: dict[str, dict[str, Any]]) -> bool:
    """Whether `out` has these records, a manifest of all records, and no stale shards."""
    for name, record in records.items():
        path = out / "sources" / f"{name}.json"
        if (
            not path.is_file()
            or path.read_bytes() != _json_bytes(record)
            or _stale_shards(out, name, record["num_units"])
        ):
            return False
    try:
        info = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    recorded = {path.stem for path in (out / "sources").glob("*.json")}
    return (out / "manifest.parquet").is_file() and set(info.get("sources", ())) == recorded


def _stale_shards(out: Path, source: str, num_units: int) -> list[Path]:
    """Shards left over from an earlier run on a data set that had more units."""
    found = []
    for path in (out / "shards").glob("*.parquet"):
        match = _SHARD_NAME.fullmatch(path.name)
        if match and match["source"] == source and int(match["number"]) >= num_units:
            found.append(path)
    return found


def _remove_stale(out: Path, records: dict[str, dict[str, Any]]) -> None:
    for name, record in records.items():
        for path in _stale_shards(out, name, record["num_units"]):
            path.unlink()


def _check_settings(out: Path, settings: PrepareSettings) -> None:
    """Raise DataError if `out` has shards of other settings; write the settings into a new folder."""
    path = out / "settings.json"
    values = asdict(settings)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in {**values, **found} if found.get(name) != values.get(name)]
        if differing:
            changes = ", ".join(f"{name} {found.get(name)} (now {values.get(name)})" for name in differing)
            raise DataError(f"{out} holds shards made with other settings: {changes}; choose another folder")
        return
    if any(not entry.name.endswith(".partial") for entry in out.iterdir()):
        raise DataError(f"{out} is not empty and holds no shards: choose a new folder or delete what is in it")
    write_bytes(path, _json_bytes(values))


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the system releases the lock when the process ends in any way."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error.strerror}; choose another folder") from error
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another run is using {out}: wait until it is done, or choose another folder") from error
        yield
    finally:
        os.close(handle)


def _detector_digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"there is no file {path}: give the path of a face detector in ONNX format")
    return file_sha256(path)


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8", "backslashreplace")
