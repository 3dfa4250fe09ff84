"""The derived tables of one input, written as its frames come, and the summary of a run over all of its inputs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from femae.config.predict import DerivedConfig
from femae.inference.derived.exports import write_export
from femae.inference.derived.frames import Durations, TimedFrame, seen
from femae.inference.derived.segments import SEGMENT_SCHEMA, Segment, Segments, segment_batch
from femae.inference.derived.totals import Totals, totals_schema
from femae.inference.derived.windows import WINDOW_SCHEMA, Windows, window_batch
from femae.inference.sinks import TableSink, open_sinks
from femae.labels import Compound
from femae.types import FrameResult

__all__ = ["DerivedOutputs", "RunSummary", "open_derived", "open_run_summary"]

_ROWS_AT_ONCE = 256


class DerivedOutputs:
    """Takes the results of one input one by one."""

    def __init__(self, name: str, *, compounds: tuple[Compound, ...], film: bool) -> None:
        self.paths: list[Path] = []
        self.totals = Totals(name, compounds=compounds, film=film)
        self._film = film
        self._durations = Durations()
        self._takers: list[Callable[[TimedFrame], None]] = [self.totals.push]
        self._finishers: list[Callable[[], None]] = []

    def add(self, result: FrameResult) -> None:
        """One frame, in order."""
        frame = seen(result)
        self.totals.count(frame)
        if self._film and (moment := self._durations.push(frame)) is not None:
            self._take(moment)

    def finish(self) -> None:
        """Nothing more comes: the last frame, and all that is still open."""
        if (moment := self._durations.finish()) is not None:
            self._take(moment)
        for finish in self._finishers:
            finish()

    def _take(self, moment: TimedFrame) -> None:
        for take in self._takers:
            take(moment)

    def to_table(
        self,
        sink: TableSink,
        maker: Any,
        batch: Callable[[list[Any]], pa.RecordBatch],
    ) -> None:
        """What `maker` (Segments, Windows) makes of the frames goes to a table."""
        pending: list[Any] = []

        def write(found: Iterator[Any], *, all_of_it: bool = False) -> None:
            pending.extend(found)
            if pending and (all_of_it or len(pending) >= _ROWS_AT_ONCE):
                sink.write(batch(pending))
                pending.clear()

        self._takers.append(lambda moment: write(maker.push(moment)))
        self._finishers.append(lambda: write(maker.finish(), all_of_it=True))
        self.paths += sink.paths

    def to_files(self, maker: Segments, write: Callable[[list[Segment]], list[Path]]) -> None:
        """All segments, gathered, to files that need them together."""
        gathered: list[Segment] = []

        def finish() -> None:
            gathered.extend(maker.finish())
            self.paths += write(gathered)

        self._takers.append(lambda moment: gathered.extend(maker.push(moment)))
        self._finishers.append(finish)


@contextmanager
def open_derived(
    config: DerivedConfig,
    folder: Path,
    *,
    stem: str,
    name: str,
    media: Path,
    formats: Sequence[str],
    compounds: tuple[Compound, ...],
    film: bool,
) -> Iterator[DerivedOutputs]:
    """What the settings ask for of one input: `<stem>.segments.csv`, `<stem>.windows.csv`, `<stem>.eaf` and so on.

    Of pictures there are totals alone. After Ctrl-C complete rows are kept, as of the main table; then there are no
    files of other programs.
    """
    outputs = DerivedOutputs(name, compounds=compounds, film=film)
    with ExitStack() as stack:
        if film and "segments" in config.table_names:
            sink = stack.enter_context(
                open_sinks(folder, stem=f"{stem}.segments", formats=formats, schema=SEGMENT_SCHEMA)
            )
            outputs.to_table(sink, Segments(min_s=config.min_segment), segment_batch)
        if film and config.window is not None:
            sink = stack.enter_context(
                open_sinks(folder, stem=f"{stem}.windows", formats=formats, schema=WINDOW_SCHEMA)
            )
            outputs.to_table(sink, Windows(seconds=config.window), window_batch)
        if film and config.export_names:
            outputs.to_files(
                Segments(min_s=config.min_segment),
                lambda segments: [
                    write_export(kind, folder, stem=stem, segments=segments, media=media)
                    for kind in config.export_names
                ],
            )
        yield outputs
        outputs.finish()


class RunSummary:
    """`summary.csv`: the totals of each input, added when it is done."""

    def __init__(self, sink: TableSink, *, schema: pa.Schema) -> None:
        self.paths = sink.paths
        self._sink, self._schema = sink, schema

    def add(self, rows: list[dict[str, Any]]) -> None:
        """The rows of one input (Totals.rows), with its further columns."""
        self._sink.write(pa.RecordBatch.from_pylist(rows, schema=self._schema))


@contextmanager
def open_run_summary(
    folder: Path, *, stem: str, formats: Sequence[str], compounds: tuple[Compound, ...], further: Sequence[str] = ()
) -> Iterator[RunSummary]:
    """The summary of a run; it stands under its name when it is whole. `further`: columns of text after its own."""
    schema = totals_schema(compounds)
    for name in further:
        schema = schema.append(pa.field(name, pa.string()))
    with open_sinks(folder, stem=stem, formats=formats, schema=schema) as sink:
        yield RunSummary(sink, schema=schema)
