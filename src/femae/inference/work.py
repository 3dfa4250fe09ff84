"""Processes one input, in any process: writes its tables, films and pages, and returns its record."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from femae.config.predict import PredictConfig
from femae.errors import FemaeError, InputError
from femae.inference.console import Summary
from femae.inference.item import ItemOutputs, OutputSpec, process_item
from femae.inference.joining import joined, read_part, read_part_notes, write_part
from femae.inference.journal import fingerprint
from femae.inference.output_folder import OutputFolder, lock_outputs
from femae.inference.predictor import Predictor, local_item, open_source
from femae.inference.run_record import now, run_settings
from femae.inference.work_unit import Outcome, UnitRecord, WorkUnit, identity_of, sizes_of
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem
from femae.video.film_parts import FilmPart
from femae.video.pyav import PyAVSource
from femae.video.source import FrameSource, Tally

__all__ = ["OnFinished", "UnitWorker"]

PARTS_FOLDER: Final = ".parts"  # in the output folder: results of long films' parts, until they are joined

# (input, its outputs, Arrow schema of its table, callback per frame) -> further outputs
OnFinished = Callable[[InputItem, ItemOutputs, Any, Callable[[], None]], list[Path]]


class _FrameProgress(Protocol):
    """A context that yields the callback to call after each frame of an input."""

    def __call__(self, info: SourceInfo, /) -> AbstractContextManager[Callable[[], None]]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Result:
    """What was written for one input, before it is moved to its final place."""

    summary: Summary
    seconds: float  # of the prediction alone
    outputs: ItemOutputs
    further: list[Path]

    @property
    def paths(self) -> list[Path]:
        return [*self.outputs.paths, *self.further]


class UnitWorker:
    """Holds the networks and processes one unit after another; knows nothing of other workers."""

    def __init__(
        self,
        config: PredictConfig,
        *,
        predictor: Predictor | None = None,
        finished: OnFinished | None = None,
        shared: bool = False,
    ) -> None:
        """`finished` is called for each input whose tables are complete, and may add outputs such as a report.

        `shared`: this is one of several workers. A long film is not processed but returned with its number of parts,
        and if another process (an abandoned worker) writes the same outputs, this one waits for it.
        """
        self._config, self._finished = config, finished
        self._out = OutputFolder(config.out)
        self._shared = shared
        self._predictor = predictor or Predictor.from_config(config)

    def __call__(self, unit: WorkUnit, *, frames_of: _FrameProgress) -> Outcome:
        """Process one unit. Never raises for a bad input or a bug: the outcome has the error."""
        try:
            return self._process(unit, frames_of)
        except FemaeError as error:
            return Outcome(unit=unit, error=str(error), trace=traceback.format_exc())
        except Exception as error:  # a bug must not cost the other inputs
            sentence = (
                f"{unit.item.name}: a bug in femae; please report it with the output of --debug: "
                f"{type(error).__name__}: {error}"
            )
            return Outcome(unit=unit, error=sentence, trace=traceback.format_exc())

    def _process(self, unit: WorkUnit, frames_of: _FrameProgress) -> Outcome:
        with local_item(unit.item) as item, open_source(item) as source, self._out.open() as folder:
            parts = self._predictor.parts(source) if self._shared and isinstance(source, PyAVSource) else ()
            local = replace(unit, item=item)
            if len(parts) > 1 and not unit.num_parts:
                return Outcome(unit=unit, num_parts=len(parts))
            identity = identity_of(unit.item)
            names = [self._part_name(unit, part, identity) for part in range(unit.num_parts)]
            if unit.part is not None:
                self._measure_part(source, parts[unit.part], names[unit.part], folder)
                return Outcome(unit=unit)
            with lock_outputs(folder, unit.stem, wait=self._shared), ExitStack() as stack:
                for part, name in zip(parts, names, strict=False):  # a dead joiner may have deleted some
                    self._measure_part(source, part, name, folder)
                paths = [stack.enter_context(self._out.reading(name, folder=folder)) for name in names]
                measured = self._joined(source, unit, paths) if paths else None
                result = self._predict(source, local, folder, frames_of, measured)
                result = replace(result, seconds=result.seconds + sum(read_part_notes(path)[1] for path in paths))
                final_paths = self._out.written(result.paths, folder=folder)
                record = self._record(unit, result, final_paths, folder, identity)
            for name in names:
                self._out.drop(name)
            return Outcome(unit=unit, record=record)

    def _part_name(self, unit: WorkUnit, part: int, identity: str) -> str:
        """Path of a part's results in the output folder; it differs for another film and for other settings."""
        return f"{PARTS_FOLDER}/{unit.stem}.{identity[:16]}{self._settings[:16]}.{part + 1}of{unit.num_parts}.parquet"

    @cached_property
    def _settings(self) -> str:
        return fingerprint(run_settings(self._config, self._predictor))

    def _measure_part(self, film: FrameSource, part: FilmPart, name: str, folder: Path) -> None:
        """Write the results of a part, unless they exist already."""
        if self._out.has(name):
            return
        assert isinstance(film, PyAVSource)
        path = folder / name
        with (
            film.part(part) as frames,
            closing(self._predictor.measure(frames, film=True, keep_images=False)) as results,
        ):
            write_part(path, results, tally=lambda: frames.tally)
        self._out.written([path], folder=folder)

    def _joined(self, film: FrameSource, unit: WorkUnit, paths: Sequence[Path]) -> Iterator[FrameResult]:
        """The joined results of all parts; their problems are set on `film` at the end."""
        try:
            yield from joined(map(read_part, paths))
            film.problems[:] = Tally.joined(read_part_notes(path)[0] for path in paths).sentences()
        except (OSError, ValueError) as error:
            raise InputError(f"{unit.item.name}: the results of its parts cannot be read ({error})") from error

    def _predict(
        self,
        source: Any,
        unit: WorkUnit,
        folder: Path,
        frames_of: _FrameProgress,
        measured: Iterator[FrameResult] | None,
    ) -> _Result:
        """Write the outputs of a unit, whose files are local, into a local folder."""
        config, item = self._config, unit.item
        with frames_of(source.info) as advance:
            summary = Summary(item.name, labels=config.labels)

            def count(result: FrameResult) -> None:
                summary.add(result)
                advance()

            wanted = OutputSpec(
                out=folder,
                stem=unit.stem,
                formats=config.formats,
                video=config.video,
                labels=config.labels,
                derived=config.derived,
            )
            outputs = process_item(
                source, item=item, predictor=self._predictor, wanted=wanted, on_result=count, measured=measured
            )
        seconds = summary.seconds
        further: list[Path] = []
        if self._finished is not None:
            with frames_of(replace(source.info, name=f"report of {source.info.name}")) as advance:
                further = self._finished(item, outputs, self._predictor.schema(), advance)
        return _Result(summary=summary, seconds=seconds, outputs=outputs, further=further)

    def _record(self, unit: WorkUnit, result: _Result, paths: list[Path], folder: Path, identity: str) -> UnitRecord:
        summary, totals, film = result.summary, result.outputs.totals, unit.item.kind == "video"
        return UnitRecord(
            input=unit.item.name,
            kind=unit.item.kind,
            stem=unit.stem,
            identity=identity,
            outputs=sizes_of(result.paths, folder=folder, folders=not self._out.remote),
            num_rows=summary.num_rows,
            num_frames=summary.num_frames,
            num_no_face=summary.status["no_face"],
            num_unreadable=summary.status["unreadable"],
            num_faces=summary.num_faces,
            seconds=round(result.seconds, 3),
            finished=now(),
            problems=result.outputs.problems,
            lines=summary.lines(outputs=paths, film=film, seconds=result.seconds, device=self._predictor.device),
            totals=list(totals.rows()) if totals is not None else [],
        )
