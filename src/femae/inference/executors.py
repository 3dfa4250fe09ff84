"""Executors run work units: in this process, or on the workers of a cluster. The work itself is in work.py.

A cluster worker that receives a long film only returns its number of parts. Each part is then a job for any free
worker, and when the last one has ended, joining them becomes a job. In one process the predictor itself goes through
the parts in order.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from femae.cluster import Cluster, JobResult, Jobs
from femae.config.predict import PredictConfig
from femae.inference.console import RunConsole
from femae.inference.predictor import Predictor
from femae.inference.work import OnFinished, UnitWorker
from femae.inference.work_unit import Outcome, WorkUnit, num_bytes
from femae.types import SourceInfo

__all__ = ["Executor", "executor_of"]

_MAX_CONCURRENT: Final = 2  # inputs at the same time in one process
_SMALL_BYTES: Final = 20_000_000  # a larger input runs alone, to limit memory


class Executor(Protocol):
    """Runs work units and yields the outcome of each as soon as it ends."""

    def __call__(self, units: Jobs[WorkUnit], /) -> Iterator[Outcome]: ...


def executor_of(
    config: PredictConfig, *, predictor: Predictor, console: RunConsole, finished: OnFinished | None
) -> Executor:
    """The executor for `config.cluster`; `predictor` runs the work of this process, `console` shows its progress."""
    if config.cluster is None:
        worker = UnitWorker(config, predictor=predictor, finished=finished)
        return partial(_run_sequentially if finished is not None else _run_in_threads, worker, console)
    return partial(_run_on_cluster, config, finished, console)


def _run_sequentially(worker: UnitWorker, console: RunConsole, units: Jobs[WorkUnit]) -> Iterator[Outcome]:
    """One unit after another; used with a `finished` callback, which need not be thread-safe."""
    for unit in units:
        yield worker(unit, frames_of=console.frames_of)


def _run_in_threads(worker: UnitWorker, console: RunConsole, units: Jobs[WorkUnit]) -> Iterator[Outcome]:
    """In order, two small inputs at a time: one starts up or finishes while the other keeps the cores busy."""
    if len(units) < 2:
        yield from _run_sequentially(worker, console, units)
        return
    cancelled = threading.Event()
    pending: deque[Future[Outcome]] = deque()
    work = partial(worker, frames_of=partial(_cancellable, console, cancelled))
    with ThreadPoolExecutor(_MAX_CONCURRENT, thread_name_prefix="femae-input") as pool:
        try:
            for unit in units:
                exclusive = num_bytes(unit) > _SMALL_BYTES
                while len(pending) >= (1 if exclusive else _MAX_CONCURRENT):
                    yield pending.popleft().result()
                pending.append(pool.submit(work, unit))
                if exclusive:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except KeyboardInterrupt as interruption:
            cancelled.set()
            for future in pending:
                if not future.cancel() and isinstance(error := future.exception(), KeyboardInterrupt):
                    for note in getattr(error, "__notes__", ()):  # which rows of an input were kept
                        interruption.add_note(note)
            raise
        finally:
            cancelled.set()
            for future in pending:
                future.cancel()


@contextmanager
def _cancellable(console: RunConsole, cancelled: threading.Event, info: SourceInfo) -> Iterator[Callable[[], None]]:
    """Like RunConsole.frames_of, for a worker thread, which gets no SIGINT: raises KeyboardInterrupt at its next frame
    once `cancelled` is set."""
    with console.frames_of(info) as advance:

        def count() -> None:
            if cancelled.is_set():
                raise KeyboardInterrupt
            advance()

        yield count


def _run_on_cluster(
    config: PredictConfig, finished: OnFinished | None, console: RunConsole, units: Jobs[WorkUnit]
) -> Iterator[Outcome]:
    assert config.cluster is not None
    if not len(units):
        return
    threads = config.threads or 1
    make = partial(_make_worker, config.model_copy(update={"threads": threads}), finished)
    films = _DividedFilms()
    with Cluster(config.cluster, num_workers=config.workers, threads=threads, on_message=console.note) as cluster:
        for result in cluster.run(make, units, more=lambda result: films.next_units(_outcome(result))):
            if (outcome := films.final_outcome(_outcome(result))) is not None:
                yield outcome


def _outcome(result: JobResult[WorkUnit, Outcome]) -> Outcome:
    return result.result or Outcome(unit=result.job, error=f"{result.job.item.name}: {result.error}")


class _DividedFilms:
    """Bookkeeping of long films whose parts are jobs of their own: number of parts left, first error."""

    def __init__(self) -> None:
        self._missing: dict[int, int] = {}  # input number -> parts not done yet
        self._failed: dict[int, Outcome] = {}

    def next_units(self, outcome: Outcome) -> list[WorkUnit]:
        """The units that this outcome makes possible: all parts of a film, or, after its last part, joining them."""
        unit = outcome.unit
        if outcome.num_parts:
            self._missing[unit.number] = outcome.num_parts
            return [replace(unit, num_parts=outcome.num_parts, part=part) for part in range(outcome.num_parts)]
        if unit.part is None:
            return []
        self._missing[unit.number] -= 1
        if outcome.error:
            self._failed.setdefault(unit.number, replace(outcome, unit=replace(unit, part=None)))
        if self._missing[unit.number] or unit.number in self._failed:
            return []
        return [replace(unit, part=None)]

    def final_outcome(self, outcome: Outcome) -> Outcome | None:
        """The outcome of the whole input if this was its last unit, else None; call after `next_units`."""
        number = outcome.unit.number
        if outcome.num_parts:
            return None
        if outcome.unit.part is None:
            self._missing.pop(number, None)
            return outcome
        if self._missing[number] or number not in self._failed:
            return None
        del self._missing[number]
        return self._failed.pop(number)


def _make_worker(config: PredictConfig, finished: OnFinished | None) -> Callable[[WorkUnit], Outcome]:
    """Runs in a cluster worker, which loads the networks once."""
    return partial(UnitWorker(config, finished=finished, shared=True), frames_of=RunConsole(quiet=True).frames_of)
