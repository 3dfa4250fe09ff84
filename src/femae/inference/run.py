"""`femae predict`: every input to its tables and film; what is done already is not done again."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from femae.config.predict import PredictConfig
from femae.errors import FemaeError
from femae.inference.console import RunConsole
from femae.inference.derived.exports import require_exports
from femae.inference.derived.outputs import open_run_summary
from femae.inference.journal import Journal, LocalJournal
from femae.inference.predictor import Predictor
from femae.inference.run_record import RECORD_NAME, now, write_run_record
from femae.inference.settings import run_settings
from femae.inference.sinks import unique_stem
from femae.inference.summary import passed_over_line
from femae.inference.work import Finished, UnitWorker
from femae.inference.work_unit import Outcome, UnitRecord, WorkUnit, identity_of
from femae.video.discover import discover

__all__ = ["Finished", "run_predict"]

_FEW: Final = 20  # inputs whose summaries are said again when they are taken over; of more, only how many


def run_predict(config: PredictConfig, *, finished: Finished | None = None) -> int:
    """Run all inputs; returns 0, or 1 when some failed (each is named with its reason).

    `finished` is called for each input whose tables are complete, and may add outputs such as a report.
    """
    require_exports(config.derived.export_names)
    predictor = Predictor.from_config(config)
    with RunConsole(quiet=config.quiet) as console:
        run = _Run(config, predictor, console)
        with closing(run.journal):
            run.do(UnitWorker(config, predictor=predictor, finished=finished))
    return 1 if run.num_failed else 0


class _Run:
    """One call of the command: what is to do, what was done, and what is said of it."""

    def __init__(self, config: PredictConfig, predictor: Predictor, console: RunConsole) -> None:
        self.config, self.predictor, self.console = config, predictor, console
        self.settings = run_settings(config, predictor)
        self.journal: Journal = LocalJournal(config.out, settings=self.settings)
        taken: set[str] = set()
        self.summary_stem = unique_stem("summary", taken=taken) if "summary" in config.derived.table_names else ""
        items = discover(list(config.inputs))
        self.units = [
            WorkUnit(number=number, item=item, stem=unique_stem(item.stem, taken=taken))
            for number, item in enumerate(items)
        ]
        self.started = now()
        self.done = bytearray(len(self.units))  # 1: in this run, 2: before
        self.errors: dict[int, str] = {}  # of inputs that failed, by number
        self.incomplete = 0  # inputs that are done, but not whole

    @property
    def num_failed(self) -> int:
        return len(self.errors) + self.incomplete

    def do(self, worker: UnitWorker) -> None:
        """All that is missing, then the outputs of the whole run."""
        todo = self._missing()
        self.console.expect(num_inputs=len(todo), num_bytes=sum(map(_num_bytes, todo)))
        state = "interrupted"
        try:
            for unit in todo:
                self._take(worker(unit, frames_of=self.console.frames_of))
            state = "done"
        except KeyboardInterrupt as interruption:
            if len(self.units) > 1:
                num_done = len(self.units) - self.done.count(0)
                interruption.add_note(
                    f"{num_done} of {len(self.units)} inputs are done; the same command goes on with the others"
                )
            raise
        finally:
            self._write_record(state)
        self._write_summary()
        self._say_the_end()

    def _missing(self) -> list[WorkUnit]:
        """The units that must be done; the others are taken over from the journal."""
        todo, again = [], dict[str, int]()
        for unit in self.units:
            why = self._why(unit)
            if why:
                todo.append(unit)
                again[why] = again.get(why, 0) + 1
                continue
            self.done[unit.number] = 2
            record = self._record(unit)
            self._count_problems(unit, record)
            if len(self.units) <= _FEW:
                self.console.summary(record.lines)
        for why, count in again.items():
            if why not in ("new", "asked for"):
                self.console.note(f"{count} input{'s' * (count != 1)} done before, done anew ({why})")
        return todo

    def _why(self, unit: WorkUnit) -> str:
        """Why a unit must be done; empty: it is done."""
        if self.config.overwrite:
            return "asked for"
        try:
            return self.journal.why_again(unit, identity=identity_of(unit.item))
        except OSError:
            return "new"

    def _take(self, outcome: Outcome) -> None:
        """Write down and say how one unit ended."""
        unit, record = outcome.unit, outcome.record
        size = _num_bytes(unit)
        if record is None:
            self._fail(unit, outcome.error, trace=outcome.trace)
            self.console.input_done(size, failed=True)
            return
        self._count_problems(unit, record)
        self.console.summary(record.lines)
        try:
            self.journal.add(record)
            self.done[unit.number] = 1
        except FemaeError as error:
            self._fail(unit, str(error))
        self.console.input_done(size, failed=bool(record.problems))

    def _fail(self, unit: WorkUnit, sentence: str, *, trace: str = "") -> None:
        self.errors[unit.number] = sentence
        self.console.problem(sentence)
        if trace and self.config.debug:
            self.console.trace(trace)

    def _count_problems(self, unit: WorkUnit, record: UnitRecord) -> None:
        self.incomplete += bool(record.problems)
        for problem in record.problems:
            self.console.problem(f"{unit.item.name}: {problem}")

    def _record(self, unit: WorkUnit) -> UnitRecord:
        """The record of a unit that is done, in this run or before."""
        record = self.journal.record_of(unit.stem)
        assert record is not None, f"{unit.stem} is not done"
        return record

    def _write_record(self, state: str) -> None:
        """run.json, where anything was done."""
        if not any(self.done):
            return
        run = {
            "state": state,
            "started": self.started,
            "ended": now(),
            "num_inputs": len(self.units),
            "num_taken_over": self.done.count(2),
            "num_failed": len(self.errors),
            "num_incomplete": self.incomplete,
        }
        try:
            write_run_record(self.config.out, settings=self.settings, run=run, inputs=self._entries())
        except FemaeError as error:
            self.console.problem(str(error))

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        """One entry an input for run.json."""
        for unit in self.units:
            if not self.done[unit.number]:
                yield {"input": unit.item.name, "error": self.errors.get(unit.number, "not done yet")}
                continue
            entry = self._record(unit).as_json()
            del entry["totals"], entry["lines"]
            yield {**entry, "input": unit.item.name, "taken_over": self.done[unit.number] == 2}

    def _write_summary(self) -> None:
        """The table over all inputs, in the order in which they were named."""
        if not self.summary_stem:
            return
        with open_run_summary(
            self.config.out,
            stem=self.summary_stem,
            formats=self.config.formats,
            compounds=self.predictor.compounds,
        ) as summary:
            for unit in self.units:
                if self.done[unit.number]:
                    rows = self._record(unit).totals
                    summary.add([{**row, "source": unit.item.name} for row in rows])
        self.console.summary([f"-> {path}" for path in summary.paths])

    def _say_the_end(self) -> None:
        if num_before := self.done.count(2):
            what = "nothing was left to do" if num_before == len(self.units) else "they are taken over"
            self.console.note(
                f"{num_before} of {len(self.units)} inputs were done before (see {self.config.out / RECORD_NAME}): "
                f"{what}; --overwrite does them anew"
            )
        if line := passed_over_line([suffix for unit in self.units for suffix in unit.item.passed_over]):
            self.console.summary([line])
        if self.num_failed and len(self.units) > 1:
            self.console.problem(
                f"{self.num_failed} of {len(self.units)} inputs failed or are incomplete; the others are finished"
            )


def _num_bytes(unit: WorkUnit) -> int:
    """Of its files; 0 where they cannot be asked."""
    try:
        return sum(path.stat().st_size for path in unit.item.paths)
    except OSError:
        return 0
