"""`femae app`: the HTTP server of the page, its temporary folder and its shutdown.

It is built on Starlette and uvicorn with a hand-written page, not on a framework that generates pages from Python:
those that were evaluated load fonts and scripts from other servers or report usage, and need dozens of packages.
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
_SWEEP_S: Final = 30.0  # between two searches for expired jobs


class WorkFolder:
    """A temporary folder that only this user may enter, locked while the server lives.

    Creating one deletes the folders that killed servers left behind.
    """

    def __init__(self) -> None:
        _remove_orphans(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock: IO[Any] | None = (self.path / _LOCK).open("wb")
        _try_lock(self._lock)

    @property
    def jobs(self) -> Path:
        """The folder of the jobs, created on first use."""
        folder = self.path / "jobs"
        folder.mkdir(exist_ok=True)
        return folder

    def remove(self) -> None:
        """Release the lock and delete the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_orphans(parent: Path) -> None:
    """Delete folders of killed servers: this user's, with a lock that is free. Does nothing without flock (Windows)."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            with (folder / _LOCK).open("rb+") as lock:
                is_orphan = _try_lock(lock)
            if is_orphan:
                shutil.rmtree(folder, ignore_errors=True)


def _try_lock(file: IO[Any]) -> bool:
    """Lock a file without waiting; returns whether it succeeded. False where flock does not exist."""
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
    """The page as an ASGI application. Raises ModelError for a file of `config.models` that is no model.

    With a `token`, only paths that begin with it are answered. The application's lifespan starts and stops the job
    queue and the worker process; at its end all files of the jobs are deleted.
    """
    from starlette.applications import Starlette

    from femae.app.child import WorkProcess
    from femae.app.guard import Guard, allowed_hosts
    from femae.app.jobs import JobQueue
    from femae.app.routes import routes
    from femae.app.view import model_names
    from femae.app.work import Worker

    is_public = config.listen_on_all_interfaces
    assert bool(token) == is_public, "servers that other computers can reach need a token, others have none"
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
    async def lifespan(_: Any) -> AsyncIterator[None]:
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

    app = Starlette(routes=routes(config, queue=queue, models=model_names(config.models)), lifespan=lifespan)
    return Guard(app, hosts=allowed_hosts(all_interfaces=is_public), any_address=is_public, token=token)


def _listen(config: AppConfig) -> socket.socket:
    """Open the listening socket. Raises ConfigError where the port is in use or not permitted."""
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
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that the server shuts down in order and deletes its files."""
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
        with _termination_as_interrupt(), suppress(KeyboardInterrupt):
            token = secrets.token_urlsafe(24) if config.listen_on_all_interfaces else ""
            app = build_app(config, folder=folder, make_report=make_report, token=token)
            _announce(config, port=listener.getsockname()[1], token=token)
            settings = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # URLs contain the token and job ids
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
    """Print the URL of the page, and open it in the browser if `config.open`."""
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
