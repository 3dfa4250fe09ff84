"""The temporary folder of the page's files; what a server that was killed has left behind is removed."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

__all__ = ["WorkFolder"]

_PREFIX: Final = "femae-app-"
_LOCK: Final = "lock"


class WorkFolder:
    """A folder that only this account may enter; it holds a lock for as long as its server lives."""

    def __init__(self) -> None:
        _remove_orphans(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock: IO[Any] | None = (self.path / _LOCK).open("wb")
        _try_lock(self._lock)

    @property
    def jobs(self) -> Path:
        """Where the jobs are."""
        folder = self.path / "jobs"
        folder.mkdir(exist_ok=True)
        return folder

    def remove(self) -> None:
        """Remove everything. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_orphans(parent: Path) -> None:
    """Remove our own folders whose lock nobody holds; where files cannot be locked (Windows) nothing is touched."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            with (folder / _LOCK).open("rb+") as lock:
                is_orphan = _try_lock(lock)
            if is_orphan:
                shutil.rmtree(folder, ignore_errors=True)


def _try_lock(file: IO[Any]) -> bool:
    """Whether the lock could be had; False too where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
