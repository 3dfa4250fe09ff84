"""One process at a time writes the outputs of one name."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from femae.errors import OutputError

try:
    import fcntl
except ImportError:  # on Windows a file that is open for writing is refused to others anyway
    fcntl = None  # type: ignore[assignment]

__all__ = ["claim"]

_TAKEN: Final = (errno.EAGAIN, errno.EACCES)


@contextmanager
def claim(folder: Path, stem: str, *, wait: bool = False) -> Iterator[None]:
    """While it lasts, `<folder>/<stem>.lock` keeps other processes from the outputs of this stem.

    The lock ends with the process, however it ends. Raises OutputError where another process has it, unless we `wait`
    for what is soon done. Where files cannot be locked, as on some network drives, or not be made, nothing is held.
    """
    path = folder / f"{stem}.lock"
    file = _locked(path, wait=wait)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()
            os.close(file)


def _locked(path: Path, *, wait: bool) -> int | None:
    if fcntl is None:
        return None
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None  # whoever writes the tables says why
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == path.stat().st_ino:
                return file
            os.close(file)  # it was another's, who has removed it
        except FileNotFoundError:
            os.close(file)
        except OSError as error:
            os.close(file)
            if error.errno not in _TAKEN:
                return None
            raise OutputError(
                f"another process is writing the outputs {path.stem} in {path.parent}: wait until it is done, or "
                "choose another output folder"
            ) from None
