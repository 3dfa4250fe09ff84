"""`femae predict`: every input to its tables and film, one after the other; a bad input never stops the others."""

import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from femae.config.predict import PredictConfig
from femae.errors import FemaeError
from femae.inference.derived.exports import require_exports
from femae.inference.derived.outputs import RunSummary, open_run_summary
from femae.inference.item import ItemOutputs, process_item
from femae.inference.predictor import Predictor, open_source
from femae.inference.sinks import unique_stem
from femae.inference.summary import Summary, passed_over_line
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem, discover

__all__ = ["Finished", "run_predict"]

# (input, its outputs, Arrow schema of its table, call after each frame) -> further outputs
Finished = Callable[[InputItem, ItemOutputs, Any, Callable[[], None]], list[Path]]


class _Voice:
    """What the user hears: progress and problems on stderr, summaries on stdout."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.err = Console(stderr=True, soft_wrap=True, highlight=False)
        self.out = Console(soft_wrap=True, highlight=False)

    def problem(self, text: str) -> None:
        self.err.print(f"femae: {text}", markup=False)

    def summary(self, lines: list[str]) -> None:
        if not self.quiet:
            for line in lines:
                self.out.print(line, markup=False)

    def progress(self, info: SourceInfo) -> AbstractContextManager[Callable[[], None]]:
        """A context that gives the function to call after each frame; silent when not on a terminal."""
        if self.quiet or not self.err.is_terminal:
            return nullcontext(lambda: None)
        return _Bar(self.err, info)


class _Bar:
    """Progress with frames per second and time left."""

    def __init__(self, console: Console, info: SourceInfo) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(escape(info.name), total=info.num_frames, rate="")

    def __enter__(self) -> Callable[[], None]:
        self._progress.start()
        return self._advance

    def _advance(self) -> None:
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, advance=1, rate=f"{speed:.0f} frames/s" if speed else "")

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _run_item(
    item: InputItem,
    *,
    stem: str,
    predictor: Predictor,
    config: PredictConfig,
    voice: _Voice,
    finished: Finished | None,
    run_summary: RunSummary | None,
) -> bool:
    """One input to its outputs; returns whether every frame could be read."""
    film = item.kind == "video"
    with open_source(item) as source, voice.progress(source.info) as advance:
        summary = Summary(item.name, labels=config.labels)

        def count(result: FrameResult) -> None:
            summary.add(result)
            advance()

        done = process_item(
            source,
            item=item,
            stem=stem,
            predictor=predictor,
            out=config.out,
            formats=config.formats,
            video=config.video,
            labels=config.labels,
            on_result=count,
            derived=config.derived,
        )
    if run_summary is not None and done.totals is not None:
        run_summary.add(done.totals)
    for problem in done.problems:
        voice.problem(f"{item.name}: {problem}")
    lines = summary.lines(outputs=done.paths, film=film)  # its speed is that of the prediction alone
    if finished is not None:
        info = replace(source.info, name=f"report of {source.info.name}")
        with voice.progress(info) as advance:
            lines += [f"  -> {path}" for path in finished(item, done, predictor.schema(), advance)]
    voice.summary(lines)
    return not done.problems


def _run_summary(
    config: PredictConfig, predictor: Predictor, *, taken: set[str]
) -> AbstractContextManager[RunSummary | None]:
    """The table over all inputs, where it is asked for; an input of its name gets another."""
    if "summary" not in config.derived.table_names:
        return nullcontext()
    stem = unique_stem("summary", taken=taken)
    return open_run_summary(config.out, stem=stem, formats=config.formats, compounds=predictor.compounds)


def run_predict(config: PredictConfig, *, finished: Finished | None = None) -> int:
    """Run all inputs; returns 0, or 1 when some failed (each is named with its reason).

    `finished` is called for each input whose tables are complete, and may add outputs such as a report.
    """
    voice = _Voice(quiet=config.quiet)
    require_exports(config.derived.export_names)
    predictor = Predictor.from_config(config)
    taken: set[str] = set()
    failed = 0
    items = discover(list(config.inputs))
    with _run_summary(config, predictor, taken=taken) as run_summary:
        for item in items:
            stem = unique_stem(item.stem, taken=taken)
            try:
                complete = _run_item(
                    item,
                    stem=stem,
                    predictor=predictor,
                    config=config,
                    voice=voice,
                    finished=finished,
                    run_summary=run_summary,
                )
                failed += not complete
            except FemaeError as error:
                failed += 1
                voice.problem(str(error))
                if config.debug:
                    voice.err.print("".join(traceback.format_exception(*sys.exc_info())), markup=False)
    if run_summary is not None:
        voice.summary([f"-> {path}" for path in run_summary.paths])
    if line := passed_over_line([suffix for item in items for suffix in item.passed_over]):
        voice.summary([line])
    if failed and len(items) > 1:
        voice.problem(f"{failed} of {len(items)} inputs failed or are incomplete; the others are finished")
    return 1 if failed else 0
