"""`femae data pseudo-au`: runs a face landmarker over a folder of shards and writes a table of pseudo-labels.

A shard is the unit of work. Its measurements are kept beside the table, in `OUT.parts`, until the table is complete; a
run that was stopped resumes with the shards that have none. The table has no time stamps: equal shards, networks and
settings give equal rows, for any number of workers.
"""

import hashlib
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from femae import __version__
from femae.data.pseudo_aus.arkit_aus import AU_RULES, action_units_from_blendshapes
from femae.data.pseudo_aus.blendshapes import BLENDSHAPES, FIRST_SIDE, SECOND_SIDE, FaceLandmarker
from femae.data.pseudo_aus.table import PseudoAus, write_pseudo_aus
from femae.data.store.manifest import Manifest, ShardFile, distinct, read_manifest
from femae.data.store.shard_reader import ShardReader, decode_picture
from femae.errors import DataError, OutputError
from femae.files import replacing

__all__ = ["LandmarkerModel", "PseudoAuOptions", "PseudoAuResult", "make_pseudo_aus"]

_METHOD: Final = f"1 {FIRST_SIDE} {SECOND_SIDE}"  # version of the algorithm, part of the cache key

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class LandmarkerModel:
    """The networks that measure a face."""

    open: Callable[[], FaceLandmarker]  # called once per worker thread
    sha256: str  # of the networks


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoAuOptions:
    """Which pictures the table covers, and when their units are known."""

    sources: Sequence[str] = ()  # only these data sets; empty: all
    min_presence: float = 0.5  # 0..1; below it all units of a picture are unknown


_DEFAULTS: Final = PseudoAuOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoAuResult:
    """The result of a run."""

    path: Path
    num_pictures: dict[str, int]  # per data set
    num_seen: dict[str, int]  # of these, pictures with sufficient presence of a face
    units: tuple[str, ...]  # units that are not always masked
    num_measured: int  # by this run; the others were measured by an earlier one
    seconds: float


def make_pseudo_aus(
    shards: Path,
    *,
    out: Path,
    landmarker: LandmarkerModel,
    options: PseudoAuOptions = _DEFAULTS,
    num_workers: int = 1,
    quiet: bool = False,
) -> PseudoAuResult:
    """Measure every picture of a folder of shards and write the table `out` (data/pseudo_aus/table.py).

    `num_workers`: threads. Raises DataError for shards that cannot be read and unknown sources, OutputError when
    files cannot be written.
    """
    started = time.perf_counter()
    manifest = _select_sources(read_manifest(shards), options.sources)
    measurements = _Measurements(manifest, folder=out.with_name(f"{out.name}.parts"), model=landmarker)
    measured = measurements.run(num_workers=num_workers, quiet=quiet)  # f32[N, 1 + 52]
    presence, blendshapes = measured[:, 0], measured[:, 1:]
    au_targets, au_mask = action_units_from_blendshapes(blendshapes)
    seen = presence >= options.min_presence
    au_mask &= seen[:, None]
    num_pictures, num_seen = _counts(manifest), _counts(manifest.select(seen))
    write_pseudo_aus(
        out,
        manifest=manifest,
        measured=PseudoAus(presence=presence, blendshapes=blendshapes, au_targets=au_targets, au_mask=au_mask),
        note={
            **_settings(landmarker.sha256, options.min_presence),
            "num_pictures": num_pictures,
            "num_seen": num_seen,
        },
    )
    measurements.clear()
    return PseudoAuResult(
        path=out,
        num_pictures=num_pictures,
        num_seen={name: num_seen.get(name, 0) for name in num_pictures},
        units=tuple(rule.unit for rule in AU_RULES if not rule.masked),
        num_measured=measurements.num_measured,
        seconds=time.perf_counter() - started,
    )


def _counts(manifest: Manifest) -> dict[str, int]:
    """Number of rows per data set."""
    return dict(Counter(manifest.strings("source")))


def _settings(landmarker_sha256: str, min_presence: float) -> dict[str, Any]:
    """Everything that determines the values, apart from the pictures."""
    return {
        "femae": __version__,
        "landmarker_sha256": landmarker_sha256,
        "min_presence": min_presence,
        "first_side": FIRST_SIDE,
        "second_side": SECOND_SIDE,
        "blendshapes": list(BLENDSHAPES),
        "action_units": {rule.unit: rule.words() for rule in AU_RULES},
    }


def _select_sources(manifest: Manifest, sources: Sequence[str]) -> Manifest:
    """The rows of some data sets, or all if `sources` is empty. Raises DataError for an unknown one."""
    known = distinct(manifest.table, "source")
    unknown = [name for name in sources if name not in known]
    if unknown:
        raise DataError(f"{manifest.folder} has no data set {', '.join(unknown)}; it has {', '.join(known)}")
    return manifest.select(np.isin(manifest.strings("source"), list(sources))) if sources else manifest


class _Measurements:
    """Measures the rows of a manifest shard by shard; results are stored in a folder until all are complete."""

    def __init__(self, manifest: Manifest, *, folder: Path, model: LandmarkerModel) -> None:
        self.num_measured = 0
        self._manifest = manifest
        self._folder = folder
        self._model = model
        self._local = threading.local()  # with the landmarker of each worker thread
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, *, num_workers: int, quiet: bool) -> Floats:
        """f32[N, 1 + 52]: presence and coefficients of every row."""
        files = np.array(self._manifest.strings("shard"))
        shards = [shard for shard in self._manifest.shards if (files == shard.file).any()]
        measured = np.full((len(self._manifest), 1 + len(BLENDSHAPES)), np.nan, np.float32)
        console = Console(stderr=True)
        columns = ("faces", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with (
            Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar,
            ThreadPoolExecutor(num_workers, thread_name_prefix="femae-landmarks") as pool,
        ):
            task = bar.add_task("faces", total=len(self._manifest))
            jobs = [(shard, np.flatnonzero(files == shard.file)) for shard in shards]
            futures = [pool.submit(self._measure_shard, *job, lambda: bar.advance(task)) for job in jobs]
            try:
                for (_, positions), future in zip(jobs, futures, strict=True):
                    measured[positions] = future.result()
            except BaseException as error:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                error.add_note("what was measured is kept: run the same command again for the rest")
                raise
        return measured

    def clear(self) -> None:
        """Delete the stored measurements."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _measure_shard(
        self, shard: ShardFile, positions: npt.NDArray[np.intp], on_picture: Callable[[], Any]
    ) -> Floats:
        """f32[K, 1 + 52] of K pictures of a shard: stored by an earlier run, or measured now."""
        digest = hashlib.sha256(f"{_METHOD} {self._model.sha256} {shard.sha256} {positions.size}".encode()).hexdigest()
        part = self._folder / f"{shard.file}-{digest[:16]}.npy"
        if part.is_file():
            for _ in positions:
                on_picture()
            return np.asarray(np.load(part), np.float32)
        if not hasattr(self._local, "landmarker"):
            self._local.landmarker = self._model.open()
        landmarker: FaceLandmarker = self._local.landmarker
        margins = self._manifest.numbers("margin")
        index = {int(position): number for number, position in enumerate(positions)}
        measured = np.empty((len(positions), 1 + len(BLENDSHAPES)), np.float32)
        for position, data in ShardReader(self._manifest).picture_bytes(positions):
            if self._stop.is_set():
                raise KeyboardInterrupt
            image = self._decode(data, position)
            coefficients, presence = landmarker.measure(image, margin=float(margins[position]))
            measured[index[position]] = [presence, *coefficients]
            on_picture()
        self._save_part(part, measured)
        return measured

    def _decode(self, data: bytes, position: int) -> npt.NDArray[np.uint8]:
        try:
            return decode_picture(data)
        except DataError as error:
            key = self._manifest.table.column("key")[position].as_py()
            raise DataError(f"{self._manifest.folder}, {key}: {error}; see `femae data doctor`") from error

    def _save_part(self, part: Path, measured: Floats) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(part) as partial, partial.open("wb") as file:
                np.save(file, measured)
        except OSError as error:
            raise OutputError(f"cannot write {part}: {error.strerror or error}; choose another --out") from error
        with self._lock:
            self.num_measured += len(measured)
