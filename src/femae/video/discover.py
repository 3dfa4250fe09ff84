"""Resolves the inputs of the command line (files, folders, patterns, addresses, tables) to films and pictures."""

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
HEIF_SUFFIXES: Final = frozenset((".heic", ".heif"))  # pictures of phones; need the extra femae[heic]
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
_MAX_IN_MEMORY: Final = 5000  # paths; more are sorted on disk


@dataclass(frozen=True, kw_only=True, slots=True)
class InputItem:
    """One source of frames: a film, a set of pictures, or an error for an input that is neither."""

    kind: Literal["video", "pictures", "error"]
    name: str  # for messages: the path or address as given
    stem: str  # for outputs: file name without suffix, folder name, name of a table of pictures, or "pictures"
    paths: tuple[Path, ...] = ()  # one for a film; pictures in natural order; universal_pathlib's for object stores
    error: str = ""  # one sentence
    skipped: tuple[str, ...] = ()  # suffixes of other files in its folder, neither pictures nor films
    columns: Columns = ()  # further columns of the table that lists it; for pictures, those with equal values in all
    address: Path | None = None  # remote path of a film whose `paths` hold a local copy


def discover(inputs: Sequence[str]) -> list[InputItem]:
    """Resolve files, folders, glob patterns, addresses and tables of them to items, in order and without duplicates.

    Each film is an item, including each GIF. The pictures of a folder (without subfolders) are one item; so are all
    pictures given individually or by patterns, and all pictures listed by one table. An input that cannot be used
    becomes an item of kind "error", so that the other inputs still run.
    """
    return [item for _, item in sorted(discover_each(inputs), key=lambda placed: placed[0])]


def discover_each(inputs: Sequence[str]) -> Iterator[tuple[int, InputItem]]:
    """Like `discover`, but lazily: yields (position from 0, item) in constant memory, however long a table of films is.

    Individually given pictures come last, with the position of the first of them.
    """
    forget_listings()
    with DiskTable() as seen:
        collector = _Collector(seen)
        for text in inputs:
            if not is_path_table(text):
                yield from collector.add(text, _expand(text))
                continue
            try:
                for entry in read_path_table(text):
                    paths = _expand(entry.path, check_remote=False)
                    yield from collector.add(entry.path, paths, table=text, columns=entry.columns, place=entry.place)
            except FemaeError as error:
                yield collector.numbered(InputItem(kind="error", name=text, stem=_stem(Path(text)), error=str(error)))
        yield from collector.single_pictures()


class _Collector:
    """Turns paths into items, numbers them in the order of the inputs, and collects individually given pictures."""

    def __init__(self, seen: DiskTable) -> None:
        self._num = 0
        self._seen = seen  # real paths of files found so far
        self._single: dict[str, tuple[int, list[tuple[Path, Columns]]]] = {}  # by table, "" without one

    def add(
        self,
        text: str,
        paths: Iterator[tuple[Path, str]],
        *,
        table: str = "",
        columns: Columns = (),
        place: str = "",
    ) -> Iterator[tuple[int, InputItem]]:
        """Yield the items of one input; `table`, `columns` and `place` describe the table row that lists it, if any."""
        try:
            for path, problem in paths:
                if problem:
                    yield self.numbered(_error_item(text, path, place + problem))
                elif _is_folder(path):
                    for item in _from_folder(path, self._seen):
                        yield self.numbered(replace(item, columns=columns))
                elif not _add_if_new(path, self._seen):
                    continue
                elif not _is_picture(path):
                    yield self.numbered(replace(_video_item(path), columns=columns))
                elif table in self._single:
                    self._single[table][1].append((path, columns))
                else:
                    self._single[table] = (self._next(), [(path, columns)])
        except FemaeError as error:
            yield self.numbered(_error_item(text, Path(text), place + str(error)))

    def numbered(self, item: InputItem) -> tuple[int, InputItem]:
        return self._next(), item

    def single_pictures(self) -> Iterator[tuple[int, InputItem]]:
        """One item for all pictures given individually, and one for those of each table."""
        for table, (number, found) in self._single.items():
            yield number, _pictures_item(table, found)

    def _next(self) -> int:
        self._num += 1
        return self._num - 1


def _error_item(text: str, path: Path, problem: str) -> InputItem:
    return InputItem(kind="error", name=text, stem=_stem(path), error=problem)


def _pictures_item(table: str, found: list[tuple[Path, Columns]]) -> InputItem:
    common = set(found[0][1]).intersection(*(columns for _, columns in found))
    return InputItem(
        kind="pictures",
        name=table or "pictures",
        stem=_stem(Path(table)) if table else "pictures",
        paths=tuple(path for path, _ in found),
        columns=tuple(pair for pair in found[0][1] if pair in common),
    )


def _expand(text: str, *, check_remote: bool = True) -> Iterator[tuple[Path, str]]:
    """Yield (path, "") of the files and folders that an input stands for, or (path, error sentence).

    Without `check_remote`, a remote file with the suffix of a film or picture is not checked for existence: a table may
    list a million addresses, and missing ones are found when they are opened.
    """
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for an unknown user
    if text and _exists(path):
        yield path, "" if path.is_file() or path.is_dir() else f"'{text}' is neither a file nor a folder"
    elif text.startswith("file://"):
        yield from _expand(unquote(text.removeprefix("file://")))
    elif is_address(text):
        yield from _expand_address(text, check_remote=check_remote)
    elif glob.has_magic(text):
        yield from _expand_pattern(text, path, map(Path, glob.iglob(str(path), recursive=True)))  # noqa: PTH207
    else:
        yield path, f"'{text}' does not exist: check the name and the folder you are in"


def _expand_address(text: str, *, check_remote: bool) -> Iterator[tuple[Path, str]]:
    path = address(text)
    if (not check_remote and not glob.has_magic(text) and _has_known_suffix(path)) or remote_kind(path):
        yield path, ""
    elif glob.has_magic(text):
        yield from _expand_pattern(text, path, matches(text))
    else:
        yield path, f"'{text}' does not exist: check the address"


def _expand_pattern(text: str, path: Path, candidates: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The usable matches of a pattern in natural order, or (path, error sentence) if there are none."""
    num_matches = num_usable = 0

    def usable() -> Iterator[Path]:
        nonlocal num_matches
        for match in candidates:
            num_matches += 1
            if _is_usable(match, folders="**" not in text):
                yield match

    for match in in_natural_order(usable()):
        num_usable += 1
        yield match, ""
    if not num_usable:
        what = "picture or film" if num_matches else "file"
        yield path, f"'{text}' matches no {what}: check the pattern and the folder you are in"


def _is_usable(match: Path, *, folders: bool) -> bool:
    """Whether a match of a pattern is a picture, a film or, with `folders`, a folder."""
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
        return not _has_known_suffix(path) and remote_kind(path) == "folder"
    return path.is_dir()


def _has_known_suffix(path: Path) -> bool:
    """Whether a path has the suffix of a film or picture."""
    return _suffix(path) in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def _files_of(folder: Path) -> Iterator[Path]:
    """Visible files of a folder in natural order. Raises PermissionError, InputError before the first."""
    if is_remote(folder):
        return in_natural_order(path for path in list_folder(folder) if file_name(path)[:1] != ".")
    return in_natural_order(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")


def _from_folder(folder: Path, seen: DiskTable) -> Iterator[InputItem]:
    """The items of a folder: its pictures as one, then each of its films; an error without permission."""
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
            elif not _is_system_file(path):
                others.append(_suffix(path))
        if not pictures and not len(videos):
            error = f"the folder '{folder}' holds neither pictures nor films; subfolders are not searched, name them"
            yield InputItem(kind="error", name=str(folder), stem=stem, error=error)
            return
        skipped = tuple(others)
        new = tuple(path for path in pictures if _add_if_new(path, seen))
        if new:
            yield InputItem(kind="pictures", name=str(folder), stem=stem, paths=new, skipped=skipped)
            skipped = ()
        for number in range(len(videos)):
            path = pickle.loads(videos.get(number) or b"")
            if _add_if_new(path, seen):
                yield replace(_video_item(path), skipped=skipped)
                skipped = ()


def _is_system_file(path: Path) -> bool:
    """Whether this is a file that Windows creates in folders of pictures."""
    return file_name(path).lower() in ("thumbs.db", "desktop.ini")


def _video_item(path: Path) -> InputItem:
    return InputItem(kind="video", name=str(path), stem=_stem(path), paths=(path,))


def _stem(path: Path) -> str:
    return PurePosixPath(file_name(path)).stem


def _suffix(path: Path) -> str:
    return PurePosixPath(file_name(path)).suffix.lower()


def _add_if_new(path: Path, seen: DiskTable) -> bool:
    """Add the real path of a file (links resolved) to `seen`; returns False if it is there already."""
    real = str(path) if is_remote(path) else os.path.normcase(path.resolve())
    if real in seen:
        return False
    seen.add(real)
    return True


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture: by its suffix, or by its content if the suffix is unknown."""
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
    """Whether a file has the suffix of a film; a `.ts` file (also TypeScript) must begin as a transport stream does."""
    suffix = _suffix(path)
    if suffix == ".ts" and not is_remote(path):
        try:
            with path.open("rb") as file:
                return file.read(1) == b"\x47"
        except OSError:
            return True  # opening it as a film will raise a clear error
    return suffix in VIDEO_SUFFIXES


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key for natural order: img2 before img10, ignoring case."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], str(path)


def in_natural_order(paths: Iterable[Path]) -> Iterator[Path]:
    """Paths sorted by `natural_key`, without duplicates; many local paths are sorted on disk."""
    rest = iter(paths)
    first = list(islice(rest, _MAX_IN_MEMORY + 1))
    if len(first) <= _MAX_IN_MEMORY or is_remote(first[0]):
        yield from sorted({*first, *rest}, key=natural_key)
        return
    with DiskTable() as table:
        for path in chain(first, rest):
            table.add(_sort_text(path))
        for text in table.texts():
            yield Path(text.rpartition("\0")[2])


def _sort_text(path: Path) -> str:
    r"""A string that sorts like `natural_key` and ends with \0 and the path.

    Numbers are preceded by their number of digits, other parts end with \0.
    """
    encoded = []
    for part in re.split(r"(\d+)", str(path).casefold()):
        digits = str(int(part)) if part.isdecimal() else ""
        encoded.append(f"{len(digits):05d}{digits}" if digits else f"{part}\0")
    return "".join(encoded) + f"\0{path}"
