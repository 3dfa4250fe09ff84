"""Where units of work are done: in this process, or by workers of a cluster. The work itself is in work.py.

A worker that is given a long film says in how many parts it is to be done; the parts then go to whoever is free, and
the last of them brings the job of joining them. In one process the predictor does part after part by itself.
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

_AT_ONCE: Final = 2  # inputs in one process
_SMALL: Final = 20_000_000  # bytes; a larger one has the process to itself, and its memory


class Executor(Protocol):
    """Does units and yields the outcome of each as soon as it ends."""

    def __call__(self, units: Jobs[WorkUnit], /) -> Iterator[Outcome]: ...


def executor_of(
    config: PredictConfig, *, predictor: Predictor, console: RunConsole, finished: OnFinished | None
) -> Executor:
    """By `config.cluster`; `predictor` is what this process works with, `console` shows its frames."""
    if config.cluster is None:
        worker = UnitWorker(config, predictor=predictor, finished=finished)
        return partial(_one_by_one if finished is not None else _here, worker, console)
    return partial(_on_cluster, config, finished, console)


def _one_by_one(worker: UnitWorker, console: RunConsole, units: Jobs[WorkUnit]) -> Iterator[Outcome]:
    """As long as what is done at the end of an input, a report for instance, need not be safe for threads."""
    for unit in units:
        yield worker(unit, frames_of=console.frames_of)


def _here(worker: UnitWorker, console: RunConsole, units: Jobs[WorkUnit]) -> Iterator[Outcome]:
    """In order; of small inputs two at once, so that one begins and ends while the other has the cores."""
    if len(units) < 2:
        yield from _one_by_one(worker, console, units)
        return
    stopped = threading.Event()
    under_way: deque[Future[Outcome]] = deque()
    work = partial(worker, frames_of=partial(_stoppable, console, stopped))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="femae-input") as pool:
        try:
            for unit in units:
                alone = num_bytes(unit) > _SMALL
                while len(under_way) >= (1 if alone else _AT_ONCE):
                    yield under_way.popleft().result()
                under_way.append(pool.submit(work, unit))
                if alone:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except KeyboardInterrupt as interruption:
            stopped.set()
            for future in under_way:
                if not future.cancel() and isinstance(error := future.exception(), KeyboardInterrupt):
                    for note in getattr(error, "__notes__", ()):  # what was kept of an input
                        interruption.add_note(note)
            raise
        finally:
            stopped.set()
            for future in under_way:
                future.cancel()


@contextmanager
def _stoppable(console: RunConsole, stopped: threading.Event, info: SourceInfo) -> Iterator[Callable[[], None]]:
    """As RunConsole.frames_of, for a thread that no interruption reaches: it ends at the next frame."""
    with console.frames_of(info) as advance:

        def count() -> None:
            if stopped.is_set():
                raise KeyboardInterrupt
            advance()

        yield count


def _on_cluster(
    config: PredictConfig, finished: OnFinished | None, console: RunConsole, units: Jobs[WorkUnit]
) -> Iterator[Outcome]:
    assert config.cluster is not None
    if not len(units):
        return
    threads = config.threads or 1
    make = partial(_make_worker, config.model_copy(update={"threads": threads}), finished)
    films = _DividedFilms()
    with Cluster(config.cluster, num_workers=config.workers, threads=threads, say=console.note) as cluster:
        for ended in cluster.run(make, units, more=lambda ended: films.more(_outcome(ended))):
            if (outcome := films.final(_outcome(ended))) is not None:
                yield outcome


def _outcome(ended: JobResult[WorkUnit, Outcome]) -> Outcome:
    return ended.result or Outcome(unit=ended.job, error=f"{ended.job.item.name}: {ended.error}")


class _DividedFilms:
    """Long films whose parts are done by several workers: which parts are missing, and what went wrong."""

    def __init__(self) -> None:
        self._missing: dict[int, int] = {}  # number of the input -> parts
        self._failed: dict[int, Outcome] = {}

    def more(self, outcome: Outcome) -> list[WorkUnit]:
        """What is to be done next: the parts of a film, and when all of them are there, joining them."""
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

    def final(self, outcome: Outcome) -> Outcome | None:
        """How an input ended, if it has with this outcome; call after `more`."""
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
    """In a worker: the networks are loaded once."""
    return partial(UnitWorker(config, finished=finished, shared=True), frames_of=RunConsole(quiet=True).frames_of)
