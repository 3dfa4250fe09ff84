"""Writes the outputs of one input: tables in all requested formats, and the annotated film or pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.config.predict import DerivedConfig
from femae.errors import OutputError
from femae.files import replacing
from femae.inference.baseline import BaselineSink
from femae.inference.derived.outputs import open_derived
from femae.inference.derived.totals import Totals
from femae.inference.predictor import Predictor
from femae.inference.sinks import open_sinks
from femae.inference.tables import results_to_batch
from femae.types import FrameResult, LabelView, SourceInfo
from femae.video.discover import InputItem
from femae.video.overlay import draw
from femae.video.source import FrameSource
from femae.video.writer import VideoWriter

__all__ = ["Draw", "ItemOutputs", "OutputSpec", "PictureSink", "annotated_sink", "process_item"]

_FRAMES_PER_BATCH = 64  # frames that are turned into table rows together


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemOutputs:
    """The files written for one input, and the problems with it."""

    tables: list[Path]
    pictures: Path | None  # the annotated film, or the folder of annotated pictures
    problems: list[str]  # sentences
    derived: list[Path] = field(default_factory=list)  # segments, windows and exports
    totals: Totals | None = None  # for the summary of the run

    @property
    def paths(self) -> list[Path]:
        """Every output."""
        return [*self.tables, *self.derived, *([self.pictures] if self.pictures is not None else [])]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSpec:
    """Which outputs are written for one input, where, and under which names."""

    out: Path  # folder
    stem: str  # of all file names
    formats: Sequence[str]  # of the tables
    video: bool  # also write the annotated film or pictures
    labels: LabelView = "expression"  # drawn into the frames
    derived: DerivedConfig = field(default_factory=DerivedConfig)
    shown_names: Mapping[str, str] = field(default_factory=dict)  # file name -> name in the table


def process_item(
    source: FrameSource,
    *,
    item: InputItem,
    predictor: Predictor,
    wanted: OutputSpec,
    on_result: Callable[[FrameResult], None],
    measured: Iterator[FrameResult] | None = None,
) -> ItemOutputs:
    """Run the open source of `item` and write the `wanted` outputs; `on_result` is called after each frame.

    `measured`: results of Predictor.measure, if they exist already; the source is then read only for annotated frames.
    An exception of `on_result` ends the work and leaves no incomplete file, only the complete rows after
    KeyboardInterrupt.
    """
    film, video = item.kind == "video", wanted.video
    with ExitStack() as stack:  # closes the tables first, then the film
        outputs = _Outputs(stack, item=item, info=source.info, predictor=predictor, wanted=wanted)
        if measured is None:
            results: Iterator[FrameResult] = stack.enter_context(
                closing(predictor.run(source, film=film, keep_images=video))
            )
        else:
            results = predictor.finish(_with_images(measured, source) if video else measured, film=film)
        try:
            for result in results:
                outputs.add(result)
                on_result(result)
        except KeyboardInterrupt:  # the rows so far are complete
            outputs.flush()
            raise
        outputs.flush()
        return outputs.written(problems=list(source.problems))


class _Outputs:
    """The open outputs of one input."""

    def __init__(
        self, stack: ExitStack, *, item: InputItem, info: SourceInfo, predictor: Predictor, wanted: OutputSpec
    ) -> None:
        """Open the outputs; `stack` closes them. Raises OutputError."""
        out, stem, formats = wanted.out, wanted.stem, wanted.formats
        self._names, self._schema = wanted.shown_names, predictor.schema()
        self._pending: list[FrameResult] = []
        self._pictures = self._derived = None
        if wanted.video:
            annotate = partial(draw, compounds=predictor.compounds, labels=wanted.labels)
            self._pictures = stack.enter_context(annotated_sink(out, stem=stem, item=item, info=info, draw=annotate))
        if wanted.derived.asked_for:
            self._derived = stack.enter_context(
                open_derived(wanted.derived, out, stem=stem, item=item, formats=formats, compounds=predictor.compounds)
            )
        self._tables = stack.enter_context(
            BaselineSink(out, stem=stem, formats=formats, schema=self._schema, kind=wanted.derived.baseline)
            if wanted.derived.baseline
            else open_sinks(out, stem=stem, formats=formats, schema=self._schema)
        )

    def add(self, result: FrameResult) -> None:
        """Write one frame; frames come in order."""
        if self._pictures is not None:
            self._pictures.write(result)
        if self._derived is not None:
            self._derived.add(result)
        self._pending.append(_renamed(result, self._names) if self._names else result)
        if len(self._pending) == _FRAMES_PER_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the pending rows to the tables."""
        self._tables.write(results_to_batch(self._pending, schema=self._schema))
        self._pending = []

    def written(self, *, problems: list[str]) -> ItemOutputs:
        """The outputs, which get their final names when the stack is closed."""
        return ItemOutputs(
            tables=self._tables.paths,
            pictures=self._pictures.path if self._pictures is not None else None,
            problems=problems,
            derived=[] if self._derived is None else self._derived.paths,
            totals=None if self._derived is None else self._derived.totals,
        )


def _with_images(results: Iterator[FrameResult], source: FrameSource) -> Iterator[FrameResult]:
    """Adds the images of a film's frames to its results, matched by time."""
    frames = iter(source)
    frame = next(frames, None)
    for result in results:
        time_s = result.frame.time_s
        while frame is not None and time_s is not None and frame.time_s is not None and frame.time_s < time_s:
            frame = next(frames, None)
        shown = frame is not None and frame.time_s == time_s
        yield replace(result, frame=replace(result.frame, image=frame.image)) if shown and frame else result


def _renamed(result: FrameResult, names: Mapping[str, str]) -> FrameResult:
    source = names.get(result.frame.source, result.frame.source)
    return replace(result, frame=replace(result.frame, source=source))


# (frame u8[H, W, 3] RGB, its result) -> the annotated frame u8[H, W, 3]
Draw = Callable[[npt.NDArray[np.uint8], FrameResult], npt.NDArray[np.uint8]]


class PictureSink(Protocol):
    """Writes annotated pictures or an annotated film to `path`, one result at a time."""

    path: Path

    def write(self, result: FrameResult) -> None: ...


class _FilmSink:
    """An H.264 film with the source's timing and sound; unreadable frames are black."""

    def __init__(self, writer: VideoWriter, path: Path, info: SourceInfo, draw: Draw) -> None:
        self.path = path
        self._writer, self._info, self._draw = writer, info, draw

    def write(self, result: FrameResult) -> None:
        image = result.frame.image
        if image is None:
            image = np.zeros((self._info.height or 2, self._info.width or 2, 3), np.uint8)
        self._writer.write(result.frame, self._draw(image, result))


class _FolderSink:
    """Annotated copies of pictures, under their own names as PNG."""

    def __init__(self, path: Path, draw: Draw) -> None:
        self.path, self._draw = path, draw
        self._taken: set[str] = set()

    def write(self, result: FrameResult) -> None:
        if result.frame.image is None:
            return
        name = Path(result.frame.source).stem
        number = 1
        while (stem := name if number == 1 else f"{name}-{number}").lower() in self._taken:
            number += 1
        self._taken.add(stem.lower())
        try:
            with replacing(self.path / f"{stem}.png") as partial:
                Image.fromarray(self._draw(result.frame.image, result)).save(partial, format="PNG")
        except OSError as error:
            raise OutputError(f"cannot write {self.path / stem}.png: {error.strerror or error}") from error


@contextmanager
def annotated_sink(folder: Path, *, stem: str, item: InputItem, info: SourceInfo, draw: Draw) -> Iterator[PictureSink]:
    """Opens `<stem>.annotated.mp4` for a film, the folder `<stem>.annotated` for pictures. Raises OutputError."""
    film = item.kind == "video"
    path = folder / (f"{stem}.annotated.mp4" if film else f"{stem}.annotated")
    needed = folder if film else path
    try:
        needed.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {needed}: {error.strerror}; give another --out") from error
    if not film:
        yield _FolderSink(path, draw)
        return
    with VideoWriter(path, info=info, source_path=item.paths[0]) as writer:
        yield _FilmSink(writer, path, info, draw)
