"""Runs the page's jobs in a worker process: a film that crashes a decoder ends one job, not the server.

One worker process runs one job after the other, within a memory limit (on Linux) and a time limit per job. When the
process dies, for whatever reason, its job fails with one sentence, and the next job gets a new process.
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

from femae.allocator import return_large_blocks
from femae.app.jobs import Job, JobCancelledError, Upload
from femae.app.work import Worker
from femae.config.predict import DetectConfig, RuleConfig
from femae.errors import FemaeError, InputError
from femae.types import LabelView

__all__ = ["WorkProcess"]

_POLL_S: Final = 0.05  # longest wait for a progress message before the limits of a job are checked
_PROGRESS_S: Final = 0.1  # between two progress messages
_EXIT_TIMEOUT_S: Final = 5.0  # for a cancelled job, or a dying process, to end by itself

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """A job, as it is sent to the worker process."""

    id: str
    folder: Path
    model: Path | None
    detect: DetectConfig
    rules: RuleConfig
    labels: LabelView
    uploads: list[Upload]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Message:
    """The progress of a job, as it is sent back; the last message (`is_final`) also says how the job ended."""

    phase: str
    num_done: int
    num_total: int | None
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    outputs: dict[str, Path] = field(default_factory=dict)
    is_final: bool = False
    error: FemaeError | None = None
    traceback: str = ""  # of an unexpected exception


class WorkProcess:
    """Runs jobs as Worker does, in a worker process that is replaced when it dies."""

    def __init__(self, worker: Worker, *, max_memory_mb: float, max_job_minutes: float) -> None:
        self._worker, self._memory_mb, self._max_s = worker, max_memory_mb, max_job_minutes * 60
        self._process: Any = None  # of multiprocessing
        self._requests: Connection | None = None
        self._messages: Connection | None = None

    def start(self) -> None:
        """Start the process unless it is running; it needs about a second until it can work."""
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        context = multiprocessing.get_context("spawn")
        child_requests, self._requests = context.Pipe(duplex=False)
        self._messages, child_messages = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_worker_main,
            args=(child_requests, child_messages, self._worker, self._memory_mb),
            name="femae-work",
            daemon=True,
        )
        self._process.start()
        child_requests.close()
        child_messages.close()

    def close(self) -> None:
        """Kill the process. May be called twice."""
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        for connection in (self._requests, self._messages):
            if connection is not None:
                connection.close()
        self._process = self._requests = self._messages = None

    def __call__(self, job: Job) -> None:
        """Run the job and fill its `outputs`, `facts` and `problems`.

        Raises FemaeError, JobCancelledError, and RuntimeError after an unexpected exception in the process.
        """
        request = _Request(
            id=job.id,
            folder=job.folder,
            model=job.model,
            detect=job.detect,
            rules=job.rules,
            labels=job.labels,
            uploads=job.uploads,
        )
        try:
            self._send(request)
            assert self._messages is not None
            while not self._receive(job, self._messages):
                pass
        except (EOFError, OSError):
            status = None
            if self._process is not None:
                self._process.join(timeout=_EXIT_TIMEOUT_S)
                status = self._process.exitcode
            sentence = _explain_exit(status, memory_mb=self._memory_mb)
            self.close()
            raise InputError(sentence) from None

    def _send(self, request: _Request) -> None:
        """Send to the process; where it has died since its last job, start a new one and send again."""
        for may_retry in (True, False):
            self.start()
            assert self._requests is not None
            try:
                self._requests.send(request)
                return
            except OSError:
                self.close()
                if not may_retry:
                    raise

    def _receive(self, job: Job, messages: Connection) -> bool:
        """Apply the next message to the job, if one has come; returns whether it was the last."""
        if not messages.poll(_POLL_S):
            self._check_limits(job)
            return False
        message: _Message = messages.recv()
        job.phase, job.num_done, job.num_total = message.phase, message.num_done, message.num_total
        job.facts |= message.facts
        if not message.is_final:
            self._check_limits(job)
            return False
        if message.traceback:
            _log.error("a job failed\n%s", message.traceback)
            raise RuntimeError("an internal error in a job, see above")
        if message.error is not None:
            raise message.error
        job.problems, job.outputs = message.problems, message.outputs
        return True

    def _check_limits(self, job: Job) -> None:
        """End a job that was cancelled or takes too long, and the process where it does not react."""
        if job.cancelled.is_set():
            with suppress(OSError):
                assert self._requests is not None
                self._requests.send(None)
            self._wait_for_cancel()
            raise JobCancelledError
        if time.monotonic() - job.started_s > self._max_s:
            self.close()
            raise InputError(
                f"the job took longer than {self._max_s / 60:g} minutes, the most that this page allows: cut the film, "
                "start `femae app` with a larger --max-job-minutes, or use `femae predict`"
            )

    def _wait_for_cancel(self) -> None:
        """Discard messages up to the final one; kill the process after a timeout."""
        deadline = time.monotonic() + _EXIT_TIMEOUT_S
        assert self._messages is not None
        with suppress(EOFError, OSError):
            while time.monotonic() < deadline:
                if self._messages.poll(_POLL_S) and self._messages.recv().is_final:
                    return
        self.close()


def _explain_exit(status: int | None, *, memory_mb: float) -> str:
    """One sentence for the user about a process that ended with `status` (negative: a signal) during a job."""
    advice = "the file is damaged, or too large; convert it (to H.264, for instance) or make it smaller, and try again"
    if status is None or status >= 0:
        return f"the program that read it ended unexpectedly (status {status}): {advice}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    if name == "SIGKILL":
        return f"the program that read it was killed by the system (SIGKILL), usually for lack of memory: {advice}"
    limit = f" (it may take {memory_mb:g} MB)" if name == "SIGABRT" else ""
    return f"the program that read it crashed ({name}){limit}: {advice}"


def _worker_main(requests: Connection, messages: Connection, worker: Worker, memory_mb: float) -> None:
    """Main function of the worker process: runs requested jobs until the server closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the server
    with suppress(FemaeError):  # the first job will raise it again
        worker.load()
    return_large_blocks()
    _limit_memory(memory_mb)
    inbox = _Inbox()
    threading.Thread(target=_receive_requests, args=(requests, inbox), daemon=True).start()
    while True:
        request, cancelled = inbox.next()
        job = Job(
            id=request.id,
            folder=request.folder,
            model=request.model,
            detect=request.detect,
            rules=request.rules,
            labels=request.labels,
            uploads=request.uploads,
            cancelled=cancelled,
        )
        _run_job(job, worker, messages)


class _Inbox:
    """The request received last, and whether it was cancelled; shared by the receiving and the working thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._request: _Request | None = None
        self._cancelled = threading.Event()  # of the request received last, taken or not

    def put(self, request: _Request | None) -> None:
        """Add a request; None cancels the last one."""
        with self._change:
            if request is None:
                self._cancelled.set()
                return
            self._request, self._cancelled = request, threading.Event()
            self._change.notify()

    def next(self) -> tuple[_Request, threading.Event]:
        """Wait for the next request; returns it with the event that is set when it is cancelled."""
        with self._change:
            while self._request is None:
                self._change.wait()
            request, self._request = self._request, None
            return request, self._cancelled


def _receive_requests(requests: Connection, inbox: _Inbox) -> None:
    """Put requests into the inbox; exits the process when the server has closed its end or died."""
    while True:
        try:
            inbox.put(requests.recv())
        except (EOFError, OSError):
            os._exit(0)


def _run_job(job: Job, worker: Worker, messages: Connection) -> None:
    """Run one job, sending progress messages from a thread meanwhile and the final message at the end."""
    ended = threading.Event()

    def send_progress() -> None:
        while not ended.wait(_PROGRESS_S):
            messages.send(_message(job))

    sender = threading.Thread(target=send_progress, daemon=True)
    sender.start()
    error: FemaeError | None = None
    unexpected = ""
    try:
        worker(job)
    except JobCancelledError:
        pass
    except FemaeError as failure:
        error = failure
    except MemoryError:
        error = InputError("there is not enough memory for this: make the film or the pictures smaller")
    except Exception:
        unexpected = traceback.format_exc()
    ended.set()
    sender.join()
    messages.send(_message(job, is_final=True, error=error, traceback=unexpected))


def _message(job: Job, **end: Any) -> _Message:
    return _Message(
        phase=job.phase,
        num_done=job.num_done,
        num_total=job.num_total,
        facts=dict(job.facts),
        problems=list(job.problems),
        outputs=dict(job.outputs),
        **end,
    )


def _limit_memory(megabytes: float) -> None:
    """Limit the address space to its present size plus `megabytes`; does nothing except on Linux."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + int(megabytes * 1e6)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
