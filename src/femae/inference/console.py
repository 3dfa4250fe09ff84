"""What a run prints: progress and problems on stderr, a few lines for each input on stdout."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from femae.types import CLEAR_SUM, FaceResult, FrameResult, LabelView, SourceInfo

__all__ = ["RunConsole", "Summary", "skipped_line"]


class RunConsole:
    """Prints messages and results; as a context it also shows progress bars if stderr is a terminal.

    With several inputs a first bar shows inputs done, failures, frames per second and remaining time, estimated from
    the file sizes; each input in progress has a bar of its own below it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.err = Console(stderr=True, soft_wrap=True, highlight=False)
        self.out = Console(soft_wrap=True, highlight=False)
        self._bars: Progress | None = None
        self._total_task: TaskID | None = None
        self._counts = [0, 0, 0]  # done, failed, total
        self._frames, self._started = 0, time.perf_counter()

    def problem(self, text: str) -> None:
        """Print an error to stderr, even when quiet."""
        with self._bars_hidden():
            self.err.print(f"femae: {text}", markup=False)

    def note(self, text: str) -> None:
        """Print information for the user to stderr, unless quiet."""
        if not self.quiet:
            with self._bars_hidden():
                self.err.print(f"femae: {text}", markup=False)

    def trace(self, text: str) -> None:
        """Print the traceback of an error to stderr."""
        with self._bars_hidden():
            self.err.print(text, markup=False)

    def summary(self, lines: list[str]) -> None:
        """Print results to stdout, unless quiet."""
        if not self.quiet and lines:
            with self._bars_hidden():
                for line in lines:
                    self.out.print(line, markup=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._total_task = None

    def expect(self, *, num_inputs: int, num_bytes: int) -> None:
        """Start the progress bars, with one for all inputs if there are several."""
        if self.quiet or not self.err.is_terminal:
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        # lines printed to stdout must not be redirected to the bars' stderr
        self._bars = Progress(*columns, console=self.err, transient=True, redirect_stdout=False)
        self._counts = [0, 0, num_inputs]
        if num_inputs > 1:
            self._total_task = self._bars.add_task("all inputs", total=max(num_bytes, 1), count="", rate="")
        self._bars.start()
        self._update_total()

    def input_done(self, num_bytes: int, *, failed: bool, num_frames: int = 0) -> None:
        """Count an input that has ended; num_frames: of its frames that `frames_of` did not count."""
        self._counts[0] += 1
        self._counts[1] += failed
        self._frames += num_frames
        if self._bars is not None and self._total_task is not None:
            self._bars.update(self._total_task, advance=num_bytes)
        self._update_total()

    @contextmanager
    def frames_of(self, info: SourceInfo) -> Iterator[Callable[[], None]]:
        """Shows a bar for an input and yields the callback to call after each of its frames."""
        if self._bars is None:
            yield self._count
            return
        bars = self._bars
        task = bars.add_task(escape(info.name), total=info.num_frames, count="", rate="")
        total = "" if info.num_frames is None else f"/{info.num_frames}"
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self._count()
            speed = next((one.speed for one in bars.tasks if one.id == task), None)
            rate = f"{speed:.0f} frames/s" if speed else ""
            bars.update(task, advance=1, count=f"{done}{total}", rate=rate)

        try:
            yield advance
        finally:
            with suppress(KeyError):
                bars.remove_task(task)

    def _count(self) -> None:
        self._frames += 1

    def _update_total(self) -> None:
        if self._bars is None or self._total_task is None:
            return
        done, failed, total = self._counts
        count = f"{done}/{total} inputs" + (f", {failed} failed" if failed else "")
        speed = self._frames / max(time.perf_counter() - self._started, 1e-9)
        self._bars.update(self._total_task, count=count, rate=f"{speed:.0f} frames/s" if self._frames else "")

    @contextmanager
    def _bars_hidden(self) -> Iterator[None]:
        """Hides the bars while something is printed."""
        if self._bars is None:
            yield
            return
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


_WEAK: Final = "nothing clear"
_ABSTAINED: Final = "abstained"


class Summary:
    """Counts the results of one input in constant memory."""

    def __init__(self, name: str, *, labels: LabelView = "expression") -> None:
        self.name, self.view = name, labels
        self.status: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.num_faces = 0
        self.face_ids: set[int] = set()
        self._started = time.perf_counter()

    def add(self, result: FrameResult) -> None:
        self.status[result.status] += 1
        for face in result.faces:
            self.num_faces += 1
            self.face_ids.add(face.face_id)
            self.labels[self._count_as(face)] += 1

    def _count_as(self, face: FaceResult) -> str:
        """The label a face is counted under; compounds of weak faces are counted separately."""
        name, _ = face.label(self.view)
        return _WEAK if self.view == "compound" and face.weak and name else name or _ABSTAINED

    @property
    def num_frames(self) -> int:
        return self.status.total()

    @property
    def num_rows(self) -> int:
        """Rows of the table: one per face, and one per frame without a face."""
        return self.num_faces + self.status["no_face"] + self.status["unreadable"]

    @property
    def seconds(self) -> float:
        """Seconds since the summary was created."""
        return time.perf_counter() - self._started

    def lines(self, *, outputs: list[Path], film: bool, seconds: float | None = None, device: str = "") -> list[str]:
        """The lines to print; `seconds`: processing time, by default until now; `device`: what ran the networks."""
        seconds = self.seconds if seconds is None else seconds
        unit = "frame" if film else "picture"
        frames = f"{self.num_frames} {unit}{'s' * (self.num_frames != 1)}"
        parts = [f"{self.status['ok']} with a face", f"{self.status['no_face']} without"]
        if self.status["unreadable"]:
            parts.append(f"{self.status['unreadable']} unreadable")
        people = f", {len(self.face_ids)} face id{'s' * (len(self.face_ids) != 1)}" if film else ""
        rate = f"{self.num_frames / max(seconds, 1e-9):.0f} {unit}s/s"
        lines = [
            f"{self.name}: {frames} ({', '.join(parts)}){people}, {seconds:.1f} s, {rate}{device and f' on {device}'}"
        ]
        if self.num_faces:
            shares = [f"{name} {count / self.num_faces:.0%}" for name, count in self.labels.most_common()]
            lines.append("  " + ", ".join(shares))
            if self.labels[_WEAK]:
                lines.append(
                    f"  {_WEAK}: the six probabilities sum to less than {CLEAR_SUM}; the table still has the best label"
                )
        lines += [f"  -> {path}" for path in outputs]
        return lines


def skipped_line(suffixes: Iterable[str]) -> str:
    """One line: how many files in the given folders were neither pictures nor films; empty if none."""
    counts = Counter(suffixes)
    if not counts:
        return ""
    kinds = ", ".join(f"{suffix or 'without a suffix'} {count}" for suffix, count in counts.most_common())
    return f"{counts.total()} file{'s' * (counts.total() != 1)} skipped, neither pictures nor films: {kinds}"
