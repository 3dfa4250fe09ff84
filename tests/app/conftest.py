"""Fixtures: a real server of the page with a client, and films to upload."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil
import pytest
import uvicorn

from femae.app.server import WorkFolder, build_app
from femae.config.app import AppConfig

os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Served:
    """A server in a thread, a client that sends the page's requests, and the folder of its files."""

    url: str
    folder: Path
    client: httpx.Client

    def start_job(self, *files: tuple[str, bytes], **settings: Any) -> dict[str, Any]:
        """Create a job, upload files given as (name as in the header, bytes), start it."""
        job = self.post("api/jobs", json=settings).raise_for_status().json()
        for name, content in files:
            headers = {"X-File-Name": name}
            self.post(f"api/jobs/{job['id']}/files", content=content, headers=headers).raise_for_status()
        return dict(self.post(f"api/jobs/{job['id']}/start").raise_for_status().json())

    def post(self, path: str, **arguments: Any) -> httpx.Response:
        return self.client.post(path, **arguments)

    def look(self, job: dict[str, Any]) -> dict[str, Any]:
        return dict(self.client.get(f"api/jobs/{job['id']}").raise_for_status().json())

    def wait(self, job: dict[str, Any], *states: str) -> dict[str, Any]:
        for _ in range(1200):
            view = self.look(job)
            if view["state"] in states:
                return view
            time.sleep(0.05)
        pytest.fail(f"the job is still {view}")

    def workers(self) -> list[psutil.Process]:
        """The worker processes of this process's servers."""
        found = []
        for process in psutil.Process().children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if any("spawn_main" in word for word in process.cmdline()):
                    found.append(process)
        return found

    @contextmanager
    def paused(self, job: dict[str, Any] | None = None) -> Iterator[None]:
        """Suspend the worker process within the `with` block; with a `job`, after its first frames are done."""
        while job is not None and not (view := self.look(job))["done"]:
            assert view["state"] in ("waiting", "running")
            time.sleep(0.02)
        (worker,) = self.workers()
        worker.suspend()
        try:
            yield
        finally:
            with suppress(psutil.NoSuchProcess):
                worker.resume()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start a server: serve(make_report=None, token="", **settings of AppConfig)."""
    ends: list[Callable[[], None]] = []

    def start(*, make_report: Any = None, token: str = "", **settings: Any) -> Served:
        folder = WorkFolder()
        config = AppConfig(threads=1, listen_on_all_interfaces=bool(token), **settings)
        app = build_app(config, folder=folder, make_report=make_report, token=token)
        server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        origin = f"http://127.0.0.1:{port}"
        url = f"{origin}/{token}/" if token else f"{origin}/"
        client = httpx.Client(base_url=url, headers={"Origin": origin}, timeout=30, trust_env=False)

        def end() -> None:
            client.close()
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()
            assert not folder.path.exists(), "temporary files are left"

        ends.append(end)
        return Served(url=url, folder=folder.path, client=client)

    yield start
    for end in ends:
        end()


@pytest.fixture(scope="session")
def long_film(tmp_path_factory: pytest.TempPathFactory, repeat_film: Callable[[Path, int], Path]) -> Path:
    """The carphone clip twelve times over: 1,440 frames, so that a job lasts long enough to be observed."""
    return repeat_film(tmp_path_factory.mktemp("films") / "long.mp4", 12)


@pytest.fixture(scope="session")
def short_film(tmp_path_factory: pytest.TempPathFactory, carphone: Path, make_video: Callable[..., Path]) -> Path:
    """The first ten frames of the carphone clip, for jobs that only have to finish."""
    with av.open(str(carphone)) as container:
        frames = [np.asarray(frame.to_ndarray(format="rgb24")) for frame in islice(container.decode(video=0), 10)]
    return make_video(tmp_path_factory.mktemp("films") / "short.mp4", frames)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the servers' temporary files into the test's own folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
