"""The base class of data set readers: it reads item by item and counts excluded ones by cause instead of failing.

And helpers for raw data sets: checks of picture files, text with any line ends, search for folders by name.
"""

import csv
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar

from femae.data.samples import PictureFile, RawSample, Reading
from femae.data.targets import EmotionLabel, label_targets, unknown_targets
from femae.errors import ConfigError, DataError, InputError

__all__ = [
    "BLANK_LINE",
    "FILM_SUFFIXES",
    "PICTURE_SUFFIXES",
    "WRONG_COLUMNS",
    "LeftOut",
    "Source",
    "check_every",
    "csv_rows",
    "film_length",
    "find_folders",
    "key_of",
    "listed",
    "numbered_label",
    "numbered_pictures",
    "picture_file",
    "require",
    "text_lines",
]

Item = TypeVar("Item")
_NO_LABEL: Final = "no known label"
BLANK_LINE: Final = "blank line"
WRONG_COLUMNS: Final = "wrong number of columns"
PICTURE_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FILM_SUFFIXES: Final = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
_MAX_FIELD: Final = 1 << 24  # characters; FER2013 has whole pictures in a field


class LeftOut(Exception):  # noqa: N818 - not an error: the reader counts the item and continues
    """Raised while a sample is made, to leave out the item; the message is the cause."""


class Source(ABC, Generic[Item]):
    """A reader: `_items` iterates over the raw data set, `_sample` turns an item into a sample or raises LeftOut."""

    def __init__(self, *, name: str, keep_unlabelled: bool) -> None:
        self.reading = Reading(source=name)
        self._keep_unlabelled = keep_unlabelled

    def __iter__(self) -> Iterator[RawSample]:
        """Yield all samples; `reading` is reset first and complete at the end."""
        self.reading.clear()
        for example, item in self._items():
            try:
                sample = self._sample(item)
                if not (self._keep_unlabelled or sample.mask.any() or sample.action_units):
                    raise LeftOut(f"{_NO_LABEL} ({sample.class_name})" if sample.class_name else _NO_LABEL)
            except LeftOut as problem:
                self._leave_out(str(problem), example)
                continue
            yield self.reading.keep(sample)

    def _leave_out(self, cause: str, example: str, *, count: int = 1) -> None:
        self.reading.leave_out(cause, example=example.encode("utf-8", "backslashreplace").decode(), count=count)

    @abstractmethod
    def _items(self) -> Iterator[tuple[str, Item]]:
        """All items, each with a name for the list of exclusions."""

    @abstractmethod
    def _sample(self, item: Item) -> RawSample:
        """The sample of an item. Raises LeftOut."""


def numbered_label(text: str, order: Mapping[int, str]) -> EmotionLabel:
    """Targets of a number in a data set's order of labels; -1 is always unknown. Raises LeftOut."""
    try:
        number = int(text)
    except ValueError:
        raise LeftOut("label is not a number") from None
    if number == -1:
        return unknown_targets("unknown")
    if number not in order:
        raise LeftOut("label is a number that the data set does not define")
    return label_targets(order[number])


def require(found: object, *, what: str, looked_for: list[str], hint: str = "") -> None:
    """Raise DataError unless a part of the layout was found."""
    if not found:
        raise DataError(f"{what}: looked for {', '.join(looked_for)}; {hint or 'give the folder that holds them'}")


def check_every(every: int) -> int:
    """Returns the step between frames. Raises ConfigError when it is less than 1."""
    if every < 1:
        raise ConfigError(f"every {every}: expected 1 (all frames) or more")
    return every


def picture_file(path: Path) -> PictureFile:
    """A file that exists and begins like a picture; its name is tried in NFC and NFD too. Raises LeftOut."""
    for form in ("", "NFC", "NFD"):
        candidate = Path(unicodedata.normalize(form, str(path))) if form else path  # type: ignore[arg-type]
        try:
            with candidate.open("rb") as file:
                head = file.read(12)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):  # a folder, no permission, an invalid name
            raise LeftOut("picture file cannot be opened") from None
        if not head:
            raise LeftOut("picture file is empty")
        if not (head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")):
            raise LeftOut("file is not a picture")
        return PictureFile(path=candidate)
    raise LeftOut("picture file is missing")


def key_of(name: str | Path) -> str:
    """A relative path as a key: forward slashes, composed Unicode. Raises LeftOut when it is not UTF-8."""
    text = unicodedata.normalize("NFC", Path(name).as_posix())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LeftOut("name is not UTF-8") from None
    return text


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, stripped line) of a text file with any line ends and optional BOM.

    Blank lines at the end are ignored. Bytes that are not UTF-8 become surrogate escapes.
    """
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    yield from enumerate((line.strip() for line in re.split(r"\r\n|\n|\r", text.rstrip())), 1)


def csv_rows(path: Path, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row including the header; cells [] for a blank line that is not at the end.

    A line that is not valid csv gives one cell.
    """
    csv.field_size_limit(_MAX_FIELD)
    blank: list[int] = []
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, delimiter=delimiter)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                row = [f"({error})"]
            if not any(cell.strip() for cell in row):
                blank.append(reader.line_num)
                continue
            yield from ((number, []) for number in blank)
            blank.clear()
            yield reader.line_num, [cell.strip() for cell in row]


def listed(folder: Path) -> list[Path]:
    """The content of a folder in natural order (numbers by value). Raises DataError when it cannot be read."""
    try:
        return sorted(folder.iterdir(), key=_natural_key)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions") from error


def _natural_key(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def find_folders(root: Path, names: Iterable[str], *, depth: int = 3, skip: Iterable[str] = ()) -> list[Path]:
    """Folders with one of `names` (any case): `root` itself, or up to `depth` levels below, except within others found.

    In the order of `names`, then of depth. Folders named in `skip` are not searched, since they may have millions of
    pictures. Raises DataError when a folder cannot be read.
    """
    wanted, skipped = [name.lower() for name in names], {name.lower() for name in skip}
    found: list[tuple[int, int, str, Path]] = []
    level = [root]
    for distance in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            name = folder.name.lower()
            if name in wanted:
                found.append((wanted.index(name), distance, str(folder), folder))
            elif distance < depth and name not in skipped:
                below += _subfolders(folder)
        level = below
    return [entry[-1] for entry in sorted(found)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions") from error


def numbered_pictures(folder: Path) -> dict[int, Path]:
    """The pictures of a folder that are named by numbers (`00001.jpg`), by number. Raises DataError."""
    return {
        int(path.stem): path
        for path in listed(folder)
        if path.stem.isdecimal() and path.suffix.lower() in PICTURE_SUFFIXES
    }


def film_length(path: Path) -> int:
    """The number of frames of a film, from its packets without decoding. Raises LeftOut when it cannot be opened."""
    from femae.video.demux import PacketReader

    try:
        reader = PacketReader(path)
    except InputError:
        raise LeftOut("film cannot be opened") from None
    try:
        return sum(packet is not None for packet in reader)
    finally:
        reader.close()
