"""Folders by path or by address: `shards`, `s3://bucket/shards`, `gs://...`, `https://...` (fsspec)."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import PlainSerializer, PlainValidator

from femae.errors import MissingDependencyError

__all__ = ["FolderAddress", "folder_address", "is_remote"]

_COLLAPSED_SCHEME: Final = re.compile(r"([a-z][a-z0-9+]+):/(?!/)")  # pathlib collapses the two slashes


def folder_address(value: Any) -> Path:
    """A Path, or for an address with `://` a UPath of universal_pathlib, which has the same interface.

    Raises ValueError for other values and unknown protocols, MissingDependencyError without femae[remote].
    """
    if isinstance(value, Path) and (found := _COLLAPSED_SCHEME.match(text := value.as_posix())):
        value = f"{found[1]}://{text[found.end() :]}"
    if is_remote(value) or isinstance(value, Path):
        return cast(Path, value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is neither a path nor an address")
    if "://" not in value:
        return Path(value)
    if value.startswith("file://"):
        return Path(value.removeprefix("file://"))
    try:
        from upath import UPath
    except ImportError:
        raise MissingDependencyError(f"{value} needs fsspec: pip install 'femae[remote]'") from None
    try:
        return cast(Path, UPath(value.rstrip("/")))
    except ImportError as error:  # the package of this protocol
        raise MissingDependencyError(f"{value} needs one more package: {error}") from None


def is_remote(path: Any) -> bool:
    """Whether it is a remote address from folder_address, not a local path."""
    return hasattr(path, "fs") and hasattr(path, "protocol")


FolderAddress = Annotated[Path, PlainValidator(folder_address), PlainSerializer(str, return_type=str)]
