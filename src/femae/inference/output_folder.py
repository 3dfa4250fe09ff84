"""The folder of the outputs: on a disk written in place, in an object store by way of a temporary folder."""

import glob
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from femae.config.storage import is_remote
from femae.errors import ConfigError, FemaeError
from femae.video.storage import local_copy, remote_kind, remove, upload

__all__ = ["OutputFolder"]


class OutputFolder:
    """Where the outputs go; `written` takes what stands in the folder that `open` gave to its place."""

    def __init__(self, place: Path) -> None:
        """Raises ConfigError for an address that cannot be written."""
        self.place = place
        self.remote = is_remote(place)
        if self.remote and place.protocol in ("http", "https"):  # type: ignore[attr-defined]
            raise ConfigError(f"--out {place}: web servers can be read, not written; give a folder, or s3://...")

    @contextmanager
    def open(self) -> Iterator[Path]:
        """The folder to write into; for an address a temporary one, which is gone afterwards."""
        if not self.remote:
            yield self.place
            return
        with TemporaryDirectory(prefix="femae-out-") as folder:
            yield Path(folder)

    @contextmanager
    def reading(self, name: str, *, folder: Path) -> Iterator[Path]:
        """An output of an earlier time by its path in the folder. Raises InputError, where it is remote."""
        if not self.remote:
            yield folder / name
            return
        with local_copy(self.place / name) as path:
            yield path

    def has(self, name: str) -> bool:
        """Whether an output stands in its place. Raises InputError."""
        path = self.place / name
        return remote_kind(path) == "file" if self.remote else path.is_file()

    def drop(self, name: str) -> None:
        """Remove an output that is needed no more, if that can be done."""
        with suppress(OSError, FemaeError):
            path = self.place / name
            if self.remote:
                remove(path)
            else:
                for rest in (path, *path.parent.glob(f"{glob.escape(path.name)}.*.part")):  # of processes that died
                    rest.unlink()
                path.parent.rmdir()  # with the last of them

    def written(self, paths: Iterable[Path], *, folder: Path) -> list[Path]:
        """Paths of finished outputs in `folder` -> where they stand now. Raises OutputError."""
        placed = []
        for path in paths:
            placed.append(self._in_place(path, folder))
            if self.remote:
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    upload(file, self._in_place(file, folder))
        return placed

    def _in_place(self, path: Path, folder: Path) -> Path:
        """Where a path of `folder` stands in the end."""
        if not self.remote:
            return path
        place: Any = self.place
        return place / path.relative_to(folder).as_posix()  # type: ignore[no-any-return]
