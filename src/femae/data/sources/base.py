"""What all readers of data sets share: read item by item, keep a sample or record why not, never stop midway.

Below that, the files of raw data sets: pictures looked at, not opened; text with any line ends; folders found by name.
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
_HEADS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
_MAX_FIELD: Final = 1 << 24  # characters; FER2013 has pictures in a field


class LeftOut(Exception):  # noqa: N818 - not a fault: an item that a reader counts and passes over
    """Raised while a sample is made: the item is left out, and this is the cause in words."""


class Source(ABC, Generic[Item]):
    """A reader: `_items` goes through the raw data set, `_sample` makes a sample of an item or raises LeftOut."""

    def __init__(self, *, name: str, keep_unlabelled: bool) -> None:
        self.reading = Reading(source=name)
        self._keep_unlabelled = keep_unlabelled

    def __iter__(self) -> Iterator[RawSample]:
        """One sample after the other; `reading` is reset first and complete at the end."""
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
        """What to call an item in the account, and the item."""

    @abstractmethod
    def _sample(self, item: Item) -> RawSample:
        """Raises LeftOut."""


def numbered_label(text: str, order: Mapping[int, str]) -> EmotionLabel:
    """A number of a data set's own order -> targets. -1 is unknown everywhere. Raises LeftOut."""
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
    """Raise DataError when a part of the layout is not there."""
    if not found:
        raise DataError(f"{what}: looked for {', '.join(looked_for)}; {hint or 'give the folder that holds them'}")


def check_every(every: int) -> int:
    """Raises ConfigError when frames cannot be taken at this step."""
    if every < 1:
        raise ConfigError(f"every {every}: expected 1 (all frames) or more")
    return every


def picture_file(path: Path) -> PictureFile:
    """A picture that is there and begins like one. Raises LeftOut. Names are also tried in the other Unicode form."""
    for form in ("", "NFC", "NFD"):
        candidate = Path(unicodedata.normalize(form, str(path))) if form else path  # type: ignore[arg-type]
        try:
            with candidate.open("rb") as file:
                head = file.read(12)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):  # a folder, no permission, a name that no file can have
            raise LeftOut("picture file cannot be opened") from None
        if not head:
            raise LeftOut("picture file is empty")
        if not (head.startswith(_HEADS) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")):
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
    """Line number from 1 and text without its end; any line ends, with or without BOM. Blank lines at the end go."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    yield from enumerate((line.strip() for line in re.split(r"\r\n|\n|\r", text.rstrip())), 1)


def csv_rows(path: Path, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header too; [] for a blank line that is not at the end.

    A line that is no csv gives one cell.
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
    """What a folder holds, by name; numbers within names count as numbers. Raises DataError when it cannot be read."""
    try:
        return sorted(folder.iterdir(), key=_natural)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions") from error


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def find_folders(root: Path, names: Iterable[str], *, depth: int = 3, skip: Iterable[str] = ()) -> list[Path]:
    """Folders called one of `names` (any case) in `root` or up to `depth` levels below, or `root` itself.

    In the order of `names`, then of depth. What lies below a found folder is not searched, nor folders called one of
    `skip`, which may hold millions of pictures. Raises DataError when a folder cannot be read.
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
    """Pictures of a folder whose names are numbers (`00001.jpg`), by number."""
    return {
        int(path.stem): path
        for path in listed(folder)
        if path.stem.isdecimal() and path.suffix.lower() in PICTURE_SUFFIXES
    }


def film_length(path: Path) -> int:
    """Pictures in a film, counted without decoding it. Raises LeftOut when it cannot be read."""
    from femae.video.demux import PacketReader

    try:
        reader = PacketReader(path)
    except InputError:
        raise LeftOut("film cannot be opened") from None
    try:
        return sum(packet is not None for packet in reader)
    finally:
        reader.close()
