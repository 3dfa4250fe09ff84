"""From the inputs on the command line to films and sets of pictures."""

import glob
import os
import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Final, Literal
from urllib.parse import unquote

from PIL import Image

from femae.config.storage import is_remote
from femae.disk_table import DiskTable
from femae.errors import FemaeError
from femae.video.path_table import Columns, is_path_table, read_path_table
from femae.video.storage import address, file_name, forget_listings, is_address, list_folder, matches, remote_kind

__all__ = [
    "HEIF_SUFFIXES",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "InputItem",
    "discover",
    "discover_each",
    "in_natural_order",
    "natural_key",
]

# fmt: off
HEIF_SUFFIXES: Final = frozenset((".heic", ".heif"))  # of phones; read with the extra femae[heic]
PICTURE_SUFFIXES: Final = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
    ".avif", ".jp2", ".heic", ".heif",
))
VIDEO_SUFFIXES: Final = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".ts", ".mts",
    ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".divx", ".dv", ".mxf", ".y4m", ".mjpg",
    ".mjpeg", ".gif",
))
# fmt: on
_FEW: Final = 5000  # paths that are sorted in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class InputItem:
    """One source of frames: a film, a set of pictures, or an input that is neither and why."""

    kind: Literal["video", "pictures", "error"]
    name: str  # for messages: the path or address as given
    stem: str  # for outputs: file name without suffix, folder name, name of a table of pictures, or "pictures"
    paths: tuple[Path, ...] = ()  # one for a film; pictures in natural order; in a store, universal_pathlib's
    error: str = ""  # one sentence
    skipped: tuple[str, ...] = ()  # suffixes of the files of its folder that are neither pictures nor films
    columns: Columns = ()  # further columns of the table that named it; of pictures those in which all agree
    address: Path | None = None  # of a film in a store, where paths hold its local copy


def discover(inputs: Sequence[str]) -> list[InputItem]:
    """Files, folders, glob patterns, addresses and tables of them as items, in order; no file is taken twice.

    A film is an item of its own, a GIF too. The pictures of a folder (not of its subfolders) are one item; so are all
    pictures named one by one, by a pattern too, and all that one table names. What cannot be used becomes an item of
    kind "error", so that the other inputs still run.
    """
    return [item for _, item in sorted(discover_each(inputs), key=lambda placed: placed[0])]


def discover_each(inputs: Sequence[str]) -> Iterator[tuple[int, InputItem]]:
    """As `discover`, (place from 0, item) as they are found; memory does not grow with the rows of a table of films.

    Pictures that are named one by one come last, with the place where the first of them stood.
    """
    forget_listings()
    with DiskTable() as seen:
        found = _Found(seen)
        for text in inputs:
            if not is_path_table(text):
                yield from found.take(text, _expand(text))
                continue
            try:
                for entry in read_path_table(text):
                    yield from found.take(
                        entry.path, _expand(entry.path, ask=False), table=text, columns=entry.columns, place=entry.place
                    )
            except FemaeError as error:
                yield found.placed(InputItem(kind="error", name=text, stem=_stem(Path(text)), error=str(error)))
        yield from found.single_pictures()


class _Found:
    """Gives items their places, in the order in which they were named, and gathers pictures named one by one."""

    def __init__(self, seen: DiskTable) -> None:
        self._num = 0
        self._seen = seen
        self._single: dict[str, tuple[int, list[tuple[Path, Columns]]]] = {}  # by table, empty without one

    def take(
        self,
        text: str,
        paths: Iterator[tuple[Path, str]],
        *,
        table: str = "",
        columns: Columns = (),
        place: str = "",
    ) -> Iterator[tuple[int, InputItem]]:
        """What one text stands for; `table`, `columns` and `place` tell of the table that names it."""
        try:
            for path, problem in paths:
                if problem:
                    yield self.placed(_problem(text, path, place + problem))
                elif _is_folder(path):
                    for item in _from_folder(path, self._seen):
                        yield self.placed(replace(item, columns=columns))
                elif not _is_new(path, self._seen):
                    continue
                elif not _is_picture(path):
                    yield self.placed(replace(_video(path), columns=columns))
                elif table in self._single:
                    self._single[table][1].append((path, columns))
                else:
                    self._single[table] = (self._next(), [(path, columns)])
        except FemaeError as error:
            yield self.placed(_problem(text, Path(text), place + str(error)))

    def placed(self, item: InputItem) -> tuple[int, InputItem]:
        return self._next(), item

    def single_pictures(self) -> Iterator[tuple[int, InputItem]]:
        for table, (number, found) in self._single.items():
            yield number, _pictures(table, found)

    def _next(self) -> int:
        self._num += 1
        return self._num - 1


def _problem(text: str, path: Path, problem: str) -> InputItem:
    return InputItem(kind="error", name=text, stem=_stem(path), error=problem)


def _pictures(table: str, found: list[tuple[Path, Columns]]) -> InputItem:
    """The pictures that were named one by one, or by one table."""
    common = set(found[0][1]).intersection(*(columns for _, columns in found))
    return InputItem(
        kind="pictures",
        name=table or "pictures",
        stem=_stem(Path(table)) if table else "pictures",
        paths=tuple(path for path, _ in found),
        columns=tuple(pair for pair in found[0][1] if pair in common),
    )


def _expand(text: str, *, ask: bool = True) -> Iterator[tuple[Path, str]]:
    """Existing files and folders that an input stands for, or the input with a sentence on what is wrong.

    Without `ask` no store is asked whether it has what is a film or picture by its name: of a million addresses in a
    table those that are missing are found when their turn comes.
    """
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for an unknown user
    if text and _exists(path):
        yield path, "" if path.is_file() or path.is_dir() else f"'{text}' is neither a file nor a folder"
    elif text.startswith("file://"):
        yield from _expand(unquote(text.removeprefix("file://")))
    elif is_address(text):
        yield from _expand_address(text, ask=ask)
    elif glob.has_magic(text):
        yield from _matching(text, path, map(Path, glob.iglob(str(path), recursive=True)))  # noqa: PTH207
    else:
        yield path, f"'{text}' does not exist: check the name and the folder you are in"


def _expand_address(text: str, *, ask: bool) -> Iterator[tuple[Path, str]]:
    path = address(text)
    if (not ask and not glob.has_magic(text) and _is_known(path)) or remote_kind(path):
        yield path, ""
    elif glob.has_magic(text):
        yield from _matching(text, path, matches(text))
    else:
        yield path, f"'{text}' does not exist: check the address"


def _matching(text: str, path: Path, found: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The matches of a pattern that are meant, or the pattern with a sentence on what is wrong."""
    num_found = num_meant = 0

    def meant() -> Iterator[Path]:
        nonlocal num_found
        for match in found:
            num_found += 1
            if _is_meant(match, folders="**" not in text):
                yield match

    for match in in_natural_order(meant()):
        num_meant += 1
        yield match, ""
    if not num_meant:
        what = "picture or film" if num_found else "file"
        yield path, f"'{text}' matches no {what}: check the pattern and the folder you are in"


def _is_meant(match: Path, *, folders: bool) -> bool:
    """Whether a pattern means this match: a picture, a film or, unless it searches subfolders itself, a folder."""
    if is_remote(match):
        return _is_picture(match) or _is_video_name(match)
    if match.is_dir():
        return folders
    return match.is_file() and (_is_picture(match) or _is_video_name(match))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _is_folder(path: Path) -> bool:
    if is_remote(path):
        return not _is_known(path) and remote_kind(path) == "folder"
    return path.is_dir()


def _is_known(path: Path) -> bool:
    """A film or picture by its name."""
    return _suffix(path) in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def _files_of(folder: Path) -> Iterator[Path]:
    """Its visible files in natural order. Raises PermissionError, InputError before the first."""
    if is_remote(folder):
        return in_natural_order(path for path in list_folder(folder) if file_name(path)[:1] != ".")
    return in_natural_order(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def _from_folder(folder: Path, seen: DiskTable) -> Iterator[InputItem]:
    """The pictures of a folder as one item, then each of its films."""
    stem = (PurePosixPath(str(folder)).name if is_remote(folder) else folder.resolve().name) or "pictures"
    try:
        yield from _items_of(folder, stem, seen)
    except PermissionError:
        error = f"the folder '{folder}' may not be read: ask its owner for permission"
        yield InputItem(kind="error", name=str(folder), stem=stem, error=error)


def _items_of(folder: Path, stem: str, seen: DiskTable) -> Iterator[InputItem]:
    pictures, others = list[Path](), list[str]()
    with DiskTable() as videos:
        for path in _files_of(folder):
            if _is_picture(path):
                pictures.append(path)
            elif _is_video_name(path):
                videos.put(len(videos), pickle.dumps(path))
            elif not _is_system(path):
                others.append(_suffix(path))
        if not pictures and not len(videos):
            error = f"the folder '{folder}' holds neither pictures nor films; subfolders are not searched, name them"
            yield InputItem(kind="error", name=str(folder), stem=stem, error=error)
            return
        skipped = tuple(others)
        new = tuple(path for path in pictures if _is_new(path, seen))
        if new:
            yield InputItem(kind="pictures", name=str(folder), stem=stem, paths=new, skipped=skipped)
            skipped = ()
        for number in range(len(videos)):
            path = pickle.loads(videos.get(number) or b"")
            if _is_new(path, seen):
                yield replace(_video(path), skipped=skipped)
                skipped = ()


def _is_system(path: Path) -> bool:
    """Files that a system keeps beside pictures for itself."""
    return file_name(path).lower() in ("thumbs.db", "desktop.ini")


def _video(path: Path) -> InputItem:
    return InputItem(kind="video", name=str(path), stem=_stem(path), paths=(path,))


def _stem(path: Path) -> str:
    return PurePosixPath(file_name(path)).stem


def _suffix(path: Path) -> str:
    return PurePosixPath(file_name(path)).suffix.lower()


def _is_new(path: Path, seen: DiskTable) -> bool:
    """Whether this file comes for the first time, also under another name for its folder."""
    real = str(path) if is_remote(path) else os.path.normcase(path.resolve())
    if real in seen:
        return False
    seen.add(real)
    return True


def _is_picture(path: Path) -> bool:
    """By the suffix; by the content where the suffix says nothing."""
    suffix = _suffix(path)
    if suffix in PICTURE_SUFFIXES:
        return True
    if suffix in VIDEO_SUFFIXES or is_remote(path):
        return False
    try:
        with Image.open(path) as image:
            return image.format != "GIF"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_video_name(path: Path) -> bool:
    """By the suffix; `.ts` is also the suffix of program texts, so the first byte must be a transport stream's."""
    suffix = _suffix(path)
    if suffix == ".ts" and not is_remote(path):
        try:
            with path.open("rb") as file:
                return file.read(1) == b"\x47"
        except OSError:
            return True  # opening it as a film will say what is wrong
    return suffix in VIDEO_SUFFIXES


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts img2 before img10, and does not mind capitals."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], str(path)


def in_natural_order(paths: Iterable[Path]) -> Iterator[Path]:
    """By natural_key, each once. Of many paths of this machine not all are in memory at a time."""
    coming = iter(paths)
    few = list(islice(coming, _FEW + 1))
    if len(few) <= _FEW or is_remote(few[0]):
        yield from sorted({*few, *coming}, key=natural_key)
        return
    with DiskTable() as table:
        for path in chain(few, coming):
            table.add(_sortable(path))
        for text in table.texts():
            yield Path(text.rpartition("\0")[2])


def _sortable(path: Path) -> str:
    """A text that compares as natural_key does, and ends with the path: numbers by length, texts up to a zero."""
    words = re.split(r"(\d+)", str(path).casefold())
    parts = []
    for word in words:
        digits = str(int(word)) if word.isdecimal() else ""
        parts.append(f"{len(digits):05d}{digits}" if digits else f"{word}\0")
    return "".join(parts) + f"\0{path}"
