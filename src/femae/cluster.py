"""Runs jobs on a Ray cluster: workers keep their networks loaded, and the job of a worker that dies is retried.

Each worker is a Ray actor that runs one job at a time, so the number of pending jobs is that of the workers, and memory
here does not grow with the number of jobs. A job whose worker or machine dies is given to another worker; after several
attempts it fails. Jobs must be idempotent, as a failed attempt may leave partial outputs behind.
"""

import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from femae.cores import num_cores
from femae.errors import ConfigError, FemaeError, MissingDependencyError

__all__ = ["Cluster", "JobResult", "Jobs", "check_address"]

J = TypeVar("J")
R = TypeVar("R")
J_co = TypeVar("J_co", covariant=True)

_MAX_ATTEMPTS: Final = 4  # of one job, each with another worker
_MAX_STARTS: Final = 8  # consecutive workers that die while starting
_NOTICE_S: Final = 30.0  # without any worker, after which a message is printed
_CONNECT_TIMEOUT_S: Final = 10.0
_ADDRESS: Final = re.compile(r"local|auto|(ray://)?[^\s/:]+:\d+")


class Jobs(Protocol[J_co]):
    """Jobs in order, with their number: a list, or an object that loads them lazily."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[J_co]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult(Generic[J, R]):
    """The end of a job: its result, or the exception that it raised or that says why it was given up."""

    job: J
    result: R | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Attempt(Generic[J]):
    job: J
    number: int = 1


def check_address(address: str) -> str:
    """Return a valid address unchanged. Raises ValueError for any other text."""
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"'{address}' is not a cluster; expected local, auto, HOST:PORT or ray://HOST:PORT")
    return address


class Cluster:
    """A connection to a Ray cluster, for a `with` block; `local` starts one on this machine for that time."""

    def __init__(
        self,
        address: str,
        *,
        num_workers: int | None = None,
        threads: int = 1,
        on_message: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`num_workers`: by default as many as the cluster has cores for; more wait until an autoscaler adds nodes.

        `threads`: cores of each worker. `on_message` is called with messages about dead workers and long waits. Raises
        ConfigError if the cluster cannot be reached, MissingDependencyError without Ray.
        """
        try:
            import ray
        except ImportError:
            raise MissingDependencyError("--cluster needs Ray: pip install 'femae[ray]'") from None
        self._ray: Any = ray
        self._on_message, self._threads = on_message, threads
        self._owns_connection = not ray.is_initialized()
        if self._owns_connection:
            _connect(ray, address)
        cores = self._ray.cluster_resources().get("CPU", 0.0)
        self.num_workers = num_workers or max(int(cores / threads), 1)
        self._idle: list[Any] = []
        self._pending: dict[Any, tuple[Any, _Attempt[Any] | None]] = {}  # future -> worker, job (None: it is starting)
        self._num_failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill_workers()
        if self._owns_connection:
            self._ray.shutdown()

    def run(
        self,
        make: Callable[[], Callable[[J], R]],
        jobs: Jobs[J],
        *,
        more: Callable[[JobResult[J, R]], Sequence[J]] = lambda _: (),
    ) -> Iterator[JobResult[J, R]]:
        """Run all jobs; yields the result of each once, in the order in which they end.

        `make` is called once in each worker and returns the function that runs its jobs; `make` and the jobs must be
        picklable. `more` returns further jobs that follow from a finished one; they run before those not started. Jobs
        are taken from the iterable only when a worker is free. Raises what `make` raises, and FemaeError if workers
        keep dying while they start.
        """
        remaining = iter(jobs)
        first: deque[_Attempt[J]] = deque()  # retries and further jobs, which run before the remaining ones
        num_open = len(jobs)
        actor = self._ray.remote(num_cpus=self._threads, max_restarts=0)(_Worker)
        while num_open:
            while len(self._idle) + len(self._pending) < min(self.num_workers, num_open):
                worker = actor.remote(make, os.fspath(Path.cwd()))
                self._pending[worker.start.remote()] = (worker, None)
            while self._idle and (attempt := first.popleft() if first else _next(remaining)) is not None:
                worker = self._idle.pop()
                self._pending[worker.run.remote(attempt.job)] = (worker, attempt)
            for ended in self._wait(first):
                further = more(ended)
                first.extend(_Attempt(job) for job in further)
                num_open += len(further) - 1
                yield ended
        self._kill_workers()

    def _wait(self, retries: "deque[_Attempt[Any]]") -> list[JobResult[Any, Any]]:
        """Wait for the next replies; returns finished jobs, and appends jobs of dead workers to `retries`."""
        futures, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=_NOTICE_S)
        if not futures and not self._idle and all(attempt is None for _, attempt in self._pending.values()):
            self._on_message("waiting for a machine of the cluster")
        ended = []
        for future in futures:
            worker, attempt = self._pending.pop(future)
            try:
                reply = self._ray.get(future)
            except self._ray.exceptions.RayError as error:
                with suppress(Exception):
                    self._ray.kill(worker)
                if (given_up := self._on_death(attempt, error, retries)) is not None:
                    ended.append(given_up)
                continue
            self._num_failed_starts = 0
            self._idle.append(worker)
            if attempt is not None:
                ended.append(JobResult(job=attempt.job, result=reply[0], error=reply[1]))
            elif reply is not None:
                raise reply
        return ended

    def _on_death(
        self, attempt: _Attempt[Any] | None, error: Exception, retries: "deque[_Attempt[Any]]"
    ) -> JobResult[Any, Any] | None:
        """Handle the death of a worker: retry its job, or return its failed result after the last attempt."""
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if attempt is None:
            self._num_failed_starts += 1
            if self._num_failed_starts >= _MAX_STARTS:
                raise FemaeError(
                    f"no worker of the cluster survives long enough to start ({reason}): check that all of "
                    "its machines have this version of femae and enough memory"
                ) from error
            return None
        if attempt.number < _MAX_ATTEMPTS:
            self._on_message("a worker of the cluster died; another one takes over its work")
            retries.append(_Attempt(attempt.job, attempt.number + 1))
            return None
        sentence = (
            f"{_MAX_ATTEMPTS} workers died while processing it, usually for lack of memory or because of a damaged "
            f"file ({reason})"
        )
        return JobResult(job=attempt.job, error=FemaeError(sentence))

    def _kill_workers(self) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._pending.values())]:
            with suppress(Exception):  # the connection may be lost
                self._ray.kill(worker)
        self._idle, self._pending = [], {}


class _Worker:
    """The Ray actor that runs jobs, on any machine of the cluster."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        with suppress(OSError):  # if it does not exist there, paths must be absolute or addresses
            os.chdir(folder)
        self._make = make
        self._run_job: Callable[[Any], Any] | None = None

    def start(self) -> Exception | None:
        """Build the function that runs the jobs; returns the exception if that fails."""
        try:
            self._run_job = self._make()
        except Exception as error:
            return error
        return None

    def run(self, job: Any) -> tuple[Any, Exception | None]:
        """The result of a job, or None and the exception that it raised."""
        assert self._run_job is not None
        try:
            return self._run_job(job), None
        except Exception as error:
            return None, error


def _next(jobs: Iterator[J]) -> _Attempt[J] | None:
    """The first attempt of the next job; None if there is none."""
    for job in jobs:
        return _Attempt(job)
    return None


def _connect(ray: Any, address: str) -> None:
    """Connect Ray to a cluster, or start a local one. Raises ConfigError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": num_cores(), "include_dashboard": False}
    try:
        if ":" in address:  # fail early: Ray would wait for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        ray.init(address=check_address(address), **options)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError or an error of Ray's client
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"no Ray cluster answers at '{address}': {reason}; start one with `ray start --head`, or use local"
        ) from error
