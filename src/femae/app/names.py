"""Names that strangers gave to their files: shown as text, never used as a path."""

import unicodedata
from pathlib import PurePosixPath
from urllib.parse import unquote

from femae.video.discover import PICTURE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["download_stem", "is_picture_name", "shown_name", "stored_suffix"]

_LONGEST = 120  # characters


def shown_name(header: str) -> str:
    """The file name in an upload's header (percent-encoded UTF-8) as one line of plain text, without any folder."""
    text = unquote(header, errors="replace").replace("\\", "/").rsplit("/", 1)[-1]
    # Control characters, and marks that turn the direction of writing, would make a name look like another.
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")).strip()
    if len(text) > _LONGEST:
        suffix = PurePosixPath(text).suffix[:10]
        text = text[: _LONGEST - len(suffix) - 1] + "…" + suffix
    return text if text.strip(". ") else "unnamed"


def stored_suffix(name: str) -> str:
    """The suffix under which a file is stored: one of those we know, or `.bin`."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES else ".bin"


def is_picture_name(name: str) -> bool:
    """Whether a name ends as pictures do."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def download_stem(name: str) -> str:
    """What a download is called: letters, digits and a few marks of the name without its suffix."""
    stem = PurePosixPath(name).stem
    kept = "".join(c if c.isalnum() or c in " -_.+()" else "_" for c in stem).strip(" ._")
    return kept[:80] or "result"
