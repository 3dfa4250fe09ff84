"""The page of a film in a real browser: timeline, hover, seeking, faces, keys, print, dark, hostile names, size."""

import base64
import csv
import gzip
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from femae.labels import ABAW_COMPOUNDS
from femae.report import PageOptions, write_video_report
from femae.video.palette import EMOTION_COLOURS, NONE_COLOUR, label_colours

NUM_FRAMES, RATE = 75, 25.0
GAPS = {"no_face": range(31, 41), "unreadable": range(41, 44)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, small_film: Path, make_table: Callable[..., Any]) -> Path:
    table = make_table(num_frames=NUM_FRAMES, rate=RATE, missing={2: range(1, 21)}, gaps=GAPS)
    return write_video_report(table, out=tmp_path_factory.mktemp("page") / "clip.html", video=small_film)


@pytest.fixture
def film(report: Path, open_page: Callable[..., Any], until: Callable[[Any, str], None]) -> Any:
    """The page with its film loaded."""
    watched = open_page(report)
    until(watched.page, "document.getElementById('film').readyState >= 2")
    return watched


def canvas(page: Any, track: int, kind: str = "pane") -> Any:
    return page.locator(f".{kind}[data-track='{track}'] canvas").first


def x_of(page: Any, time_s: float) -> float:
    """Pixels from the left edge of the timeline at the whole film's zoom."""
    width = page.locator("#timeline").bounding_box()["width"]
    return float(50 + time_s / (NUM_FRAMES / RATE) * (width - 58))


def shown_frame(page: Any) -> int:
    return int(re.search(r"frame ([\d,]+)", page.locator("#clock").inner_text())[1].replace(",", ""))


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(film: Any) -> None:
    assert film.page.locator(".pane canvas").count() == 2  # the emotions of two faces
    assert film.page.locator(".lane canvas").count() == 3  # two faces, gaps
    assert film.page.locator("video").evaluate("v => [v.videoWidth > 0, Math.abs(v.duration - 3) < 0.1]") == [
        True,
        True,
    ]
    assert film.page.locator(".moment img").first.evaluate("i => i.naturalWidth") == 240
    film.assert_clean()


def colours_of(canvas: Any) -> set[tuple[int, int, int]]:
    found = canvas.evaluate(
        """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, found = new Set();
        for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 250) found.add([d[i], d[i+1], d[i+2]].join());
        return [...found].map(k => k.split(',').map(Number)); }"""
    )
    return {(r, g, b) for r, g, b in found}


def test_the_charts_are_drawn(film: Any, make_table: Callable[..., Any]) -> None:
    """The canvases contain the colours of the series, not only a grid."""
    assert set(EMOTION_COLOURS.values()) <= colours_of(canvas(film.page, 0))
    expected = {
        colour
        for row in make_table(num_frames=NUM_FRAMES, rate=RATE, missing={2: range(1, 21)}, gaps=GAPS).table.to_pylist()
        if row["face_id"] == 1
        for colour in label_colours(row["expression"], ABAW_COMPOUNDS)
    }
    found = colours_of(canvas(film.page, 0, "lane"))
    assert len(expected) > 2 and found & {*EMOTION_COLOURS.values(), NONE_COLOUR} == expected


def test_hover_tells_the_exact_time_frame_and_values(film: Any, make_table: Callable[..., Any]) -> None:
    page = film.page
    canvas(page, 0).hover(position={"x": x_of(page, 0.5), "y": 60})
    tip = page.locator("#tip").inner_text()
    assert "0:00.480 · frame 13" in tip
    frame = 13
    table = make_table(num_frames=NUM_FRAMES, rate=RATE, missing={2: range(1, 21)}, gaps=GAPS).table.to_pylist()
    row = next(row for row in table if row["frame"] == frame and row["face_id"] == 1)
    assert f"happiness\t{row['happiness']:.3f}" in tip
    assert f"face 1: {row['expression']} {row['expression_probability']:.2f}" in tip
    canvas(page, 0).hover(position={"x": x_of(page, 1.4), "y": 60})
    assert "no face in this frame" in page.locator("#tip").inner_text()
    canvas(page, 0).hover(position={"x": x_of(page, 41.5 / RATE), "y": 60})
    assert "cannot be decoded" in page.locator("#tip").inner_text()


def test_a_face_that_shows_nothing_is_said_to(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any], faults_of: Callable[..., Any]
) -> None:
    table = make_table(num_frames=NUM_FRAMES, rate=RATE, lift=-0.75)  # all below 0.06
    page = open_page(write_video_report(table, out=tmp_path / "none.html")).page
    canvas(page, 0, "lane").hover(position={"x": x_of(page, 1.0), "y": 8})
    assert "face 1: none 1.00" in page.locator("#tip").inner_text()
    assert page.locator(".now b").first.inner_text().startswith("none ")
    assert page.locator(".moment").count() == 0 and "none throughout" in page.locator("#moments").inner_text()
    assert page.locator("#shares tr td:first-child").all_inner_texts() == ["none", "none"]
    assert faults_of(page) == []


def test_the_papers_view(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any], faults_of: Callable[..., Any]
) -> None:
    for lift, weak in ((-0.75, True), (-0.2, False)):  # all below 0.06; two or three high, none above 0.6
        table = make_table(num_frames=NUM_FRAMES, rate=RATE, lift=lift)
        page = open_page(
            write_video_report(table, out=tmp_path / f"{weak}.html", options=PageOptions(labels="compound"))
        ).page
        canvas(page, 0, "lane").hover(position={"x": x_of(page, 1.0), "y": 8})
        tip = page.locator("#tip").inner_text()
        assert ("nothing clear" in tip) is weak
        row = table.table.slice(2 * 25, 1).to_pylist()[0]
        assert row["frame"] == 26 and f"face 1: {row['compound']} {row['compound_score']:.2f}" in tip
        assert page.locator(".pane canvas").count() == 4  # emotions and compounds of two faces
        assert "Share of each compound" in page.locator("#shares").inner_text()
        names = page.locator(".moment strong").all_inner_texts()
        assert names and all(name.rsplit(" ", 1)[0] in {c.name for c in ABAW_COMPOUNDS} for name in names)
        assert faults_of(page) == []


def test_a_table_of_an_older_femae_shows_its_compounds_and_says_so(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any]
) -> None:
    table = make_table(num_frames=NUM_FRAMES, rate=RATE).table.drop_columns(["expression", "expression_probability"])
    pq.write_table(table, tmp_path / "clip.parquet")
    watched = open_page(write_video_report(tmp_path / "clip.parquet", out=tmp_path / "old.html"))
    assert "has no column expression" in watched.page.locator(".problem").inner_text()
    assert "Share of each compound" in watched.page.locator("#shares").inner_text()
    watched.assert_clean()


def test_everybody_can_use_the_page(report: Path, open_page: Callable[..., Any], faults_of: Callable[..., Any]) -> None:
    page = open_page(report).page
    canvas(page, 0).hover(position={"x": x_of(page, 0.5), "y": 60})
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true; }")
    assert page.locator("#tip").is_visible() and faults_of(page) == []


def test_a_click_on_the_timeline_seeks_the_film(film: Any, until: Callable[[Any, str], None]) -> None:
    page = film.page
    canvas(page, 0).click(position={"x": x_of(page, 2.02), "y": 50})
    until(page, "Math.abs(document.getElementById('film').currentTime - 2.0) < 0.05")
    assert shown_frame(page) == 51
    page.locator("#film").evaluate("v => { v.currentTime = 1.01; }")  # and the timeline follows the film
    until(page, "document.getElementById('clock').textContent.endsWith('frame 26')")
    page.locator(".moment button").first.click()
    frame = int(page.locator(".moment button").first.get_attribute("data-seek"))
    assert shown_frame(page) == frame
    until(page, f"Math.abs(document.getElementById('film').currentTime - {(frame - 1) / RATE}) < 0.03")


def test_the_timeline_follows_playback(film: Any, until: Callable[[Any, str], None]) -> None:
    page = film.page
    before = page.locator("#playhead").bounding_box()["x"]
    page.locator("#play").click()
    until(page, "document.getElementById('film').currentTime > 0.3")
    assert page.locator("#playhead").bounding_box()["x"] > before + 20
    page.locator("#play").click()
    assert page.locator("#film").evaluate("v => v.paused")


def test_the_film_shows_the_frame_that_the_page_names(film: Any, until: Callable[[Any, str], None]) -> None:
    """The gray level of each frame encodes its number."""
    page = film.page
    for frame in (2, 17, 60):
        page.locator("#seek").fill(str(frame - 1))
        until(page, "!document.getElementById('film').seeking")
        page.wait_for_timeout(150)
        grey = page.locator("#film").evaluate(
            """v => { const c = document.createElement('canvas'); c.width = v.videoWidth; c.height = v.videoHeight;
            const x = c.getContext('2d'); x.drawImage(v, 0, 0); return x.getImageData(58, 66, 1, 1).data[0]; }"""
        )
        assert abs(grey - (40 + (frame - 1) * 4 % 180)) <= 3, frame


def test_a_face_can_be_hidden(film: Any) -> None:
    page = film.page
    chip = page.locator("#faces [data-track='0']")
    assert canvas(page, 0).is_visible() and page.locator("#shares [data-face='0']").is_visible()
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert not canvas(page, 0).is_visible() and canvas(page, 1).is_visible()
    assert not page.locator("#shares [data-face='0']").is_visible()
    assert page.locator("#shares [data-face='1']").is_visible()
    page.locator("#faces-all").click()
    assert canvas(page, 0).is_visible()


def test_keys(film: Any, until: Callable[[Any, str], None]) -> None:
    page = film.page
    for key, frame in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("Shift+ArrowRight", 27), ("End", 75)):
        page.keyboard.press(key)
        assert shown_frame(page) == frame, key
    page.keyboard.press("Home")
    page.keyboard.press("2")
    assert not canvas(page, 1).is_visible()
    page.keyboard.press("2")
    assert canvas(page, 1).is_visible()
    page.keyboard.press("Space")
    until(page, "!document.getElementById('film').paused")
    page.keyboard.press("Space")
    until(page, "document.getElementById('film').paused")
    page.keyboard.press("t")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_zoom_by_keys_and_by_dragging(film: Any, until: Callable[[Any, str], None]) -> None:
    page = film.page
    assert page.locator("#range").inner_text() == "0:00.0 to 0:03.0"
    canvas(page, 0).hover(position={"x": x_of(page, 1.0), "y": 60})
    page.mouse.down()
    canvas(page, 0).hover(position={"x": x_of(page, 2.0), "y": 60})
    page.mouse.up()
    until(page, "document.getElementById('range').textContent === '0:01.0 to 0:02.0'")
    page.keyboard.press("0")
    until(page, "document.getElementById('range').textContent === '0:00.0 to 0:03.0'")
    page.keyboard.press("+")
    until(page, "document.getElementById('range').textContent === '0:00.0 to 0:01.5'")


def test_a_line_can_be_hidden(film: Any) -> None:
    page = film.page
    key = page.get_by_role("button", name="happiness", exact=True)
    key.click()
    assert key.get_attribute("aria-pressed") == "false"
    canvas(page, 0).hover(position={"x": x_of(page, 0.5), "y": 60})
    assert "happiness" not in page.locator("#tip").inner_text() and "sadness" in page.locator("#tip").inner_text()


def test_gaps_settings_and_shares_are_told(film: Any) -> None:
    page = film.page
    gaps = page.locator("#gap-list").inner_text()
    assert "10 frames (13.3%) no face" in gaps and "3 frames (4.0%) unreadable" in gaps
    assert "femae-test 1" in page.locator("#about").inner_text()
    rows = page.locator("#shares [data-face='0'] td:nth-child(2)").all_inner_texts()
    assert sum(float(text.rstrip("%")) for text in rows) == pytest.approx(100, abs=0.4)


def test_the_table_comes_out_of_the_page_whole(film: Any, make_table: Callable[..., Any], tmp_path: Path) -> None:
    with film.page.expect_download() as waiting:
        film.page.locator("[data-download]").first.click()
    waiting.value.save_as(tmp_path / "out.csv")
    table = make_table(num_frames=NUM_FRAMES, rate=RATE, missing={2: range(1, 21)}, gaps=GAPS)
    table.write(tmp_path / "expected.csv")
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_dark_and_print(report: Path, open_page: Callable[..., Any]) -> None:
    dark = open_page(report, color_scheme="dark").page
    assert dark.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 22, 26)"
    dark.locator("#theme").click()
    assert dark.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(246, 246, 244)"
    light = open_page(report).page
    light.emulate_media(media="print")
    assert not light.locator("#print").is_visible() and not light.locator("#film").is_visible()
    assert canvas(light, 0).is_visible() and light.locator("#gap-list table").is_visible()
    assert len(light.pdf()) > 20_000


def test_it_fits_a_phone(report: Path, open_page: Callable[..., Any]) -> None:
    watched = open_page(report, viewport={"width": 390, "height": 844}, has_touch=True)
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    canvas(watched.page, 0).tap(position={"x": 200, "y": 60})
    assert 30 <= shown_frame(watched.page) <= 40
    watched.assert_clean()


def test_hostile_names_cannot_run_script(
    tmp_path: Path, small_film: Path, make_table: Callable[..., Any], open_page: Callable[..., Any]
) -> None:
    hostile = "</script><img src=x onerror=alert(1)>{{7*7}}&amp;\u2028'\".mp4"
    table = make_table(num_frames=NUM_FRAMES, source=hostile)
    table = type(table)(
        table.table.replace_schema_metadata({"model": hostile, "rules": '{"</script><script>alert(2)</script>":1}'}),
        problems=[f"<img src=http://localhost:9/{n} onerror=alert(3)>" for n in range(2)],
    )
    out = write_video_report(table, out=tmp_path / "page.html", video=small_film, options=PageOptions(title=hostile))
    watched = open_page(out)
    assert watched.page.locator("h1").inner_text().startswith("</script><img src=x onerror=alert(1)>{{7*7}}&amp;")
    assert watched.page.locator("img[src^='http'], img[src='x']").count() == 0
    watched.page.evaluate(  # even injected markup could neither run nor send a request
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://localhost:9/x\" onerror=\"window.ran = 1\">')"
    )
    watched.page.wait_for_timeout(200)
    assert watched.page.evaluate("window.ran === undefined")
    assert all("Content Security Policy" in text for text in watched.complaints) and len(watched.complaints) >= 1
    assert watched.blocked == ["csp http://localhost:9/x"]  # it never left the browser


def test_ten_minutes_of_two_people(
    tmp_path: Path,
    make_video: Callable[..., Path],
    make_table: Callable[..., Any],
    open_page: Callable[..., Any],
    until: Callable[[Any, str], None],
) -> None:
    """Ten minutes of noise, which compresses badly, give less than 25 MB, and the last frame can be reached."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 36, 64, 3), np.uint8)
    frames = (noise[number % 20] for number in range(3_000))
    film = make_video(tmp_path / "long.mp4", frames, rate=Fraction(5), options={"preset": "ultrafast", "crf": "40"})
    table = make_table(num_frames=3_000, rate=5.0)
    out = write_video_report(table, out=tmp_path / "long.html", video=film)
    assert 1e6 < out.stat().st_size < 25e6
    watched = open_page(out)
    until(watched.page, "document.getElementById('film').readyState >= 2")
    watched.page.keyboard.press("End")
    assert shown_frame(watched.page) == 3_000
    until(watched.page, "document.getElementById('film').currentTime > 599")
    watched.assert_clean()


def test_two_times_18000_rows_are_all_inside(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any]
) -> None:
    out = write_video_report(make_table(num_frames=18_000, rate=30.0), out=tmp_path / "long.html")
    assert out.stat().st_size < 8e6
    watched = open_page(out)
    watched.page.keyboard.press("End")
    assert shown_frame(watched.page) == 18_000
    watched.assert_clean()
    text = re.search(r'id="blob-csv-0">([^<]+)<', out.read_text("utf-8"))[1]
    assert len(list(csv.reader(gzip.decompress(base64.b64decode(text)).decode().splitlines()))) == 36_001


def test_without_a_film_and_with_a_late_start(
    tmp_path: Path, make_table: Callable[..., Any], open_page: Callable[..., Any]
) -> None:
    out = write_video_report(make_table(num_frames=50, start_s=12.5), out=tmp_path / "page.html")
    watched = open_page(out)
    assert watched.page.locator("video").count() == 0
    assert watched.page.locator("#clock").inner_text() == "0:12.500 · frame 1"
    watched.page.keyboard.press("ArrowRight")
    assert watched.page.locator("#clock").inner_text() == "0:12.540 · frame 2"
    watched.assert_clean()
