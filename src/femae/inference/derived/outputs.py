"""Writes the derived tables of one input while its frames arrive, and the summary over all inputs of a run.

Segments are also exported for annotation programs: ELAN (.eaf), Praat (.TextGrid), both with a tier per face, and
WebVTT subtitles (.vtt). ELAN and Praat get every segment; subtitles leave `none` out. Times are those of the film, in
milliseconds.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from femae.config.predict import DerivedConfig
from femae.errors import MissingDependencyError, OutputError
from femae.files import replacing
from femae.inference.derived.frames import Durations, TimedFrame, seen
from femae.inference.derived.segments import (
    SEGMENT_SCHEMA,
    WINDOW_SCHEMA,
    Segment,
    Segments,
    Windows,
    segment_batch,
    window_batch,
)
from femae.inference.derived.totals import Totals, totals_schema
from femae.inference.sinks import TableSink, open_sinks
from femae.labels import NO_EXPRESSION, Compound
from femae.types import FrameResult
from femae.video.discover import InputItem

__all__ = ["DerivedOutputs", "RunSummary", "open_derived", "open_run_summary", "require_exports", "write_export"]

_ROWS_PER_BATCH = 256


class DerivedOutputs:
    """Feeds the results of one input to its derived tables and files."""

    def __init__(self, name: str, *, compounds: tuple[Compound, ...], film: bool) -> None:
        self.paths: list[Path] = []
        self.totals = Totals(name, compounds=compounds, film=film)
        self._film = film
        self._durations = Durations()
        self._consumers: list[Callable[[TimedFrame], None]] = [self.totals.push]
        self._finishers: list[Callable[[], None]] = []

    def add(self, result: FrameResult) -> None:
        """One frame, in order."""
        frame = seen(result)
        self.totals.count(frame)
        if self._film and (moment := self._durations.push(frame)) is not None:
            self._consume(moment)

    def finish(self) -> None:
        """Write the last frame and everything still open."""
        if (moment := self._durations.finish()) is not None:
            self._consume(moment)
        for finish in self._finishers:
            finish()

    def _consume(self, moment: TimedFrame) -> None:
        for consume in self._consumers:
            consume(moment)

    def to_table(self, sink: TableSink, maker: Any, batch: Callable[[list[Any]], pa.RecordBatch]) -> None:
        """Write the rows that `maker` (Segments or Windows) yields to a table."""
        pending: list[Any] = []

        def write(rows: Iterator[Any], *, flush: bool = False) -> None:
            pending.extend(rows)
            if pending and (flush or len(pending) >= _ROWS_PER_BATCH):
                sink.write(batch(pending))
                pending.clear()

        self._consumers.append(lambda moment: write(maker.push(moment)))
        self._finishers.append(lambda: write(maker.finish(), flush=True))
        self.paths += sink.paths

    def to_files(self, maker: Segments, write: Callable[[list[Segment]], list[Path]]) -> None:
        """Collect all segments and write them to files at the end, for formats that cannot be streamed."""
        collected: list[Segment] = []

        def finish() -> None:
            collected.extend(maker.finish())
            self.paths += write(collected)

        self._consumers.append(lambda moment: collected.extend(maker.push(moment)))
        self._finishers.append(finish)


@contextmanager
def open_derived(
    config: DerivedConfig,
    folder: Path,
    *,
    stem: str,
    item: InputItem,
    formats: Sequence[str],
    compounds: tuple[Compound, ...],
) -> Iterator[DerivedOutputs]:
    """Opens the requested derived outputs of one input: `<stem>.segments.csv`, `<stem>.windows.csv`, `<stem>.eaf` ...

    Pictures have only totals. After Ctrl-C complete rows are kept, as in the main table, but no exports are written.
    """
    film, media = item.kind == "video", item.address or item.paths[0]
    outputs = DerivedOutputs(item.name, compounds=compounds, film=film)
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
    """`summary.csv`: the totals of each input."""

    def __init__(self, sink: TableSink, *, schema: pa.Schema) -> None:
        self.paths = sink.paths
        self._sink, self._schema = sink, schema

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of one input (Totals.rows), with its further columns."""
        self._sink.write(pa.RecordBatch.from_pylist(rows, schema=self._schema))


@contextmanager
def open_run_summary(
    folder: Path, *, stem: str, formats: Sequence[str], compounds: tuple[Compound, ...], further: Sequence[str] = ()
) -> Iterator[RunSummary]:
    """Opens the summary of a run, which gets its final name when complete. `further`: text columns after its own."""
    schema = totals_schema(compounds)
    for name in further:
        schema = schema.append(pa.field(name, pa.string()))
    with open_sinks(folder, stem=stem, formats=formats, schema=schema) as sink:
        yield RunSummary(sink, schema=schema)


_SUFFIX: Final = {"elan": ".eaf", "textgrid": ".TextGrid", "webvtt": ".vtt"}


def require_exports(names: Sequence[str]) -> None:
    """Raises MissingDependencyError, before any work, if the package that writes them is not installed."""
    if {"elan", "textgrid"} & set(names) and find_spec("pympi") is None:
        raise MissingDependencyError("files for ELAN and Praat need pympi-ling: pip install 'femae[exports]'")


def write_export(name: str, folder: Path, *, stem: str, segments: Sequence[Segment], media: Path) -> Path:
    """Write one of config.predict.EXPORTS, whole or not at all; media: path of the film. Raises OutputError."""
    write = {"elan": _elan, "textgrid": _textgrid, "webvtt": _webvtt}[name]
    path = folder / f"{stem}{_SUFFIX[name]}"
    try:
        with replacing(path) as partial:
            partial.unlink(missing_ok=True)
            write(partial, sorted(segments, key=lambda segment: (segment.start_s, segment.face_id)), media)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another output folder") from error
    return path


def _pympi() -> Any:
    """pympi, which has no type annotations."""
    return import_module("pympi")


def _tiers(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    tiers: dict[str, list[Segment]] = {}
    for segment in segments:
        tiers.setdefault(f"face {segment.face_id}", []).append(segment)
    return tiers


def _milliseconds(segment: Segment) -> tuple[int, int]:
    """Start and end, at least 1 ms apart."""
    start = round(1000 * segment.start_s)
    return start, max(start + 1, round(1000 * segment.end_s))


def _elan(path: Path, segments: Sequence[Segment], media: Path) -> None:
    file = _pympi().Eaf(author="femae")
    file.remove_tier("default")
    file.add_linked_file(str(media), mimetype="video/mp4" if media.suffix.lower() == ".mp4" else "video/*")
    for tier, own in _tiers(segments).items():
        file.add_tier(tier)
        for segment in own:
            start, end = _milliseconds(segment)
            file.add_annotation(tier, max(0, start), max(1, end), value=segment.expression)
    file.to_file(str(path))


def _textgrid(path: Path, segments: Sequence[Segment], _media: Path) -> None:
    ends = [_milliseconds(segment) for segment in segments]
    first, last = min([0, *(start for start, _ in ends)]), max([1, *(end for _, end in ends)])
    file = _pympi().TextGrid(xmin=first / 1000, xmax=last / 1000)
    for name, own in _tiers(segments).items():
        tier = file.add_tier(name)
        for segment in own:
            start, end = _milliseconds(segment)
            tier.add_interval(start / 1000, end / 1000, segment.expression, check=False)
    file.to_file(str(path), codec="utf-8")


def _webvtt(path: Path, segments: Sequence[Segment], _media: Path) -> None:
    several = len({segment.face_id for segment in segments}) > 1
    cues = ["WEBVTT\n"]
    for segment in segments:
        if segment.expression != NO_EXPRESSION:
            start, end = (_clock(time) for time in _milliseconds(segment))
            who = f"face {segment.face_id}: " if several else ""
            cues.append(f"{start} --> {end}\n{who}{segment.expression} {segment.mean_probability:.0%}\n")
    path.write_text("\n".join(cues), encoding="utf-8")


def _clock(milliseconds: int) -> str:
    """hh:mm:ss.mmm; negative times become 0."""
    seconds, rest = divmod(max(0, milliseconds), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"
