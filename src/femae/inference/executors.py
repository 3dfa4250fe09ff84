"""Where units of work are done: in this process, or by workers of a cluster. What is done is the same (work.py)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from femae.cluster import Cluster
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
    with Cluster(config.cluster, num_workers=config.workers, threads=threads, say=console.note) as cluster:
        for ended in cluster.run(make, units):
            if ended.result is not None:
                yield ended.result
            else:
                yield Outcome(unit=ended.job, error=f"{ended.job.item.name}: {ended.error}")


def _make_worker(config: PredictConfig, finished: Finished | None) -> Callable[[WorkUnit], Outcome]:
    """In a worker: the networks are loaded once."""
    return partial(UnitWorker(config, finished=finished, patient=True), frames_of=RunConsole(quiet=True).frames_of)
