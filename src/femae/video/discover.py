"""From what stands on the command line to films and sets of pictures."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from PIL import Image

__all__ = ["HEIF_SUFFIXES", "PICTURE_SUFFIXES", "VIDEO_SUFFIXES", "InputItem", "discover", "natural_key"]

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


@dataclass(frozen=True, kw_only=True, slots=True)
class InputItem:
    """One source of frames: a film, a set of pictures, or an input that is neither and why."""

    kind: Literal["video", "pictures", "error"]
    name: str  # for messages: the path as given
    stem: str  # for outputs: file name without suffix, folder name, or "pictures"
    paths: tuple[Path, ...] = ()  # one for a film; pictures in natural order
    error: str = ""  # one sentence
    passed_over: tuple[str, ...] = ()  # suffixes of the files of its folder that are neither pictures nor films


def discover(inputs: Sequence[str]) -> list[InputItem]:
    """Files, folders and glob patterns as items, in the order given; no file is taken twice.

    A film is an item of its own, a GIF too. The pictures of a folder (not of its subfolders) are one item; so are all
    pictures named one by one, by a pattern too. What cannot be used becomes an item of kind "error", so that the
    other inputs still run.
    """
    items: list[InputItem] = []
    seen: set[Path] = set()
    single: list[Path] = []
    single_at = 0
    for text in inputs:
        for path, problem in _expand(text):
            if problem:
                items.append(InputItem(kind="error", name=text, stem=path.stem, error=problem))
            elif path.is_dir():
                items += _from_folder(path, seen)
            elif _is_new(path, seen):
                if _is_picture(path):
                    single_at = single_at if single else len(items)
                    single.append(path)
                else:
                    items.append(_video(path))
    if single:
        items.insert(single_at, InputItem(kind="pictures", name="pictures", stem="pictures", paths=tuple(single)))
    return items


def _expand(text: str) -> Iterator[tuple[Path, str]]:
    """Existing files and folders that an input stands for, or the input with a sentence on what is wrong."""
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for an unknown user
    if text and _exists(path):
        yield path, "" if path.is_file() or path.is_dir() else f"'{text}' is neither a file nor a folder"
    elif glob.has_magic(text):
        found = [Path(match) for match in glob.iglob(str(path), recursive=True)]  # noqa: PTH207
        usable = [match for match in found if _is_meant(match, folders="**" not in text)]
        for match in sorted(usable, key=natural_key):
            yield match, ""
        if not usable:
            what = "file" if not found else "picture or film"
            yield path, f"'{text}' matches no {what}: check the pattern and the folder you are in"
    elif "://" in text:
        yield path, f"'{text}' is an address, not a file: download it first"
    else:
        yield path, f"'{text}' does not exist: check the name and the folder you are in"


def _is_meant(match: Path, *, folders: bool) -> bool:
    """Whether a pattern means this match: a picture, a film or, unless it searches subfolders itself, a folder."""
    if match.is_dir():
        return folders
    return match.is_file() and (_is_picture(match) or _is_video_name(match))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _from_folder(folder: Path, seen: set[Path]) -> Iterator[InputItem]:
    """The pictures of a folder as one item, then each of its films."""
    stem = folder.resolve().name or "pictures"
    try:
        files = sorted((p for p in folder.iterdir() if p.is_file() and p.name[0] != "."), key=natural_key)
    except PermissionError:
        error = f"the folder '{folder}' may not be read: ask its owner for permission"
        yield InputItem(kind="error", name=str(folder), stem=stem, error=error)
        return
    pictures = [p for p in files if _is_picture(p)]
    rest = set(files) - set(pictures)
    videos = [p for p in files if p in rest and _is_video_name(p)]
    others = tuple(p.suffix.lower() for p in files if p in rest - set(videos) and not _is_system(p))
    if not pictures and not videos:
        error = f"the folder '{folder}' holds neither pictures nor films; subfolders are not searched, name them"
        yield InputItem(kind="error", name=str(folder), stem=stem, error=error)
    new = tuple(p for p in pictures if _is_new(p, seen))
    if new:
        yield InputItem(kind="pictures", name=str(folder), stem=stem, paths=new, passed_over=others)
        others = ()
    for path in videos:
        if _is_new(path, seen):
            yield replace(_video(path), passed_over=others)
            others = ()


def _is_system(path: Path) -> bool:
    """Files that a system keeps beside pictures for itself."""
    return path.name.lower() in ("thumbs.db", "desktop.ini")


def _video(path: Path) -> InputItem:
    return InputItem(kind="video", name=str(path), stem=path.stem, paths=(path,))


def _is_new(path: Path, seen: set[Path]) -> bool:
    """Whether this file comes for the first time, also under another name for its folder."""
    real = path.resolve()
    if real in seen:
        return False
    seen.add(real)
    return True


def _is_picture(path: Path) -> bool:
    """By the suffix; by the content where the suffix says nothing."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return True
    if suffix in VIDEO_SUFFIXES:
        return False
    try:
        with Image.open(path) as image:
            return image.format != "GIF"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_video_name(path: Path) -> bool:
    """By the suffix; `.ts` is also the suffix of program texts, so the first byte must be a transport stream's."""
    suffix = path.suffix.lower()
    if suffix == ".ts":
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
