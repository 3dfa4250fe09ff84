"""The names by which `femae data prepare` knows data sets, and what reads each.

A reader's options are the keyword arguments of its class; `source_options` names them, `open_source` takes them as
text, as they come from a command line: `affwild2-au` with {"every": "5"}.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, get_type_hints

from pydantic import TypeAdapter, ValidationError

from femae.data.samples import SourceReader
from femae.data.sources.affectnet import AffectNetSource
from femae.data.sources.affwild2 import AffWild2Source
from femae.data.sources.au_files import AuFilesSource
from femae.data.sources.casia import CasiaWebFaceSource
from femae.data.sources.celeba import CelebASource
from femae.data.sources.cexpr import CExprSource
from femae.data.sources.fer2013 import Fer2013Source
from femae.data.sources.ferplus import FerPlusSource
from femae.data.sources.folder_per_class import FolderPerClassSource
from femae.data.sources.imdb_wiki import ImdbWikiSource
from femae.data.sources.lfw import LfwSource
from femae.data.sources.rafdb import RafDbSource
from femae.data.sources.s_affwild2 import SAffWild2Source
from femae.data.sources.synth3d import Synth3dSource
from femae.data.sources.table import TableSource
from femae.data.sources.unlabelled import UnlabelledSource
from femae.errors import ConfigError, DataError

__all__ = ["SOURCES", "open_source", "source_options"]

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


def source_options(source: str) -> dict[str, Any]:
    """Option -> its type, of the reader of a data set. Raises ConfigError for an unknown name."""
    reader = _reader(source)
    fixed = reader.keywords if isinstance(reader, partial) else {}
    kind: Any = reader.func if isinstance(reader, partial) else reader
    hints = get_type_hints(kind.__init__)
    names = list(inspect.signature(kind).parameters)[1:]
    return {name: hints[name] for name in names if name not in fixed}


def open_source(source: str, folder: Path, *, options: Mapping[str, str] | None = None) -> SourceReader:
    """The reader of a data set. Every reader takes the option `name`: what shards, folds and reports call the set.

    Raises ConfigError for an unknown data set, option or value, DataError when the layout is not there.
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
        raise ConfigError(f"there is no data set '{source}': expected one of {', '.join(SOURCES)}")
    return SOURCES[source]
