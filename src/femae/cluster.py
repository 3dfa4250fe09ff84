"""Jobs on the machines of a Ray cluster: workers keep their networks loaded, and if one dies its job is repeated.

Each worker is a Ray actor that has one job at a time, so no more jobs are under way than there are workers, and memory
here does not grow with their number. A job whose worker or machine dies is given to another worker; one that has cost
several workers their life is given up. What a job leaves behind is the caller's: it must be able to run twice.
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

_MAX_TRIES: Final = 4  # of one job, each time with another worker
_MAX_STARTS: Final = 8  # workers in a row that die before they can do anything
_PATIENCE_S: Final = 30.0  # without any worker before a word is said of it
_ANSWER_S: Final = 10.0  # for a cluster to answer
_ADDRESS: Final = re.compile(r"local|auto|(ray://)?[^\s/:]+:\d+")


class Jobs(Protocol[J_co]):
    """Jobs in order, and their number: a list, or something that reads one after the other."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[J_co]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult(Generic[J, R]):
    """How a job ended: with its result, or with what it raised or why it was given up."""

    job: J
    result: R | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Attempt(Generic[J]):
    job: J
    number: int = 1


def check_address(address: str) -> str:
    """The address as it is. Raises ValueError for what names no cluster."""
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"'{address}' is not a cluster; expected local, auto, HOST:PORT or ray://HOST:PORT")
    return address


class Cluster:
    """A connection to a Ray cluster while the context lasts; `local` is one of this machine's cores, for this run."""

    def __init__(
        self,
        address: str,
        *,
        num_workers: int | None = None,
        threads: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`num_workers`: default as many as the cluster has room for now; more are waited for (autoscalers add nodes).

        `threads`: cores of each worker. `say` hears of workers that died and of long waits. Raises ConfigError where no
        cluster answers, MissingDependencyError.
        """
        try:
            import ray
        except ImportError:
            raise MissingDependencyError("--cluster needs Ray: pip install 'femae[ray]'") from None
        self._ray: Any = ray
        self._say, self._threads = say, threads
        self._own = not ray.is_initialized()
        if self._own:
            _connect(ray, address)
        cores = self._ray.cluster_resources().get("CPU", 0.0)
        self.num_workers = num_workers or max(int(cores / threads), 1)
        self._idle: list[Any] = []
        self._flights: dict[Any, tuple[Any, _Attempt[Any] | None]] = {}  # future -> worker, its job or None: it starts
        self._num_failed_starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dismiss()
        if self._own:
            self._ray.shutdown()

    def run(
        self,
        make: Callable[[], Callable[[J], R]],
        jobs: Jobs[J],
        *,
        more: Callable[[JobResult[J, R]], Sequence[J]] = lambda _: (),
    ) -> Iterator[JobResult[J, R]]:
        """Do all jobs and give each as it ends, once, in any order.

        `make` builds, in each worker, what does its jobs; it and the jobs can be pickled. `more`: further jobs that
        follow from one that ended; they are done before those that have not begun. Each job is taken when a worker
        is free for it. Raises what `make` raises, and FemaeError where no worker lives long enough to begin.
        """
        coming = iter(jobs)
        again: deque[_Attempt[J]] = deque()  # done before those that are coming
        num_open = len(jobs)
        actor = self._ray.remote(num_cpus=self._threads, max_restarts=0)(_Worker)
        while num_open:
            while len(self._idle) + len(self._flights) < min(self.num_workers, num_open):
                worker = actor.remote(make, os.fspath(Path.cwd()))
                self._flights[worker.ready.remote()] = (worker, None)
            while self._idle and (attempt := again.popleft() if again else _next(coming)) is not None:
                worker = self._idle.pop()
                self._flights[worker.do.remote(attempt.job)] = (worker, attempt)
            for ended in self._landed(again):
                further = more(ended)
                again.extend(_Attempt(job) for job in further)
                num_open += len(further) - 1
                yield ended
        self._dismiss()

    def _landed(self, again: "deque[_Attempt[Any]]") -> list[JobResult[Any, Any]]:
        """Wait for the next answers; jobs that must be done again go to `again`."""
        futures, _ = self._ray.wait(list(self._flights), num_returns=1, timeout=_PATIENCE_S)
        if not futures and not self._idle and all(attempt is None for _, attempt in self._flights.values()):
            self._say("waiting for a machine of the cluster")
        ended = []
        for future in futures:
            worker, attempt = self._flights.pop(future)
            try:
                answer = self._ray.get(future)
            except self._ray.exceptions.RayError as error:
                with suppress(Exception):
                    self._ray.kill(worker)
                if (given_up := self._lost(attempt, error, again)) is not None:
                    ended.append(given_up)
                continue
            self._num_failed_starts = 0
            self._idle.append(worker)
            if attempt is not None:
                ended.append(JobResult(job=attempt.job, result=answer[0], error=answer[1]))
            elif answer is not None:
                raise answer
        return ended

    def _lost(
        self, attempt: _Attempt[Any] | None, error: Exception, again: "deque[_Attempt[Any]]"
    ) -> JobResult[Any, Any] | None:
        """A worker is gone. Gives the job it had where that is given up."""
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if attempt is None:
            self._num_failed_starts += 1
            if self._num_failed_starts >= _MAX_STARTS:
                raise FemaeError(
                    f"no worker of the cluster survives long enough to start ({reason}): check that all of "
                    "its machines have this version of femae and enough memory"
                ) from error
            return None
        if attempt.number < _MAX_TRIES:
            self._say("a worker of the cluster died; another one takes over its work")
            again.append(_Attempt(attempt.job, attempt.number + 1))
            return None
        sentence = (
            f"{_MAX_TRIES} workers died while processing it, usually for lack of memory or because of a damaged file "
            f"({reason})"
        )
        return JobResult(job=attempt.job, error=FemaeError(sentence))

    def _dismiss(self) -> None:
        """End all workers."""
        for worker in [*self._idle, *(worker for worker, _ in self._flights.values())]:
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(worker)
        self._idle, self._flights = [], {}


class _Worker:
    """One worker, on any machine."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], folder: str) -> None:
        with suppress(OSError):  # where it is not there, paths are absolute or addresses
            os.chdir(folder)
        self._make = make
        self._do: Callable[[Any], Any] | None = None

    def ready(self) -> Exception | None:
        """Load all that the jobs have in common."""
        try:
            self._do = self._make()
        except Exception as error:
            return error
        return None

    def do(self, job: Any) -> tuple[Any, Exception | None]:
        """The result of a job, and what it raised."""
        assert self._do is not None
        try:
            return self._do(job), None
        except Exception as error:
            return None, error


def _next(jobs: Iterator[J]) -> _Attempt[J] | None:
    for job in jobs:
        return _Attempt(job)
    return None


def _connect(ray: Any, address: str) -> None:
    """Raises ConfigError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": num_cores(), "include_dashboard": False}
    try:
        if ":" in address:  # Ray itself would wait for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        ray.init(address=check_address(address), **options)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its client's own
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"no Ray cluster answers at '{address}': {reason}; start one with `ray start --head`, or use local"
        ) from error
