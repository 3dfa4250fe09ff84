"""Jobs of the page: their states, the queue, and the one thread that works through it.

Every job has a folder of its own under one temporary folder. It is removed when the job is deleted, when it expires,
and, with the rest, when the server stops. A job is known only by its id, which nobody can guess.
"""

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from femae.config.predict import DetectConfig, RuleConfig
from femae.errors import FemaeError
from femae.types import LabelView

__all__ = ["Job", "JobCancelledError", "JobQueue", "State", "Upload"]

State = Literal["uploading", "waiting", "running", "done", "failed", "cancelled"]
_OVER = ("done", "failed", "cancelled")
_ABANDONED_S = 600.0  # an upload that nobody goes on with

_log = logging.getLogger(__name__)


class JobCancelledError(Exception):
    """Raised inside the work of a job that was cancelled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """One file of a job."""

    path: Path  # ours, made of a number and a known suffix
    name: str  # as the user calls it; for show only
    num_bytes: int


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One film or set of pictures, with its settings, progress and results."""

    id: str
    folder: Path
    model: Path | None
    detect: DetectConfig
    rules: RuleConfig
    labels: LabelView  # which label is shown
    uploads: list[Upload] = field(default_factory=list)
    num_bytes: int = 0  # of the uploads
    num_begun: int = 0  # uploads, complete or not
    state: State = "uploading"
    phase: str = ""  # what is being done, in words
    message: str = ""  # why it failed
    problems: list[str] = field(default_factory=list)
    num_done: int = 0  # frames
    num_total: int | None = None
    started_s: float = 0.0  # of time.monotonic
    touched_s: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, Path] = field(default_factory=dict)  # by the key in their address
    facts: dict[str, Any] = field(default_factory=dict)  # for the page: kind, number of faces, ...

    @property
    def name(self) -> str:
        if not self.uploads:
            return ""
        return self.uploads[0].name if len(self.uploads) == 1 else f"{len(self.uploads)} pictures"

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    def check(self) -> None:
        """Raise JobCancelledError if the job was cancelled."""
        if self.cancelled.is_set():
            raise JobCancelledError


class JobQueue:
    """Holds the jobs and works through the waiting ones in order, one at a time, in a thread of its own."""

    def __init__(
        self, folder: Path, *, work: Callable[[Job], None], max_jobs: int = 20, keep_s: float = 7200.0
    ) -> None:
        """`folder` exists and is ours; `work` does one job and raises FemaeError where it cannot."""
        self._folder, self._work, self._max_jobs, self._keep_s = folder, work, max_jobs, keep_s
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._change = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="femae-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel everything, wait for the work to let go of its files, and remove them all. May be called twice."""
        with self._change:
            self._stopped = True
            for job in self._jobs.values():
                job.cancelled.set()
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, *, model: Path | None, detect: DetectConfig, rules: RuleConfig, labels: LabelView) -> Job | None:
        """A new job that takes uploads; None: there are too many already."""
        with self._change:
            if len(self._jobs) >= self._max_jobs:
                return None
            job_id = secrets.token_urlsafe(16)
            folder = self._folder / job_id
            job = Job(id=job_id, folder=folder, model=model, detect=detect, rules=rules, labels=labels)
            (job.folder / "in").mkdir(parents=True)
            self._jobs[job_id] = job
            return job

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def submit(self, job: Job) -> None:
        """Put a job whose uploads are complete into the queue."""
        with self._change:
            job.state, job.touched_s = "waiting", time.monotonic()
            self._waiting.append(job)
            self._change.notify_all()

    def position(self, job: Job) -> int:
        """Place in the queue: 1 is next; 0: not waiting."""
        with self._change:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def cancel(self, job: Job) -> None:
        """End a job, now or as soon as its work notices; its files go, its entry stays."""
        with self._change:
            if job.is_over:
                return
            job.cancelled.set()
            if job.state != "running":
                if job in self._waiting:
                    self._waiting.remove(job)
                self._end(job, "cancelled")

    def delete(self, job: Job) -> None:
        """Cancel a job if need be, and forget it with all its files."""
        self.cancel(job)
        with self._change:
            if job.state != "running":  # the worker removes the folder of a running one
                shutil.rmtree(job.folder, ignore_errors=True)
            self._jobs.pop(job.id, None)

    def sweep(self) -> None:
        """Delete finished jobs whose time is over, and uploads that nobody goes on with."""
        now = time.monotonic()
        with self._change:
            old = [
                job
                for job in self._jobs.values()
                if (job.is_over and now - job.touched_s > self._keep_s)
                or (job.state == "uploading" and now - job.touched_s > _ABANDONED_S)
            ]
        for job in old:
            self.delete(job)

    def _end(self, job: Job, state: State, message: str = "") -> None:
        """Set the last state; what was uploaded is not needed any more, and of a job that gave nothing all goes."""
        job.message, job.phase, job.touched_s = message, "", time.monotonic()
        shutil.rmtree(job.folder / "in" if state == "done" else job.folder, ignore_errors=True)
        job.state = state

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._stopped:
                    self._change.wait()
                if self._stopped:
                    return
                job = self._waiting.pop(0)
                job.state, job.started_s = "running", time.monotonic()
            self._do(job)
            with self._change:
                if job.id not in self._jobs:
                    shutil.rmtree(job.folder, ignore_errors=True)

    def _do(self, job: Job) -> None:
        state: State = "failed"
        message = ""
        try:
            self._work(job)
            job.check()
            state = "done"
        except JobCancelledError:
            state = "cancelled"
        except FemaeError as error:
            message = str(error)
        except MemoryError:
            message = "there is not enough memory for this; make the pictures smaller"
        except Exception:  # a fault of ours must not stop the jobs behind it
            _log.exception("a job failed")
            message = "something went wrong inside femae; the window in which it runs shows the details"
        if job.cancelled.is_set() and state != "done":
            state, message = "cancelled", ""
        with self._change:
            self._end(job, state, message)
