"""The kinds of data sets of `femae data prepare`, and their readers.

A reader's options are the keyword arguments of its class; `source_options` lists them, `open_source` takes them as
text from the command line: `affwild2-au` with {"every": "5"}.

`open_sources` takes arguments of the command line: `KIND=FOLDER`, or a path, whose layout determines the reader.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter, ValidationError

from femae.data.samples import SourceReader
from femae.data.sources.affectnet import AffectNetSource
from femae.data.sources.affwild2 import AffWild2Source, SAffWild2Source
from femae.data.sources.atlas import LfwSource, Synth3dSource
from femae.data.sources.au_files import AuFilesSource
from femae.data.sources.cexpr import CExprSource
from femae.data.sources.fer2013 import Fer2013Source, FerPlusSource
from femae.data.sources.folders import FolderPerClassSource, UnlabelledSource
from femae.data.sources.pretraining import CasiaWebFaceSource, CelebASource, ImdbWikiSource
from femae.data.sources.rafdb import RafDbSource
from femae.data.sources.table import TableSource
from femae.errors import ConfigError, DataError

__all__ = ["SOURCES", "open_source", "open_sources", "source_options"]

SOURCES: Final[dict[str, Callable[..., SourceReader]]] = {
    "affectnet": AffectNetSource,
    "affwild2-au": partial(AffWild2Source, track="au"),
    "affwild2-expr": partial(AffWild2Source, track="expr"),
    "au-files": AuFilesSource,
    "casia-webface": CasiaWebFaceSource,
    "celeba": CelebASource,
    "cexpr": CExprSource,
    "fer2013": Fer2013Source,
    "ferplus": FerPlusSource,
    "folder": FolderPerClassSource,
    "imdb": partial(ImdbWikiSource, part="imdb"),
    "lfw": LfwSource,
    "rafdb-basic": partial(RafDbSource, part="basic"),
    "rafdb-compound": partial(RafDbSource, part="compound"),
    "s-affwild2": SAffWild2Source,
    "synth3d": Synth3dSource,
    "table": TableSource,
    "unlabelled": UnlabelledSource,
    "wiki": partial(ImdbWikiSource, part="wiki"),
}
_TABLES = (".csv", ".parquet")


def source_options(source: str) -> dict[str, Any]:
    """The options of the reader of a data set: name -> type. Raises ConfigError for an unknown data set."""
    reader = _reader(source)
    fixed = reader.keywords if isinstance(reader, partial) else {}
    cls: Any = reader.func if isinstance(reader, partial) else reader
    hints = get_type_hints(cls.__init__)
    names = list(inspect.signature(cls).parameters)[1:]
    return {name: hints[name] for name in names if name not in fixed}


def open_source(source: str, folder: Path, *, options: Mapping[str, str] | None = None) -> SourceReader:
    """The reader of a data set. Every reader has the option `name`: the data set's name in shards, folds and reports.

    Raises ConfigError for an unknown data set, option or value, DataError when the layout is not found.
    """
    reader, known = _reader(source), source_options(source)
    if not folder.exists():
        raise DataError(f"{folder} does not exist: check the path of '{source}'")
    values: dict[str, Any] = {}
    for option, text in (options or {}).items():
        if option not in known:
            raise ConfigError(f"'{source}' has no option '{option}': it has {', '.join(known)}")
        try:
            values[option] = TypeAdapter(known[option]).validate_python(text)
        except ValidationError as error:
            raise ConfigError(f"{option}={text} of '{source}': {error.errors()[0]['msg']}") from error
    return reader(folder, **values)


def _reader(source: str) -> Callable[..., SourceReader]:
    if source not in SOURCES:
        raise ConfigError(f"'{source}' is not a known kind of data set: expected one of {', '.join(SOURCES)}")
    return SOURCES[source]


def open_sources(arguments: Iterable[str], *, options: Iterable[str] = ()) -> list[SourceReader]:
    """One reader for each argument of the command line; `options` are NAME=VALUE, for every reader.

    A path is a table (csv, parquet), a folder with a folder per class, or pictures and films without labels; the data
    set has the name of the file or folder. Raises ConfigError and DataError like open_source.
    """
    values: dict[str, str] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise ConfigError(f"'{option}' is not an option of a reader: expected NAME=VALUE, e.g. every=5")
        values[name] = value
    return [_open(argument, values) for argument in arguments]


def _open(argument: str, options: dict[str, str]) -> SourceReader:
    kind, sign, folder = argument.partition("=")
    path = Path(argument)
    if sign and not path.exists():
        return open_source(kind, Path(folder), options=options)
    if not path.exists():
        raise DataError(
            f"'{argument}' does not exist: give KIND=FOLDER, with a kind of {', '.join(SOURCES)}, or an existing path"
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
    """A file or folder name as the name of a data set: letters, digits, dots, dashes, underscores."""
    name = path.resolve()
    return re.sub(r"[^\w.-]+", "-", name.stem if path.is_file() else name.name).strip(".-") or "set"
