"""Jobs of the page: their states, the queue, and the thread that runs them one at a time.

Every job has its own folder under one temporary folder. It is removed when the job is deleted, when it expires, and
when the server stops. A job can be accessed only by its id, which is random and cannot be guessed.
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
_FINAL_STATES = ("done", "failed", "cancelled")
_ABANDONED_S = 600.0  # without a received byte, after which an unfinished upload is deleted

_log = logging.getLogger(__name__)


class JobCancelledError(Exception):
    """Raised where a job that was cancelled is being processed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """One uploaded file of a job."""

    path: Path  # on the server, built from a number and a known suffix
    name: str  # on the user's computer; only for display
    num_bytes: int


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One film or set of pictures, with its settings, progress and results."""

    id: str
    folder: Path
    model: Path | None
    detect: DetectConfig
    rules: RuleConfig
    labels: LabelView  # which label the annotated film and the page show
    uploads: list[Upload] = field(default_factory=list)
    num_bytes: int = 0  # of the uploads
    num_started: int = 0  # uploads, complete or not
    state: State = "uploading"
    phase: str = ""  # the step under way, in words
    message: str = ""  # why it failed
    problems: list[str] = field(default_factory=list)  # warnings about the result, each a sentence
    num_done: int = 0  # frames
    num_total: int | None = None
    started_s: float = 0.0  # of time.monotonic
    last_activity_s: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    outputs: dict[str, Path] = field(default_factory=dict)  # by their key in the URL
    facts: dict[str, Any] = field(default_factory=dict)  # for the page: kind, number of faces, ...

    @property
    def name(self) -> str:
        """What the page calls the job: its file's name or the number of pictures; empty before an upload."""
        if not self.uploads:
            return ""
        return self.uploads[0].name if len(self.uploads) == 1 else f"{len(self.uploads)} pictures"

    @property
    def is_finished(self) -> bool:
        return self.state in _FINAL_STATES

    def check(self) -> None:
        """Raise JobCancelledError if the job was cancelled."""
        if self.cancelled.is_set():
            raise JobCancelledError


class JobQueue:
    """Holds all jobs and runs the waiting ones in order, one at a time, in its own thread."""

    def __init__(
        self, folder: Path, *, work: Callable[[Job], None], max_jobs: int = 20, keep_s: float = 7200.0
    ) -> None:
        """`folder` exists and is deleted by `stop`; `work` runs one job and raises FemaeError where it fails.

        A finished job is deleted `keep_s` seconds after its end.
        """
        self._folder, self._work, self._max_jobs, self._keep_s = folder, work, max_jobs, keep_s
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._change = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="femae-jobs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Cancel all jobs, wait up to 10 s for the one that runs, and delete all files. May be called twice."""
        with self._change:
            self._stopped = True
            for job in self._jobs.values():
                job.cancelled.set()
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, *, model: Path | None, detect: DetectConfig, rules: RuleConfig, labels: LabelView) -> Job | None:
        """Create a job that accepts uploads; None if there are `max_jobs` already."""
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
        """Append a job whose uploads are complete to the queue."""
        with self._change:
            job.state, job.last_activity_s = "waiting", time.monotonic()
            self._waiting.append(job)
            self._change.notify_all()

    def position(self, job: Job) -> int:
        """Position in the queue, 1 for the next job; 0 if the job does not wait."""
        with self._change:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def cancel(self, job: Job) -> None:
        """Cancel a job; one that runs ends at its next check. Deletes its files and keeps its entry."""
        with self._change:
            if job.is_finished:
                return
            job.cancelled.set()
            if job.state != "running":
                if job in self._waiting:
                    self._waiting.remove(job)
                self._end(job, "cancelled")

    def delete(self, job: Job) -> None:
        """Cancel a job unless it is finished, and delete its entry and files."""
        self.cancel(job)
        with self._change:
            if job.state != "running":  # the queue's thread removes the folder of a running job
                shutil.rmtree(job.folder, ignore_errors=True)
            self._jobs.pop(job.id, None)

    def sweep(self) -> None:
        """Delete expired jobs and abandoned uploads."""
        now = time.monotonic()
        with self._change:
            expired = [
                job
                for job in self._jobs.values()
                if (job.is_finished and now - job.last_activity_s > self._keep_s)
                or (job.state == "uploading" and now - job.last_activity_s > _ABANDONED_S)
            ]
        for job in expired:
            self.delete(job)

    def _end(self, job: Job, state: State, message: str = "") -> None:
        """Set the final state and delete the uploads, or the whole folder of a job without a result."""
        job.message, job.phase, job.last_activity_s = message, "", time.monotonic()
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
            self._run_job(job)
            with self._change:
                if job.id not in self._jobs:
                    shutil.rmtree(job.folder, ignore_errors=True)

    def _run_job(self, job: Job) -> None:
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
        except Exception:  # a bug in one job must not stop the queue
            _log.exception("a job failed")
            message = "something went wrong inside femae; the window in which it runs shows the details"
        if job.cancelled.is_set() and state != "done":
            state, message = "cancelled", ""
        with self._change:
            self._end(job, state, message)
