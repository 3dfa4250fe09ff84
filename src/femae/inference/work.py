"""What is done with one input, wherever it is done: its tables, films and pages, and the record of it."""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from femae.config.predict import PredictConfig
from femae.errors import FemaeError
from femae.inference.claim import claim
from femae.inference.item import ItemOutputs, process_item
from femae.inference.predictor import Predictor, open_source
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


class UnitWorker:
    """Holds the networks, and does one unit after the other with them; knows nothing of other workers."""

    def __init__(
        self, config: PredictConfig, *, predictor: Predictor | None = None, finished: Finished | None = None
    ) -> None:
        """`finished` is called for each input whose tables are complete, and may add outputs such as a report."""
        self._config, self._finished = config, finished
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
        item, config, film = unit.item, self._config, unit.item.kind == "video"
        with open_source(item) as source, claim(config.out, unit.stem):
            identity = identity_of(item)
            with frames_of(source.info) as advance:
                summary = Summary(item.name, labels=config.labels)

                def count(result: FrameResult) -> None:
                    summary.add(result)
                    advance()

                done = process_item(
                    source,
                    item=item,
                    stem=unit.stem,
                    predictor=self._predictor,
                    out=config.out,
                    formats=config.formats,
                    video=config.video,
                    labels=config.labels,
                    on_result=count,
                    derived=config.derived,
                )
            seconds = summary.seconds
            lines = summary.lines(outputs=done.paths, film=film)  # its speed is that of the prediction alone
            further = self._further(source.info, item, done, frames_of)
        record = UnitRecord(
            input=item.name,
            kind=item.kind,
            stem=unit.stem,
            identity=identity,
            outputs=sizes_of([*done.paths, *further], folder=config.out),
            num_rows=summary.num_rows,
            num_frames=summary.num_frames,
            num_no_face=summary.status["no_face"],
            num_unreadable=summary.status["unreadable"],
            num_faces=summary.num_faces,
            seconds=round(seconds, 3),
            finished=now(),
            problems=done.problems,
            lines=[*lines, *(f"  -> {path}" for path in further)],
            totals=list(done.totals.rows()) if done.totals is not None else [],
        )
        return Outcome(unit=unit, record=record)

    def _further(self, info: SourceInfo, item: InputItem, done: ItemOutputs, frames_of: _Frames) -> list[Path]:
        if self._finished is None:
            return []
        with frames_of(replace(info, name=f"report of {info.name}")) as advance:
            return self._finished(item, done, self._predictor.schema(), advance)
