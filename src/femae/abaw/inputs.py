"""Reads the inputs on the command line as one film per video: tables as they are, films and pictures with the model."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from femae.abaw.film import COLUMNS, TABLE_SUFFIXES, Film, film_from_table, read_table
from femae.config.abaw import WriteConfig
from femae.errors import ConfigError, DataError, InputError

if TYPE_CHECKING:
    from femae.inference.predictor import Predictor
    from femae.video.discover import InputItem

__all__ = ["VideoInput", "find_inputs", "name_videos", "read_films"]

_FRAMES_PER_BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInput:
    """One video: a table of predictions, or a film or folder of pictures to predict."""

    stem: str  # file name without suffix, folder name
    table: Path | None = None
    item: "InputItem | None" = None


def find_inputs(texts: Sequence[str]) -> list[VideoInput]:
    """Find tables, folders of tables, and all inputs of `femae predict`, in the order given.

    In a folder with tables all other files are ignored; of several formats of one stem the most precise one is taken:
    parquet, jsonl, csv. Raises InputError if an input cannot be read.
    """
    from femae.video.discover import discover, natural_key

    found: list[VideoInput] = []
    for text in texts:
        path = Path(text).expanduser()
        inside = [child for child in path.iterdir() if _is_table(child)] if path.is_dir() else []
        if path.is_file() and _is_table(path):
            found.append(VideoInput(stem=path.stem, table=path))
        elif inside:
            inside.sort(key=lambda child: TABLE_SUFFIXES.index(child.suffix))
            by_stem: dict[str, Path] = {}
            for child in inside:
                by_stem.setdefault(child.stem, child)
            tables = sorted(by_stem.values(), key=natural_key)
            found += [VideoInput(stem=table.stem, table=table) for table in tables]
        else:
            items = discover([text])
            errors = [item.error for item in items if item.kind == "error"]
            if errors:
                raise InputError("; ".join(errors))
            found += [VideoInput(stem=item.stem, item=item) for item in items]
    return found


def name_videos(
    inputs: Sequence[VideoInput], *, known: Sequence[str] | None, names: Path | None
) -> dict[str, VideoInput]:
    """The input of each video, by the video's name in the label file.

    A video has the name of its file, or the one in `names` (rows `stem,video`). known: videos of the template, so that
    a file 1 is also found for 01. Raises DataError for two files of one video, a name that is invalid in a row, or an
    unused row of `names`.
    """
    renamed = _read_names(names) if names is not None else {}
    unused = set(renamed) - {item.stem for item in inputs}
    if unused:
        raise DataError(f"{names} lists '{min(unused)}', but no input has that name")
    by_number = {int(name): name for name in known or () if name.isdecimal() and name.isascii()}
    videos: dict[str, VideoInput] = {}
    for entry in inputs:
        video = renamed.get(entry.stem, entry.stem)
        if known is not None and video not in known and video.isdecimal() and video.isascii():
            video = by_number.get(int(video), video)
        if any(character in ",/\\" or character.isspace() for character in video) or not video:
            raise DataError(
                f"'{video}' cannot be the name of a video, which appears in rows such as "
                f"01/00001.jpg,3: rename the file"
            )
        if video in videos:
            raise DataError(
                f"two inputs have the video name {video}: give each video once ({entry.stem}, {videos[video].stem})"
            )
        videos[video] = entry
    return videos


def read_films(videos: dict[str, VideoInput], *, config: WriteConfig) -> Iterator[tuple[str, Film, list[str]]]:
    """Yields each video with its film and sentences about problems.

    The model is loaded only if a video needs it; frames are streamed, never all in memory. Raises InputError,
    DataError, ConfigError, ModelError.
    """
    predictor = None
    if any(entry.item is not None for entry in videos.values()):
        from femae.inference.predictor import Predictor

        predictor = Predictor(model=config.model, threads=config.threads, **config.detect.model_dump())
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=config.quiet or not console.is_terminal
    ) as progress:
        for number, (video, entry) in enumerate(videos.items(), start=1):
            if entry.table is not None:
                yield video, film_from_table(read_table(entry.table), name=str(entry.table)), []
                continue
            assert entry.item is not None and predictor is not None
            task = progress.add_task(escape(f"{entry.stem} ({number} of {len(videos)})"), total=None)

            def advance(total: int | None, task: TaskID = task) -> None:
                progress.update(task, advance=1, total=total)

            table, problems = _predict(entry.item, predictor=predictor, advance=advance)
            progress.remove_task(task)
            yield video, film_from_table(table, name=entry.item.name), problems


def _predict(
    item: "InputItem", *, predictor: "Predictor", advance: Callable[[int | None], None]
) -> tuple[pa.Table, list[str]]:
    """The table of one film or folder of pictures, and its problems."""
    from femae.inference.predictor import open_source
    from femae.inference.tables import results_to_batch

    schema = predictor.schema()
    columns = [*COLUMNS, *predictor.engine.spec.au_names]
    batches, pending = [], []
    with (
        open_source(item) as source,
        closing(predictor.run(source, film=item.kind == "video", keep_images=False)) as results,
    ):
        for result in results:
            pending.append(result)
            advance(source.info.num_frames)
            if len(pending) == _FRAMES_PER_BATCH:
                batches.append(results_to_batch(pending, schema=schema).select(columns))
                pending = []
        problems = list(source.problems)
    batches.append(results_to_batch(pending, schema=schema).select(columns))
    return pa.Table.from_batches(batches), problems


def _is_table(path: Path) -> bool:
    return path.suffix in TABLE_SUFFIXES


def _read_names(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the name") from error
    names: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or row[0].strip() in names:
            raise ConfigError(f"{path}, row {number}: expected `file name without suffix,video`, each file once")
        names[row[0].strip()] = row[1].strip()
    return names
