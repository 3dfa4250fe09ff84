"""`femae predict`: every input to its tables and film, one after the other; a bad input never stops the others."""

import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from femae.config.predict import PredictConfig
from femae.errors import FemaeError
from femae.inference.film import annotated_sink
from femae.inference.predictor import Predictor, open_source
from femae.inference.sinks import open_sinks, unique_stem
from femae.inference.summary import Summary
from femae.inference.tables import results_to_batch
from femae.types import FrameResult, SourceInfo
from femae.video.discover import InputItem, discover

__all__ = ["run_predict"]

_ROWS_AT_ONCE = 64  # frames that are turned into table rows together


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


def _run_item(item: InputItem, *, stem: str, predictor: Predictor, config: PredictConfig, voice: _Voice) -> bool:
    """One input to its outputs; returns whether every frame could be read."""
    film = item.kind == "video"
    schema = predictor.schema()
    pending: list[FrameResult] = []
    with ExitStack() as stack:  # closed from last to first: the tables are safe before the film is finished
        source = stack.enter_context(open_source(item))
        summary = Summary(item.name, compounds=predictor.compounds)
        pictures = None
        if config.video:
            pictures = stack.enter_context(
                annotated_sink(config.out, stem=stem, item=item, info=source.info, compounds=predictor.compounds)
            )
        tables = stack.enter_context(open_sinks(config.out, stem=stem, formats=config.formats, schema=schema))
        advance = stack.enter_context(voice.progress(source.info))
        results = stack.enter_context(closing(predictor.run(source, film=film, keep_images=config.video)))
        try:
            for result in results:
                summary.add(result)
                if pictures is not None:
                    pictures.write(result)
                pending.append(result)
                if len(pending) == _ROWS_AT_ONCE:
                    tables.write(results_to_batch(pending, schema=schema))
                    pending = []
                advance()
        except KeyboardInterrupt:  # these rows are complete
            tables.write(results_to_batch(pending, schema=schema))
            raise
        tables.write(results_to_batch(pending, schema=schema))
        outputs = tables.paths + ([pictures.path] if pictures is not None else [])
        problems = list(source.problems)
    for problem in problems:
        voice.problem(f"{item.name}: {problem}")
    voice.summary(summary.lines(outputs=outputs, film=film))
    return not problems


def run_predict(config: PredictConfig) -> int:
    """Run all inputs; returns 0, or 1 when some failed (each is named with its reason)."""
    voice = _Voice(quiet=config.quiet)
    predictor = Predictor.from_config(config)
    taken: set[str] = set()
    failed = 0
    items = discover(list(config.inputs))
    for item in items:
        stem = unique_stem(item.stem, taken=taken)
        try:
            complete = _run_item(item, stem=stem, predictor=predictor, config=config, voice=voice)
            failed += not complete
        except FemaeError as error:
            failed += 1
            voice.problem(str(error))
            if config.debug:
                voice.err.print("".join(traceback.format_exception(*sys.exc_info())), markup=False)
    if failed and len(items) > 1:
        voice.problem(f"{failed} of {len(items)} inputs failed or are incomplete; the others are finished")
    return 1 if failed else 0
