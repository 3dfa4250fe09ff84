"""What `prepare` shows while it works: samples read, then a bar with rate and time left. Only on a terminal."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["PrepareProgress"]


class PrepareProgress:
    """Counts always; draws only on a terminal. Context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = Console(stderr=True)
        self.num_samples = 0  # seen by this run
        self.num_faces = 0  # found by this run
        self._started = time.perf_counter()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def reading(self, source: str, count: int) -> None:
        """Samples of a data set that were read so far."""
        if self._task is None:
            self._task = self._progress.add_task("", total=0, rate="")
        self._progress.update(self._task, description=f"reading {source}", completed=count, total=count)

    def start(self, num_samples: int) -> None:
        """The work begins: so many pictures are to be seen."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._started = time.perf_counter()
        self._task = self._progress.add_task("faces", total=num_samples, rate="")

    def update(self, num_samples: int, num_faces: int) -> None:
        self.num_samples, self.num_faces = num_samples, num_faces
        if self._task is not None:
            rate = num_faces / max(time.perf_counter() - self._started, 1e-9)
            self._progress.update(self._task, completed=num_samples, rate=f"{rate:,.0f} faces/s")
