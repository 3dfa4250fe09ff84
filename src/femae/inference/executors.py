"""Where units of work are done: in this process, or by workers of a cluster. What is done is the same (work.py).

A worker that is given a long film says in how many parts it is to be done; the parts then go to whoever is free, and
the last of them brings the job of joining them. In one process the predictor does part after part by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from femae.cluster import Cluster, Ended
from femae.config.predict import PredictConfig
from femae.inference.console import RunConsole
from femae.inference.predictor import Predictor
from femae.inference.work import Finished, UnitWorker
from femae.inference.work_unit import Outcome, WorkUnit

__all__ = ["Executor", "executor_of"]


class Executor(Protocol):
    """Does units and gives how each ended, as it ends."""

    def __call__(self, units: Sequence[WorkUnit], /) -> Iterator[Outcome]: ...


def executor_of(
    config: PredictConfig, *, predictor: Predictor, console: RunConsole, finished: Finished | None
) -> Executor:
    """By `config.cluster`; `predictor` is what this process works with, `console` shows its frames."""
    if config.cluster is None:
        return partial(_here, UnitWorker(config, predictor=predictor, finished=finished), console)
    return partial(_on_cluster, config, finished, console)


def _here(worker: UnitWorker, console: RunConsole, units: Sequence[WorkUnit]) -> Iterator[Outcome]:
    for unit in units:
        yield worker(unit, frames_of=console.frames_of)


def _on_cluster(
    config: PredictConfig, finished: Finished | None, console: RunConsole, units: Sequence[WorkUnit]
) -> Iterator[Outcome]:
    assert config.cluster is not None
    if not units:
        return
    threads = config.threads or 1
    make = partial(_make_worker, config.model_copy(update={"threads": threads}), finished)
    films = _DividedFilms()
    with Cluster(config.cluster, num_workers=config.workers, threads=threads, say=console.note) as cluster:
        for ended in cluster.run(make, units, more=lambda ended: films.more(_outcome(ended))):
            if (outcome := films.final(_outcome(ended))) is not None:
                yield outcome


def _outcome(ended: Ended[WorkUnit, Outcome]) -> Outcome:
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
            return outcome
        return self._failed.get(number) if not self._missing[number] else None


def _make_worker(config: PredictConfig, finished: Finished | None) -> Callable[[WorkUnit], Outcome]:
    """In a worker: the networks are loaded once."""
    return partial(UnitWorker(config, finished=finished, shared=True), frames_of=RunConsole(quiet=True).frames_of)
