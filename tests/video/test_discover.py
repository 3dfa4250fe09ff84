"""Inputs of the command line are resolved to films and sets of pictures, without duplicates, and to errors."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from femae.video import discover as discover_module
from femae.video.discover import PICTURE_SUFFIXES, VIDEO_SUFFIXES, InputItem, discover, natural_key


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with some pictures and (empty) films in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path: Path, kind: str = "png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, kind)
    return path


def film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x47film")
    return path


def short(items: list[InputItem]) -> list[tuple[str, str, list[str]]]:
    return [(item.kind, item.stem, [path.name for path in item.paths]) for item in items]


def test_suffixes_do_not_overlap() -> None:
    assert not PICTURE_SUFFIXES & VIDEO_SUFFIXES
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES)


def test_film_folder_and_single_pictures(folder: Path) -> None:
    film(folder / "Clip.MP4")
    for name in ("img10.png", "img2.png", "IMG1.JPG", "notes.txt", ".hidden.png", "anim.gif", "talk.webm"):
        (picture if name.endswith("png") else film)(folder / "album" / name)
    single = [picture(folder / name) for name in ("b.png", "a.png")]
    items = discover(["Clip.MP4", "b.png", "album", "a.png"])
    assert short(items) == [
        ("video", "Clip", ["Clip.MP4"]),
        ("pictures", "pictures", [path.name for path in single]),
        ("pictures", "album", ["IMG1.JPG", "img2.png", "img10.png"]),
        ("video", "anim", ["anim.gif"]),
        ("video", "talk", ["talk.webm"]),
    ]
    assert [item.name for item in items] == ["Clip.MP4", "pictures", "album", "album/anim.gif", "album/talk.webm"]


@pytest.mark.parametrize("name", [".", "album/..", "./"])
def test_folder_always_has_a_name(folder: Path, name: str) -> None:
    picture(folder / "album" / "x.png")
    picture(folder / "y.png")
    (item,) = discover([name])
    assert item.stem == folder.name and item.kind == "pictures"
    assert discover(["album/"])[0].stem == "album" and discover(["album/."])[0].stem == "album"


def test_parent_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(folder / "x.png")
    (folder / "inner").mkdir()
    monkeypatch.chdir(folder / "inner")
    assert discover([".."])[0].stem == folder.name


def test_patterns(folder: Path) -> None:
    for name in ("x/p2.png", "x/p10.png", "x/clip.mp4", "x/deep/p3.png", "x/table.csv"):
        (picture if name.endswith("png") else film)(folder / name)
    assert short(discover(["x/*.png"])) == [("pictures", "pictures", ["p2.png", "p10.png"])]
    assert short(discover(["x/*"])) == [
        ("video", "clip", ["clip.mp4"]),
        ("pictures", "deep", ["p3.png"]),
        ("pictures", "pictures", ["p2.png", "p10.png"]),
    ]
    deep = discover(["x/**"])
    assert short(deep) == [("video", "clip", ["clip.mp4"]), ("pictures", "pictures", ["p3.png", "p2.png", "p10.png"])]
    assert discover(["x/p[0-9].png"])[0].paths == (Path("x/p2.png"),)


def test_a_file_whose_name_looks_like_a_pattern(folder: Path) -> None:
    film(folder / "take[1].mp4")
    assert short(discover(["take[1].mp4"])) == [("video", "take[1]", ["take[1].mp4"])]


def test_no_file_twice(folder: Path) -> None:
    film(folder / "a.mp4")
    picture(folder / "pics" / "p.png")
    (folder / "link").symlink_to(folder / "pics")
    items = discover(["a.mp4", "./a.mp4", str(folder / "a.mp4"), "*.mp4", "pics", "pics/p.png", "link"])
    assert short(items) == [("video", "a", ["a.mp4"]), ("pictures", "pics", ["p.png"])]


def test_same_stem_in_two_folders_stays_two_items(folder: Path) -> None:
    film(folder / "one/clip.mp4")
    film(folder / "two/clip.mp4")
    assert [item.stem for item in discover(["one/clip.mp4", "two/clip.mp4"])] == ["clip", "clip"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("none.mp4", "does not exist"),
        ("none/*.png", "matches no file"),
        ("texts/*", "matches no picture or film"),
        ("texts", "holds neither pictures nor films"),
        ("nonsense://bucket/a.mp4", "is not an address that can be read"),
        ("", "does not exist"),
        ("x" * 5000, "does not exist"),
        ("no\0name.mp4", "does not exist"),
    ],
)
def test_what_cannot_be_used_is_an_item_of_its_own(folder: Path, text: str, reason: str) -> None:
    (folder / "texts").mkdir()
    (folder / "texts" / "readme.md").write_text("text")
    film(folder / "good.mp4")
    bad, good = discover([text, "good.mp4"])
    assert bad.kind == "error" and reason in bad.error and bad.name == text and bad.paths == ()
    assert text in bad.error and "\n" not in bad.error
    assert good.kind == "video"


def test_a_device_is_neither_file_nor_folder() -> None:
    (item,) = discover([os.devnull])
    assert item.kind == "error" and "neither a file nor a folder" in item.error


def test_unknown_suffix_is_told_by_the_content(folder: Path, carphone: Path) -> None:
    picture(folder / "photo.dat", "jpeg")
    picture(folder / "moving.dat", "gif")
    (folder / "film.bin").write_bytes(carphone.read_bytes())
    (folder / "noise").write_bytes(b"neither")
    items = discover(["photo.dat", "moving.dat", "film.bin", "noise"])
    assert [(item.kind, item.name) for item in items] == [
        ("pictures", "pictures"),
        ("video", "moving.dat"),
        ("video", "film.bin"),
        ("video", "noise"),
    ]


def test_program_texts_are_not_transport_streams(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "main.ts").write_text("export const x = 1")
    film(folder / "code" / "record.ts")
    assert short(discover(["code"])) == [("video", "record", ["record.ts"])]


def test_natural_order() -> None:
    names = ["img10.png", "img2.png", "Img1.png", "img2b.png", "2.png", "10.png", "a/1.png"]
    ordered = [str(path) for path in sorted(map(Path, names), key=natural_key)]
    assert ordered == ["2.png", "10.png", "a/1.png", "Img1.png", "img2.png", "img2b.png", "img10.png"]


@given(st.lists(st.text("aB01²٣.-", min_size=1).filter(lambda text: text.strip(".")), max_size=8))
def test_natural_order_is_total_and_stable(names: list[str]) -> None:
    forwards = [Path(name) for name in names]
    backwards = forwards[::-1]
    assert sorted(forwards, key=natural_key) == sorted(backwards, key=natural_key)


@given(st.lists(st.text("aB01²٣.-/ ", min_size=1).filter(lambda text: text.strip(".")), max_size=12))
def test_many_paths_come_in_the_same_order(names: list[str]) -> None:
    """The order on disk is that in memory."""
    paths = [Path(name) for name in names]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discover_module, "_MAX_IN_MEMORY", 0)
        assert list(discover_module.in_natural_order(paths)) == sorted(set(paths), key=natural_key)


def test_a_folder_and_a_pattern_of_many_films(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        film(folder / "films" / f"take{number}.mp4")
    picture(folder / "films" / "a.png")
    (folder / "films" / "notes.txt").touch()
    few = [(item, item.skipped) for text in ("films", "films/*") for item in discover([text])]
    monkeypatch.setattr(discover_module, "_MAX_IN_MEMORY", 5)
    assert [(item, item.skipped) for text in ("films", "films/*") for item in discover([text])] == few
    assert [item.stem for item, _ in few[1:4]] == ["take0", "take1", "take2"] and few[0][1] == (".txt",)


def test_pictures_of_a_folder_can_be_read(folder: Path, scene: Callable[..., list[npt.NDArray[np.uint8]]]) -> None:
    from femae.video.pictures import PictureSource

    for number, array in enumerate(scene(12), 1):
        (folder / "shots").mkdir(exist_ok=True)
        Image.fromarray(array).save(folder / "shots" / f"shot{number}.png")
    (item,) = discover(["shots"])
    frames = list(PictureSource(item.paths, name=item.name))
    assert [frame.source for frame in frames] == [f"shot{n}.png" for n in range(1, 13)]
