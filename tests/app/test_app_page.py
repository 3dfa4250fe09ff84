"""The page in a real browser: upload to download, two jobs, cancel, bad files, camera; desktop and phone."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.labels import EMOTIONS

sync_api = pytest.importorskip("playwright.sync_api")

_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
_WAIT_MS = 60_000


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Iterator[Any]:
    running = launch(*_CAMERA)
    yield running
    running.close()


def until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true; wait_for_function would violate the page's content policy."""
    for _ in range(_WAIT_MS // 50):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {expression}")


@contextmanager
def opened(browser: Any, url: str, *, expected_errors: tuple[str, ...] = (), **context: Any) -> Iterator[Any]:
    """Open the page; asserts at the end that there were no console errors, foreign requests or injected scripts."""
    context.setdefault("viewport", {"width": 1280, "height": 850})
    inside = browser.new_context(**context)
    inside.set_default_timeout(_WAIT_MS)
    page, errors, strays = inside.new_page(), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append("a dialog: " + dialog.message), dialog.dismiss()))
    local = (url, "blob:", "data:", "about:")
    page.on("request", lambda request: strays.append(request.url) if not request.url.startswith(local) else None)
    page.goto(url)
    page.wait_for_selector("#limits:not(:empty)")
    yield page
    inside.close()
    assert [text for text in errors if not any(part in text for part in expected_errors)] == []
    assert strays == []


def scripted_report(
    table: Path, *, subject: Path, out: Path, title: str, advance: Callable[[], None], **_: Any
) -> None:
    out.write_text("<!doctype html><p id=p></p><script>p.textContent = 'own ' + (1 + 1) + origin</script>")


def test_from_upload_to_download(
    serve: Callable[..., Any], browser: Any, carphone: Path, faults_of: Callable[[Any], list[str]]
) -> None:
    served = serve(make_report=scripted_report)
    name = "<img src=x onerror=alert(1)> & 'q' \"u\" .mp4"
    with opened(browser, served.url) as page:
        assert page.get_by_label("Label").input_value() == "expression" and faults_of(page) == []
        page.get_by_label("Rule").select_option("product")
        page.get_by_label("Smoothing").fill("0.2")
        film = {"name": name, "mimeType": "video/mp4", "buffer": carphone.read_bytes()}
        page.set_input_files("#files", [film])
        page.wait_for_selector(".job.done")
        assert page.locator(".job .name").inner_text() == name
        assert page.locator(".job .state").inner_text().endswith("done, 120 frames")
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#result h2").inner_text() == name
        assert page.locator("#say").inner_text().startswith(f"{name}: done")
        report = page.frame_locator("iframe.report")
        assert report.locator("#p").inner_text() == "own 2null", "the report's script runs, and has no origin"
        page.get_by_role("tab", name="Report").press("ArrowRight")
        assert page.get_by_role("tab", name="Film").get_attribute("aria-selected") == "true"
        until(page, "document.querySelector('.film').duration > 3.9")
        strip = page.locator(".track canvas")
        shown = re.fullmatch(r"face 1: (\S+) \d.*", strip.get_attribute("aria-label"))
        assert shown and shown[1] in ("none", *EMOTIONS)
        assert page.get_by_label("Share of each expression").locator("li").count() >= 1
        assert faults_of(page) == []
        box = strip.bounding_box()
        strip.click(position={"x": box["width"] / 2, "y": 5})
        until(page, "Math.abs(document.querySelector('.film').currentTime - 2) < 0.1")
        assert "#1" in page.locator(".readout").inner_text()
        page.get_by_label("Time in the film").focus()
        page.keyboard.press("Home")
        until(page, "document.querySelector('.film').currentTime < 0.1")
        page.get_by_role("tab", name="Table").click()
        page.wait_for_selector("td")
        assert page.locator("tbody tr").count() == 50 and faults_of(page) == []
        page.get_by_role("button", name="Next rows").click()
        until(page, "document.querySelector('tbody td:nth-child(2)').textContent === '51'")
        assert page.locator("tbody td").first.inner_text() == name
        with page.expect_download() as download:
            page.get_by_role("link", name="Table, Parquet").click()
        table = pq.read_table(io.BytesIO(Path(download.value.path()).read_bytes()))
        assert set(table["source"].to_pylist()) == {name}
        assert json.loads(table.schema.metadata[b"rules"])["rule"] == "product"
        assert download.value.suggested_filename.endswith(".parquet")
        page.reload()
        page.wait_for_selector(".job.done")
        page.get_by_role("button", name="Show").click()
        page.wait_for_selector("#result:not([hidden])")
        page.get_by_role("button", name="Remove").click()
        page.wait_for_selector("#no-jobs:not([hidden])")
        assert page.locator("#result").is_hidden()
    assert list((served.folder / "jobs").iterdir()) == []


def test_two_jobs_cancel_and_bad_files(
    serve: Callable[..., Any], browser: Any, long_film: Path, short_film: Path, tmp_path: Path
) -> None:
    served = serve(max_upload_mb=20)
    bad = {"name": "bad.mp4", "mimeType": "video/mp4", "buffer": b"no film " * 500}
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(20_000_001))
    with opened(browser, served.url) as page:
        page.set_input_files("#files", [long_film])
        first = page.locator(".job", has_text="long.mp4")
        page.wait_for_selector(".job.running progress[value]")
        sync_api.expect(first.locator(".state")).to_contain_text("of 1440 frames", timeout=_WAIT_MS)
        with served.paused():
            page.set_input_files("#files", [bad])
            page.set_input_files("#files", [short_film])
            waiting = page.locator(".job.waiting", has_text=short_film.name)
            waiting.wait_for()
            sync_api.expect(waiting.locator(".state")).to_contain_text("number 2 in the queue")
            first.get_by_role("button", name="Cancel long.mp4").press("Enter")
        sync_api.expect(first.locator(".state")).to_have_text("cancelled; its files are removed", timeout=_WAIT_MS)
        failed = page.locator(".job.failed", has_text="bad.mp4")
        failed.wait_for()
        assert "'bad.mp4' is not a film" in failed.locator(".state").inner_text()
        page.locator(".job.done", has_text=short_film.name).wait_for()
        page.set_input_files("#files", [large])
        failed = page.locator(".job.failed", has_text="large.mp4")
        assert "too large: 20 MB, and this page takes up to 20 MB" in failed.locator(".state").inner_text()
        page.get_by_label("Threshold").fill("-3")
        page.set_input_files("#files", [short_film])
        assert "Threshold" in page.get_by_role("alert").inner_text()
        assert page.locator(".job").count() == 4


def test_pictures_on_a_phone_in_the_dark(
    serve: Callable[..., Any], browser: Any, astronaut: np.ndarray, faults_of: Callable[[Any], list[str]]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(astronaut).save(buffer, format="PNG")
    files = [
        {"name": f"{word} {'long ' * 12}.png", "mimeType": "image/png", "buffer": buffer.getvalue()} for word in "ab"
    ]
    served = serve()
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
    with opened(browser, served.url, **phone) as page:
        assert page.locator("#settings").is_hidden(), "settings are folded up where there is little room"
        page.set_input_files("#files", files)
        page.wait_for_selector("#result:not([hidden])")
        assert page.locator("#result .hint").inner_text() == "2 pictures, 2 faces"
        until(page, "[...document.querySelectorAll('.gallery img')].every((image) => image.naturalWidth === 512)")
        assert faults_of(page) == []
        page.get_by_role("tab", name="Table").click()
        page.wait_for_selector("td")
        assert faults_of(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        ground, text = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert sum(map(int, ground[4:-1].split(","))) < 120 < 600 < sum(map(int, text[4:-1].split(",")))
        small = page.evaluate(
            "[...document.querySelectorAll('button, a.button, select')].filter((one) => one.offsetHeight && "
            "one.offsetHeight < 34).map((one) => one.textContent)"
        )
        assert small == [], "too small for a finger"


def test_the_camera_records_a_film_and_takes_a_picture(serve: Callable[..., Any], browser: Any) -> None:
    served = serve()
    with opened(browser, served.url, permissions=["camera"]) as page:
        page.get_by_role("button", name="Use the camera").click()
        sync_api.expect(page.locator("#camera-note")).to_contain_text("Ready", timeout=_WAIT_MS)
        page.get_by_role("button", name="Take a picture").click()
        page.locator(".job.done", has_text=".jpg").wait_for()
        page.get_by_role("button", name="Record").click()
        sync_api.expect(page.locator("#camera-note")).to_contain_text("Recording 0:01", timeout=_WAIT_MS)
        page.get_by_role("button", name="Stop").click()
        job = page.locator(".job", has_text="camera").filter(has_not_text=".jpg")
        sync_api.expect(job.locator(".state")).to_contain_text("done", timeout=_WAIT_MS)
        job.get_by_role("button", name="Show").click()
        page.get_by_role("tab", name="Film").click()
        until(page, "document.querySelector('.film')?.readyState >= 1")
        page.get_by_role("button", name="Close the camera").click()
        assert page.locator("#camera").is_hidden()


def test_a_server_that_is_gone_is_said_so(serve: Callable[..., Any], browser: Any, short_film: Path) -> None:
    served = serve()
    with opened(browser, served.url, expected_errors=("Failed to load resource",)) as page:
        page.route("**/api/jobs", lambda route: route.abort())
        page.set_input_files("#files", [short_film])
        state = page.locator(".job.failed .state")
        state.wait_for()
        assert "is it still running" in state.inner_text()
