"""The page's work in a process of its own: a film that crashes a decoder ends one job, not the server.

One such process does one job after the other. It is watched from here: it may take only so much memory (on Linux) and
so much time a job; when it dies, whatever the reason, the job it had failed in one sentence, and the next job gets a
new one.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from femae.allocator import give_large_blocks_back
from femae.app.jobs import Job, JobCancelledError, Upload
from femae.app.work import Worker
from femae.config.predict import DetectConfig, RuleConfig
from femae.errors import FemaeError, InputError
from femae.types import LabelView

__all__ = ["WorkProcess"]

_LOOK_S: Final = 0.05  # between two looks at what was heard of a job
_TELL_S: Final = 0.1  # between two words of progress
_LET_GO_S: Final = 5.0  # that a job which was cancelled may take to end by itself

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """What the process is asked to do."""

    id: str
    folder: Path
    model: Path | None
    detect: DetectConfig
    rules: RuleConfig
    labels: LabelView
    uploads: list[Upload]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Word:
    """What is heard of a job: how far it is, and at last how it ended."""

    phase: str
    num_done: int
    num_total: int | None
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)
    over: bool = False
    error: FemaeError | None = None
    fault: str = ""  # the traceback of an error that is ours


class WorkProcess:
    """Does jobs as Worker does, by a process that may die."""

    def __init__(self, worker: Worker, *, max_memory_mb: float, max_job_minutes: float) -> None:
        self._worker, self._memory_mb, self._max_s = worker, max_memory_mb, max_job_minutes * 60
        self._process: Any = None  # of multiprocessing
        self._orders: Connection | None = None
        self._words: Connection | None = None

    def start(self) -> None:
        """Begin the process, if there is none; it takes about a second until it can work."""
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        context = multiprocessing.get_context("spawn")
        theirs, self._orders = context.Pipe(duplex=False)
        self._words, back = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve, args=(theirs, back, self._worker, self._memory_mb), name="femae-work", daemon=True
        )
        self._process.start()
        theirs.close()
        back.close()

    def close(self) -> None:
        """End the process. May be called twice."""
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        for end in (self._orders, self._words):
            if end is not None:
                end.close()
        self._process = self._orders = self._words = None

    def __call__(self, job: Job) -> None:
        """Fill `job.outputs` and `job.facts`. Raises FemaeError, JobCancelledError, and RuntimeError for our faults."""
        order = _Order(
            id=job.id,
            folder=job.folder,
            model=job.model,
            detect=job.detect,
            rules=job.rules,
            labels=job.labels,
            uploads=job.uploads,
        )
        try:
            self._send(order)
            assert self._words is not None
            while not self._hear(job, self._words):
                pass
        except (EOFError, OSError):
            status = None
            if self._process is not None:
                self._process.join(timeout=_LET_GO_S)
                status = self._process.exitcode
            sentence = _last_words(status, memory_mb=self._memory_mb)
            self.close()
            raise InputError(sentence) from None

    def _send(self, order: _Order) -> None:
        """To the process, or to a new one where it has died since its last job."""
        for again in (True, False):
            self.start()
            assert self._orders is not None
            try:
                self._orders.send(order)
                return
            except OSError:
                self.close()
                if not again:
                    raise

    def _hear(self, job: Job, words: Connection) -> bool:
        """Take the next word of a job; whether it was the last."""
        if not words.poll(_LOOK_S):
            self._watch(job)
            return False
        word: _Word = words.recv()
        job.phase, job.num_done, job.num_total = word.phase, word.num_done, word.num_total
        job.facts |= word.facts
        if not word.over:
            self._watch(job)
            return False
        if word.fault:
            _log.error("a job failed\n%s", word.fault)
            raise RuntimeError("an internal error in a job, see above")
        if word.error is not None:
            raise word.error
        job.problems, job.outputs = word.problems, word.outputs
        return True

    def _watch(self, job: Job) -> None:
        """End a job that was cancelled or takes too long; with it goes the process, if it does not listen."""
        if job.cancelled.is_set():
            with suppress(OSError):
                assert self._orders is not None
                self._orders.send(None)
            self._wait_for_the_end()
            raise JobCancelledError
        if time.monotonic() - job.started_s > self._max_s:
            self.close()
            raise InputError(
                f"the job took longer than {self._max_s / 60:g} minutes, the most that this page allows: cut the film, "
                "start `femae app` with a larger --max-job-minutes, or use `femae predict`"
            )

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + _LET_GO_S
        assert self._words is not None
        with suppress(EOFError, OSError):
            while time.monotonic() < deadline:
                if self._words.poll(_LOOK_S) and self._words.recv().over:
                    return
        self.close()


def _last_words(status: int | None, *, memory_mb: float) -> str:
    """Why a job failed whose process is gone, in a sentence for the user."""
    advice = "the file is damaged, or too large; convert it (to H.264, for instance) or make it smaller, and try again"
    if status is None or status >= 0:
        return f"the program that read it ended unexpectedly (status {status}): {advice}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if name == "SIGKILL":
        return f"the program that read it was killed by the system (SIGKILL), usually for lack of memory: {advice}"
    limit = f" (it may take {memory_mb:g} MB)" if name == "SIGABRT" else ""
    return f"the program that read it crashed ({name}){limit}: {advice}"


def _serve(orders: Connection, words: Connection, worker: Worker, memory_mb: float) -> None:
    """The process: one order after the other, until the server closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server hears of Ctrl-C, and says what is to be done
    with suppress(FemaeError):  # the first job will say it
        worker.load()
    give_large_blocks_back()
    _limit_memory(memory_mb)
    told = _Told()
    threading.Thread(target=_listen, args=(orders, told), daemon=True).start()
    while True:
        order = told.next()
        job = Job(
            id=order.id,
            folder=order.folder,
            model=order.model,
            detect=order.detect,
            rules=order.rules,
            labels=order.labels,
            uploads=order.uploads,
            cancelled=told.cancelled,
        )
        _do(job, worker, words)


class _Told:
    """What the server has said and is not done yet."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._order: _Order | None = None
        self.cancelled = threading.Event()

    def tell(self, order: _Order | None) -> None:
        """An order, or None: give up what is under way."""
        with self._change:
            if order is None:
                self.cancelled.set()
                return
            self._order = order
            self._change.notify()

    def next(self) -> _Order:
        with self._change:
            while self._order is None:
                self._change.wait()
            order, self._order = self._order, None
            self.cancelled = threading.Event()
            return order


def _listen(orders: Connection, told: _Told) -> None:
    """Hear the server; when it is gone, so are we."""
    while True:
        try:
            told.tell(orders.recv())
        except (EOFError, OSError):
            os._exit(0)


def _do(job: Job, worker: Worker, words: Connection) -> None:
    """One job, with a word of progress now and then, and one at its end."""
    ended = threading.Event()

    def tell_progress() -> None:
        while not ended.wait(_TELL_S):
            words.send(_word(job))

    teller = threading.Thread(target=tell_progress, daemon=True)
    teller.start()
    error: FemaeError | None = None
    fault = ""
    try:
        worker(job)
    except JobCancelledError:
        pass
    except FemaeError as failure:
        error = failure
    except MemoryError:
        error = InputError("there is not enough memory for this: make the film or the pictures smaller")
    except Exception:
        fault = traceback.format_exc()
    ended.set()
    teller.join()
    words.send(_word(job, over=True, error=error, fault=fault))


def _word(job: Job, **end: Any) -> _Word:
    return _Word(
        phase=job.phase,
        num_done=job.num_done,
        num_total=job.num_total,
        facts=dict(job.facts),
        problems=list(job.problems),
        outputs=dict(job.outputs),
        **end,
    )


def _limit_memory(megabytes: float) -> None:
    """From now on, so much more than now; where the system knows such a limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + int(megabytes * 1e6)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
