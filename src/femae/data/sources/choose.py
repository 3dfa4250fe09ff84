"""What a user names on the command line -> readers: `KIND=FOLDER`, or a plain path whose layout tells."""

import re
from collections.abc import Iterable
from pathlib import Path

from femae.data.samples import SourceReader
from femae.data.sources.catalog import SOURCES, open_source
from femae.errors import ConfigError, DataError

__all__ = ["open_sources"]

_TABLES = (".csv", ".parquet")


def open_sources(words: Iterable[str], *, options: Iterable[str] = ()) -> list[SourceReader]:
    """One reader per word. `options` are NAME=VALUE and go to every reader.

    A plain path is a table (csv, parquet), a folder with a folder per class, or pictures and films without labels; the
    set is then called as the file or folder is. Raises ConfigError and DataError as the readers do.
    """
    values: dict[str, str] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise ConfigError(f"'{option}' is no option of a reader: expected NAME=VALUE, e.g. every=5")
        values[name] = value
    return [_open(word, values) for word in words]


def _open(word: str, options: dict[str, str]) -> SourceReader:
    kind, sign, folder = word.partition("=")
    path = Path(word)
    if sign and not path.exists():
        return open_source(kind, Path(folder), options=options)
    if not path.exists():
        raise DataError(
            f"'{word}' does not exist: give KIND=FOLDER, with a kind of {', '.join(SOURCES)}, or an existing path"
        )
    named = {"name": _plain_name(path), **options}
    if path.suffix.lower() in _TABLES:
        return open_source("table", path, options=named)
    if path.is_dir() and _has_class_folders(path):
        return open_source("folder", path, options=named)
    return open_source("unlabelled", path, options=named)


def _has_class_folders(path: Path) -> bool:
    try:
        open_source("folder", path)
    except DataError:
        return False
    return True


def _plain_name(path: Path) -> str:
    """A file or folder name as the name of a set: letters, digits, dot, dash, underscore."""
    name = path.resolve()
    return re.sub(r"[^\w.-]+", "-", name.stem if path.is_file() else name.name).strip(".-") or "set"
