"""What is done with one input, wherever it is done: its tables, films and pages, and the record of it."""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from femae.config.predict import PredictConfig
from femae.errors import FemaeError
from femae.inference.claim import claim
from femae.inference.item import ItemOutputs, process_item
from femae.inference.output_folder import OutputFolder
from femae.inference.predictor import Predictor, local_item, open_source
from femae.inference.run_record import now
from femae.inference.summary import Summary
from femae.inference.work_unit import Outcome, UnitRecord, WorkUnit, identity_of, sizes_of
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem

__all__ = ["Finished", "UnitWorker"]

# (input, its outputs, Arrow schema of its table, call after each frame) -> further outputs
Finished = Callable[[InputItem, ItemOutputs, Any, Callable[[], None]], list[Path]]


class _Frames(Protocol):
    """Gives the function to call after each frame of an input."""

    def __call__(self, info: SourceInfo, /) -> AbstractContextManager[Callable[[], None]]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Done:
    """What was made of one input, before it stands in its place."""

    summary: Summary
    seconds: float  # of the prediction alone
    outputs: ItemOutputs
    further: list[Path]

    @property
    def paths(self) -> list[Path]:
        return [*self.outputs.paths, *self.further]


class UnitWorker:
    """Holds the networks, and does one unit after the other with them; knows nothing of other workers."""

    def __init__(
        self,
        config: PredictConfig,
        *,
        predictor: Predictor | None = None,
        finished: Finished | None = None,
        patient: bool = False,
    ) -> None:
        """`finished` is called for each input whose tables are complete, and may add outputs such as a report.

        `patient`: wait where another process writes the same outputs, as a worker does that nobody waits for any more.
        """
        self._config, self._finished = config, finished
        self._out = OutputFolder(config.out)
        self._patient = patient
        self._predictor = predictor or Predictor.from_config(config)

    def __call__(self, unit: WorkUnit, *, frames_of: _Frames) -> Outcome:
        """Do one unit; what goes wrong with it is in the outcome, and ends nothing else."""
        try:
            return self._do(unit, frames_of)
        except FemaeError as error:
            return Outcome(unit=unit, error=str(error), trace=traceback.format_exc())
        except Exception as error:  # a fault of ours must not cost the other inputs
            sentence = (
                f"{unit.item.name}: a fault of femae, please report it with what --debug says: "
                f"{type(error).__name__}: {error}"
            )
            return Outcome(unit=unit, error=sentence, trace=traceback.format_exc())

    def _do(self, unit: WorkUnit, frames_of: _Frames) -> Outcome:
        with (
            local_item(unit.item) as item,
            open_source(item) as source,
            self._out.open() as folder,
            claim(folder, unit.stem, wait=self._patient),
        ):
            identity = identity_of(unit.item)
            done = self._predict(source, replace(unit, item=item), folder, frames_of)
            places = self._out.written(done.paths, folder=folder)
            return Outcome(unit=unit, record=self._record(unit, done, places, folder, identity))

    def _predict(self, source: Any, unit: WorkUnit, folder: Path, frames_of: _Frames) -> _Done:
        """The outputs of a unit whose files are here, in a folder of this machine."""
        config, item = self._config, unit.item
        with frames_of(source.info) as advance:
            summary = Summary(item.name, labels=config.labels)

            def count(result: FrameResult) -> None:
                summary.add(result)
                advance()

            outputs = process_item(
                source,
                item=item,
                stem=unit.stem,
                predictor=self._predictor,
                out=folder,
                formats=config.formats,
                video=config.video,
                labels=config.labels,
                on_result=count,
                derived=config.derived,
            )
        seconds = summary.seconds
        further: list[Path] = []
        if self._finished is not None:
            with frames_of(replace(source.info, name=f"report of {source.info.name}")) as advance:
                further = self._finished(item, outputs, self._predictor.schema(), advance)
        return _Done(summary=summary, seconds=seconds, outputs=outputs, further=further)

    def _record(self, unit: WorkUnit, done: _Done, places: list[Path], folder: Path, identity: str) -> UnitRecord:
        summary, totals = done.summary, done.outputs.totals
        return UnitRecord(
            input=unit.item.name,
            kind=unit.item.kind,
            stem=unit.stem,
            identity=identity,
            outputs=sizes_of(done.paths, folder=folder, folders=not self._out.remote),
            num_rows=summary.num_rows,
            num_frames=summary.num_frames,
            num_no_face=summary.status["no_face"],
            num_unreadable=summary.status["unreadable"],
            num_faces=summary.num_faces,
            seconds=round(done.seconds, 3),
            finished=now(),
            problems=done.outputs.problems,
            lines=summary.lines(outputs=places, film=unit.item.kind == "video", seconds=done.seconds),
            totals=list(totals.rows()) if totals is not None else [],
        )
