"""Distributes work units to worker processes on all cores, each with a single-threaded detector, or to a cluster.

Processes are spawned, not forked. They ignore Ctrl-C, which the parent handles: it sets a flag that each worker checks
after every sample. A worker whose parent has died (kill -9) exits at once.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from femae.cluster import Cluster
from femae.cores import num_cores
from femae.data.prepare.plan import PrepareSettings, Unit
from femae.data.prepare.unit import UnitResult, UnitWorker
from femae.errors import FemaeError

__all__ = ["Workers", "run_units"]

_POLL_S: Final = 0.2
_worker: "_WorkerState | None" = None  # set in worker processes


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """Where work units are processed: in how many processes, or on which cluster."""

    num: int | None = None  # processes; None: one per core
    cluster: str | None = None  # address of a Ray cluster; its nodes share the paths of data sets and output
    detector_path: Path | None = None  # an ONNX detector instead of the built-in one


def run_units(
    units: Sequence[Unit], *, settings: PrepareSettings, workers: Workers, on_progress: Callable[[int, int], None]
) -> Iterator[UnitResult]:
    """Make the shards of `units`; yields their results as they complete, in any order.

    `on_progress` is called with the numbers of samples and faces done so far. A single worker runs in this process.
    Raises FemaeError when a worker dies, and any exception of a worker.
    """
    detector_path = workers.detector_path
    if workers.cluster is not None:
        yield from _run_on_cluster(units, workers, partial(_make_runner, settings, detector_path), on_progress)
        return
    num_workers = workers.num or num_cores()
    if num_workers == 1 or len(units) == 1:
        yield from _run_in_process(units, UnitWorker(settings, detector_path=detector_path), on_progress)
        return
    context = multiprocessing.get_context("spawn")
    counters = context.Array("q", 2)
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(num_workers, len(units)),
        mp_context=context,
        initializer=_initialise_worker,
        initargs=(settings, detector_path, counters, stop),
    )
    try:
        for result in _run_in_pool(
            pool, units, ahead=2 * num_workers, poll=lambda: on_progress(counters[0], counters[1])
        ):
            yield result
            on_progress(counters[0], counters[1])
    except BrokenProcessPool as error:
        raise FemaeError(
            "a worker process was killed, usually for lack of memory; what was finished is kept: "
            "run the same command again, with fewer --workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _make_runner(settings: PrepareSettings, detector_path: Path | None) -> Callable[[Unit], UnitResult]:
    """The function by which a worker of a cluster processes its units."""
    return partial(UnitWorker(settings, detector_path=detector_path).run, on_sample=lambda _: None)


def _run_on_cluster(
    units: Sequence[Unit],
    workers: Workers,
    make_runner: Callable[[], Callable[[Unit], UnitResult]],
    on_progress: Callable[[int, int], None],
) -> Iterator[UnitResult]:
    """Run units on a cluster, with progress shard by shard. As in a pool, a unit that fails ends the run."""
    assert workers.cluster is not None
    samples, faces = 0, 0
    with Cluster(workers.cluster, num_workers=workers.num) as cluster:
        for ended in cluster.run(make_runner, units):
            if ended.result is None:
                assert ended.error is not None
                raise ended.error
            yield ended.result
            samples, faces = samples + ended.job.num_samples, faces + ended.result.num_rows
            on_progress(samples, faces)


def _run_in_process(
    units: Sequence[Unit], worker: UnitWorker, on_progress: Callable[[int, int], None]
) -> Iterator[UnitResult]:
    samples, faces = 0, 0

    def count_sample(num_faces: int) -> None:
        nonlocal samples, faces
        samples, faces = samples + 1, faces + num_faces
        on_progress(samples, faces)

    for unit in units:
        yield worker.run(unit, on_sample=count_sample)


def _run_in_pool(
    pool: ProcessPoolExecutor, units: Sequence[Unit], *, ahead: int, poll: Callable[[], None]
) -> Iterator[UnitResult]:
    """Submit units with at most `ahead` of them pending; yields results as they complete."""
    pending: set[Future[UnitResult]] = set()
    queue = iter(units)
    while True:
        while len(pending) < ahead and (unit := next(queue, None)) is not None:
            with _block_interrupts():
                pending.add(pool.submit(_run_unit, unit))
        if not pending:
            return
        done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        poll()
        for future in done:
            yield future.result()


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Block SIGINT while processes are spawned: they inherit the signal mask and start undisturbed."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


class _WorkerState:
    """State of a worker process."""

    def __init__(self, settings: PrepareSettings, detector_path: Path | None, counters: Any, stop: Any) -> None:
        self.worker = UnitWorker(settings, detector_path=detector_path)
        self.counters, self.stop = counters, stop

    def count_sample(self, num_faces: int) -> None:
        with self.counters.get_lock():
            self.counters[0] += 1
            self.counters[1] += num_faces
        if self.stop.is_set():
            raise KeyboardInterrupt


def _initialise_worker(settings: PrepareSettings, detector_path: Path | None, counters: Any, stop: Any) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, name="femae-parent-watch", daemon=True).start()
    _worker = _WorkerState(settings, detector_path, counters, stop)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _run_unit(unit: Unit) -> UnitResult:
    assert _worker is not None
    return _worker.worker.run(unit, on_sample=_worker.count_sample)
