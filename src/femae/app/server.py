"""`femae app`: the server of the page, from the free port to the last temporary file.

Starlette and uvicorn with a page of our own, and not one of the kits that make a page from Python: those that were
looked at load fonts and scripts from other servers or report their use, and bring dozens of packages along.
"""

import asyncio
import errno
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from femae.app.folder import WorkFolder
from femae.config.app import AppConfig
from femae.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from femae.app.work import MakeReport

__all__ = ["build_app", "run_app"]

_SWEEP_S: Final = 30.0  # between two looks for jobs whose time is over


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
        reason = "is taken by another program" if taken else f"cannot be used ({error.strerror})"
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
        console.print("Other computers reach it at this address, or with this computer's number in place of its name.")
        console.print("Whoever has the address can use the page; the connection is not encrypted.")
    console.print("Ctrl-C stops it and removes all its files.")
    console.file.flush()
    if config.open:
        webbrowser.open(url)
