"""`femae predict`: processes every input; finished inputs are not processed again."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, Final

from femae.allocator import return_large_blocks
from femae.config.predict import PredictConfig
from femae.disk_table import DiskTable
from femae.errors import FemaeError
from femae.inference.console import RunConsole, skipped_line
from femae.inference.derived.outputs import open_run_summary, require_exports
from femae.inference.derived.totals import totals_schema
from femae.inference.executors import Executor, executor_of
from femae.inference.journal import Journal, LocalJournal, RemoteJournal
from femae.inference.output_folder import OutputFolder, UniqueStems, lock_outputs
from femae.inference.predictor import Predictor
from femae.inference.run_record import RECORD_NAME, now, run_settings, write_run_record
from femae.inference.work import OnFinished
from femae.inference.work_unit import Outcome, UnitRecord, WorkUnit, WorkUnits, identity_of, num_bytes
from femae.labels import Compound

__all__ = ["OnFinished", "run_predict"]

_MAX_REQUESTS: Final = 16  # concurrent requests to a store
_MAX_SUMMARIES: Final = 20  # up to so many inputs, summaries of finished ones are printed again; else their number


def run_predict(config: PredictConfig, *, finished: OnFinished | None = None) -> int:
    """Run all inputs; returns 0, or 1 when chunk failed (each is named with its reason).

    `finished` is called for each input whose tables are complete, and may add outputs such as a report.
    """
    require_exports(config.derived.export_names)
    return_large_blocks()
    predictor = Predictor.from_config(config)
    with RunConsole(quiet=config.quiet) as console:
        run = _Run(config, predictor, console)
        with closing(run.journal):
            run.execute(executor_of(config, predictor=predictor, console=console, finished=finished))
    return 1 if run.num_failed else 0


class _Run:
    """One call of the command: selects the units to process, records outcomes, writes the outputs of the run."""

    def __init__(self, config: PredictConfig, predictor: Predictor, console: RunConsole) -> None:
        self.config, self.predictor, self.console = config, predictor, console
        self.settings = run_settings(config, predictor)
        self.out = OutputFolder(config.out)
        journal = RemoteJournal if self.out.remote else LocalJournal
        self.journal: Journal = journal(config.out, settings=self.settings)
        stem = UniqueStems()
        self.summary_stem = stem("summary") if "summary" in config.derived.table_names else ""
        self.units = WorkUnits(config.inputs, stem=stem)
        self.started = now()
        self.done = bytearray(len(self.units))  # per unit 1: done in this run, 2: done before
        self.errors = DiskTable()  # number of a failed input -> message
        self.incomplete = 0  # inputs that are done, with problems

    @property
    def num_failed(self) -> int:
        return len(self.errors) + self.incomplete

    def execute(self, executor: Executor) -> None:
        """Process all missing units, then write the outputs of the whole run."""
        recorded = False
        try:
            for outcome in executor(self._missing()):
                self._record_outcome(outcome)
            self._write_record("done")
            recorded = True
            self._write_summary()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and len(self.units) > 1:
                error.add_note(self._resume_hint())
            if not recorded:
                self._write_record("interrupted")
            raise
        self._print_summary()

    def _resume_hint(self) -> str:
        num_done = len(self.units) - self.done.count(0)
        what = "continues with the others" if num_done < len(self.units) else "writes the tables of the whole run"
        return f"{num_done} of {len(self.units)} inputs are done; the same command {what}"

    def _missing(self) -> WorkUnits:
        """The units to process; the others are taken over from the journal."""
        todo, size, repeated = array("L"), 0, Counter[str]()
        for unit, reason in self._with_reasons():
            if reason:
                todo.append(unit.number)
                size += num_bytes(unit)
                repeated[reason] += 1
                continue
            self.done[unit.number] = 2
            record = self._record(unit)
            self._count_problems(unit, record)
            if len(self.units) <= _MAX_SUMMARIES:
                self.console.summary(record.lines)
        for reason, count in repeated.items():
            if reason not in ("new", "asked for"):
                self.console.note(f"{count} input{'s' * (count != 1)} done before, processed again ({reason})")
        self.console.expect(num_inputs=len(todo), num_bytes=size)
        return self.units.only(todo)

    def _with_reasons(self) -> Iterator[tuple[WorkUnit, str]]:
        """Yields each unit with the reason to process it, with concurrent requests to stores."""
        units = iter(self.units)
        with ThreadPoolExecutor(_MAX_REQUESTS) as pool:
            while chunk := list(islice(units, 1000)):
                yield from zip(chunk, pool.map(self._reason, chunk), strict=True)

    def _reason(self, unit: WorkUnit) -> str:
        """Why a unit must be processed; empty if it is done."""
        if self.config.overwrite:
            return "asked for"
        try:
            return self.journal.why_again(unit, identity=lambda: identity_of(unit.item))
        except OSError:
            return "new"

    def _record_outcome(self, outcome: Outcome) -> None:
        """Print the outcome of a unit and add it to the journal."""
        unit, record = outcome.unit, outcome.record
        size = num_bytes(unit)
        if record is None:
            self._fail(unit, outcome.error, trace=outcome.trace)
            self.console.input_done(size, failed=True)
            return
        self._count_problems(unit, record)
        self.console.summary(record.lines)
        self.done[unit.number] = 1  # set first: an interruption may arrive while the journal is written
        try:
            self.journal.add(record)
        except FemaeError as error:
            self.done[unit.number] = 0
            self._fail(unit, str(error))
        counted = self.config.cluster is None  # by the progress callback
        self.console.input_done(size, failed=bool(record.problems), num_frames=0 if counted else record.num_frames)

    def _fail(self, unit: WorkUnit, sentence: str, *, trace: str = "") -> None:
        self.errors.put(unit.number, sentence.encode("utf-8", "surrogatepass"))
        self.console.problem(sentence)
        if trace and self.config.debug:
            self.console.trace(trace)

    def _count_problems(self, unit: WorkUnit, record: UnitRecord) -> None:
        self.incomplete += bool(record.problems)
        for problem in record.problems:
            self.console.problem(f"{unit.item.name}: {problem}")

    def _record(self, unit: WorkUnit) -> UnitRecord:
        """The record of a unit done in this run or before."""
        record = self.journal.record_of(unit.stem)
        assert record is not None, f"{unit.stem} is not done"
        return record

    def _write_record(self, state: str) -> None:
        """Write run.json, if any input is done."""
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
            with self.out.open() as folder:
                path = write_run_record(folder, settings=self.settings, run=run, inputs=self._entries())
                self.out.written([path], folder=folder)
        except FemaeError as error:
            self.console.problem(str(error))

    def _entries(self) -> Iterator[Mapping[str, Any]]:
        """The entries of run.json, one per input."""
        for unit in self.units:
            record = self.journal.record_of(unit.stem) if self.done[unit.number] else None
            if record is None:
                error = self.errors.get(unit.number) or b"not done yet"
                yield {"input": unit.item.name, "error": error.decode("utf-8", "surrogatepass")}
                continue
            entry = record.as_json()
            del entry["totals"], entry["lines"]
            yield {**entry, "input": unit.item.name, "taken_over": self.done[unit.number] == 2}

    def _write_summary(self) -> None:
        """Write the summary table over all inputs, in the order given."""
        if not self.summary_stem:
            return
        names = further_columns(self.units, compounds=self.predictor.compounds)
        with self.out.open() as folder:
            with (
                lock_outputs(folder, self.summary_stem, wait=True),
                open_run_summary(
                    folder,
                    stem=self.summary_stem,
                    formats=self.config.formats,
                    compounds=self.predictor.compounds,
                    further=list(names.values()),
                ) as summary,
            ):
                for unit in self.units:
                    if self.done[unit.number]:
                        more = {names[name]: value for name, value in unit.item.columns}
                        rows = self._record(unit).totals
                        summary.add([{**row, "source": unit.item.name, **more} for row in rows])
            paths = self.out.written(summary.paths, folder=folder)
        self.console.summary([f"-> {path}" for path in paths])

    def _print_summary(self) -> None:
        if num_before := self.done.count(2):
            what = "nothing is left to do" if num_before == len(self.units) else "they are kept"
            self.console.note(
                f"{num_before} of {len(self.units)} inputs were done before (see {self.config.out / RECORD_NAME}): "
                f"{what}; --overwrite processes them again"
            )
        if line := skipped_line(suffix for unit in self.units for suffix in unit.item.skipped):
            self.console.summary([line])
        if self.num_failed and len(self.units) > 1:
            self.console.problem(
                f"{self.num_failed} of {len(self.units)} inputs failed or are incomplete; the others are finished"
            )


def further_columns(units: Iterable[WorkUnit], *, compounds: tuple[Compound, ...]) -> dict[str, str]:
    """Columns of the input tables -> their names in the summary, where the summary's own columns keep theirs."""
    own = set(totals_schema(compounds).names)
    names = dict.fromkeys(name for unit in units for name, _ in unit.item.columns)
    return {name: f"{name}_given" if name in own else name for name in names}
