"""`femae app`: the server of the page, from the free port to the last file of its temporary folder.

Starlette and uvicorn with a page of our own, and not one of the kits that make a page from Python: those that were
looked at load fonts and scripts from other servers or report their use, and bring dozens of packages along.
"""

import asyncio
import errno
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from rich.console import Console

from femae.config.app import AppConfig
from femae.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from femae.app.work import MakeReport

__all__ = ["WorkFolder", "build_app", "run_app"]

_PREFIX: Final = "femae-app-"
_LOCK: Final = "lock"
_SWEEP_S: Final = 30.0  # between two looks for jobs whose time is over


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


def build_app(
    config: AppConfig, *, folder: WorkFolder, make_report: "MakeReport | None" = None, token: str = ""
) -> "ASGIApp":
    """The page as an ASGI application. Raises ModelError for a wrong model.

    With a `token` only paths that begin with it are answered. The jobs begin with the application's life and end, with
    all their files, with it.
    """
    from starlette.applications import Starlette

    from femae.app.child import WorkProcess
    from femae.app.guard import Guard, own_names
    from femae.app.jobs import JobQueue
    from femae.app.routes import routes
    from femae.app.view import model_names
    from femae.app.work import Worker

    everywhere = config.listen_on_all_interfaces
    assert bool(token) == everywhere, "a token is for servers that other computers can reach, and they need one"
    worker = Worker(
        max_minutes=config.max_minutes, device=config.device, threads=config.threads, make_report=make_report
    )
    work = WorkProcess(worker, max_memory_mb=config.max_memory_mb, max_job_minutes=config.max_job_minutes)
    queue = JobQueue(folder.jobs, work=work, max_jobs=config.max_jobs, keep_s=config.keep_minutes * 60)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, config.keep_minutes * 30))
            await asyncio.to_thread(queue.sweep)

    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        work.start()
        queue.start()
        sweeper = asyncio.create_task(sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(queue.stop)
            work.close()
            folder.remove()

    pages = routes(config, queue=queue, models=model_names(config.models))
    app = Starlette(routes=pages, lifespan=life)
    return Guard(app, names=own_names(all_interfaces=everywhere), any_address=everywhere, token=token)


def _listen(config: AppConfig) -> socket.socket:
    """A listening socket. Raises ConfigError where the port is not to be had."""
    address = "0.0.0.0" if config.listen_on_all_interfaces else "127.0.0.1"
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, config.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        reason = "is in use by another program" if taken else f"cannot be used ({error.strerror})"
        raise ConfigError(f"port {config.port} {reason}: choose another --port, or none") from error
    return listener


@contextmanager
def _end_signals_as_interrupt() -> Iterator[None]:
    """Let the end of the session and a plain `kill` end the server as Ctrl-C does, so that files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def run_app(config: AppConfig, *, make_report: "MakeReport | None" = None) -> int:
    """Serve the page until Ctrl-C; returns 0. Raises ConfigError, ModelError or MissingDependencyError."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError("the page needs starlette and uvicorn: pip install 'femae[app]'") from error
    listener = _listen(config)
    folder = WorkFolder()
    try:
        with _end_signals_as_interrupt(), suppress(KeyboardInterrupt):
            token = secrets.token_urlsafe(24) if config.listen_on_all_interfaces else ""
            app = build_app(config, folder=folder, make_report=make_report, token=token)
            _announce(config, port=listener.getsockname()[1], token=token)
            settings = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # addresses hold secrets
                server_header=False,
                ws="none",
                http="h11",
                loop="asyncio",
                lifespan="on",
                timeout_graceful_shutdown=2,
            )
            uvicorn.Server(settings).run(sockets=[listener])
    finally:
        listener.close()
        folder.remove()
    return 0


def _announce(config: AppConfig, *, port: int, token: str) -> None:
    """Say where the page is, and open it if asked to."""
    console = Console(soft_wrap=True, highlight=False)
    name = socket.gethostname() if config.listen_on_all_interfaces else "127.0.0.1"
    url = f"http://{name}:{port}/" + (f"{token}/" if token else "")
    console.print(f"femae app: {url}", markup=False)
    if config.listen_on_all_interfaces:
        console.print(
            "Other computers reach it at this address, or with this computer's IP address in place of its name."
        )
        console.print("Anyone who has the address can use the page; the connection is not encrypted.")
    console.print("Ctrl-C stops it and removes all its files.")
    console.file.flush()
    if config.open:
        webbrowser.open(url)
