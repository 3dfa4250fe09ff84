"""Runs with many inputs: their order, the names of their outputs, and constant memory."""

import gc
import pathlib
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from femae.inference.output_folder import UniqueStems
from femae.inference.work_unit import WorkUnits


def test_inputs_stand_in_the_order_in_which_they_were_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "pictures.mp4", "b/a.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (8, 8)).save(name)
    units = WorkUnits(["a.mp4", "1.png", "gone.mp4", "pictures.mp4", "b", "2.png"], stem=UniqueStems())
    assert [(unit.number, unit.stem, unit.item.kind) for unit in units] == [
        (0, "a", "video"),
        (1, "pictures", "pictures"),  # at the position of its first picture, which also decides its name
        (2, "gone", "error"),
        (3, "pictures-2", "video"),
        (4, "a-2", "video"),
    ]
    assert [path.name for path in list(units)[1].item.paths] == ["1.png", "2.png"]
    some = units.only([3, 1])
    assert [unit.stem for unit in some] == ["pictures-2", "pictures"] and (len(some), len(units)) == (2, 5)


def test_memory_does_not_grow_with_their_number(tmp_path: Path) -> None:
    """Measures Python's memory; that of SQLite is bounded by its cache, 2 MB per table."""

    def kept(num: int) -> int:
        films = tmp_path / str(num)
        films.mkdir()
        rows = [f"{films}/{number}/video.mp4,{number}" for number in range(num)]
        for number in range(num):
            (films / str(number)).mkdir()
            (films / str(number) / "video.mp4").touch()
        table = tmp_path / f"{num}.csv"
        table.write_text("path,site\n" + "\n".join(rows) + "\n")
        tracemalloc.start()
        try:
            units = WorkUnits([str(table)], stem=UniqueStems())
            _, second, last = units.only([0, 1, num - 1])
            assert last.stem == f"video-{num}" and second.item.columns == (("site", "1"),)
            del second, last
            assert sum(1 for _ in units) == num
            gc.collect()
            # pathlib interns the parts of living paths in a dict that grows in steps
            found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
            return sum(one.size for one in found.statistics("filename"))
        finally:
            tracemalloc.stop()

    kept(10)  # loads modules
    assert kept(1500) - kept(300) < 1200 * 20  # bytes


def test_the_films_before_a_bad_row_are_taken(tmp_path: Path) -> None:
    rows = [f"{tmp_path}/{number:05d}.mp4" for number in range(40_000)]  # more than one batch of pyarrow
    for row in rows[:2]:
        Path(row).touch()
    table = tmp_path / "films.csv"
    table.write_text("path\n" + "\n".join(rows) + "\nx.mp4,too,many\n")
    units = WorkUnits([str(table)], stem=UniqueStems())
    *first, end = units.only([0, 1, 2, len(units) - 1])
    assert [unit.item.kind for unit in first] == ["video", "video", "error"]  # the third file does not exist
    last = end.item
    assert last.name == str(table) and "cannot be read as CSV: CSV parse error" in last.error
