"""`femae data ...` from the command line: parsing, exit status, messages."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.cli import main
from femae.data.annotate.label_studio import CONTROL
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import InlinePicture, RawSample, Reading
from femae.data.store.manifest import read_manifest


def noise(number: int, *, size: int = 24) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (size, size), np.uint8)


class Faces:
    def __init__(self, count: int) -> None:
        self.count, self.reading = count, Reading(source="faces")

    def __iter__(self) -> Iterator[RawSample]:
        for number in range(self.count):
            picture = InlinePicture(pixels=noise(number).tobytes(), height=24, width=24)
            targets = np.eye(6, dtype=np.float32)[number % 6]
            known = np.ones(6, np.bool_)
            yield RawSample(
                key=f"{number}", picture=picture, group=f"g{number}", targets=targets, mask=known, is_crop=True
            )


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    prepare([Faces(30)], out=tmp_path / "shards", settings=PrepareSettings(), workers=Workers(num=1), quiet=True)
    return tmp_path / "shards"


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A folder per class with twelve crops and one file that is not a picture."""
    for number in range(12):
        folder = tmp_path / "crops" / ("happy", "sad", "fear+surprise")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(folder / f"{number}.png")
    (tmp_path / "crops" / "happy" / "note.png").write_text("no picture")
    return tmp_path / "crops"


def run(*words: object) -> int:
    """The exit status, returned or raised."""
    try:
        return main(["data", *(str(word) for word in words)])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_help_names_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    said = capsys.readouterr().out
    for name in ("prepare", "doctor", "folds", "import", "export-annotation", "open", "sources"):
        assert name in said


@pytest.mark.parametrize("name", ["prepare", "doctor", "folds", "import", "export-annotation", "open", "sources"])
def test_each_subcommand_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert f"femae data {name}" in capsys.readouterr().out


def test_wrong_options_end_with_two(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", shards.parent / "new")
    for words in (("prepare", shards, "--size", "x"), ("prepare", shards, "--size", "3"), ("prepare",), ("nothing",)):
        assert run(*words, *out) == 2, words
    assert run("prepare", shards) == 2  # no --out
    capsys.readouterr()
    assert run("doctor", shards.parent / "not there", *out) == 2
    assert "not there" in capsys.readouterr().err
    assert not out[1].exists()


def test_prepare_says_what_it_did_and_then_that_there_is_nothing_to_do(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("prepare", crops, "--crops", "--workers", 1, "--out", out) == 0
    said = capsys.readouterr().out
    assert "12 faces of 12 samples" in said and "faces/s" in said and "note.png" in said
    assert sum(read_manifest(out).vectors("targets").sum(0)) == 16
    assert run("prepare", crops, "--crops", "--workers", 1, "--out", out) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run("prepare", crops, "--crops", "--workers", 1, "--out", out, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_kinds_options_and_plain_folders(crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sources") == 0
    said = capsys.readouterr().out
    assert "affectnet" in said and "every" in said
    common = ("--workers", 1, "--crops", "--out", tmp_path / "out")
    assert run("prepare", f"folder={crops}", *common, "--options", "name=mine", "crops=true") == 0
    assert run("prepare", f"unlabelled={crops}", *common) == 0
    assert run("prepare", crops / "sad", *common) == 0  # holds no class folders: no labels
    sources = read_manifest(tmp_path / "out").info["sources"]
    assert {name: entry["num_samples"] for name, entry in sources.items()} == {"mine": 12, "sad": 4, "unlabelled": 12}
    assert sources["mine"]["labels"] and not sources["sad"]["labels"]
    capsys.readouterr()
    for words in ((f"raf={crops}",), (crops, "--options", "every"), (crops, "--options", "nonsense=1"), ("gone",)):
        assert run("prepare", *words, "--workers", 1, "--out", tmp_path / "new") == 2, words
    assert "'raf' is not a known kind of data set" in capsys.readouterr().err


def test_films_in_a_folder(tmp_path: Path, astronaut: np.ndarray, make_video: Callable[..., Path]) -> None:
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "a.mp4", [astronaut[:256, 96:352]] * 4)
    assert run("prepare", tmp_path / "in", "--workers", 1, "--out", tmp_path / "out", "--all-faces") == 0
    assert read_manifest(tmp_path / "out").numbers("frame").tolist() == [1, 2, 3, 4]


def test_a_set_that_gives_nothing_ends_with_one(crops: Path, tmp_path: Path) -> None:
    assert run("prepare", crops, "--workers", 1, "--out", tmp_path / "out") == 1  # noise: no face is found


def test_doctor_fails_only_when_strict(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report"
    assert run("doctor", shards, "--strict", "--out", report) == 0
    assert "no problems found" in capsys.readouterr().out
    (shards / "shards" / "faces-00000.parquet").unlink()
    assert run("doctor", shards, "--out", report) == 0
    assert run("doctor", shards, "--out", report, "--strict") == 1
    assert "error: missing-shard 1" in capsys.readouterr().out
    assert json.loads((report / "doctor.json").read_text())["findings"][0]["kind"] == "missing-shard"


def test_doctor_examines_raw_data(crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", crops, "--out", tmp_path / "report") == 0
    assert "12 samples of 1 data set" in capsys.readouterr().out
    assert (tmp_path / "report" / "doctor.html").is_file()


def test_folds_are_written_beside_the_manifest(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("folds", shards, "--num-folds", 3) == 0
    table = pq.read_table(shards / "folds.parquet")
    assert table.num_rows == 30 and set(table.column("fold").to_pylist()) == {0, 1, 2}
    assert "faces, fold 0: 10 samples, 10 groups" in capsys.readouterr().out


def test_annotation_goes_out_and_comes_back(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    assert run("export-annotation", shards, "--out", project, "--limit", 5) == 0
    assert "5 faces in 1 task file" in capsys.readouterr().out
    tasks = json.loads((project / "tasks-001.json").read_text("utf-8"))
    for task in tasks:
        task["annotations"] = [
            {"completed_by": person, "result": [{"from_name": CONTROL, "value": {"choices": [word]}}], "lead_time": 2}
            for person, word in ((1, "Fear"), (2, "Fear"), (3, "Surprise"))
        ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert run("import", tmp_path / "export.json", "--shards", shards, "--out", tmp_path / "voted") == 0
    said = capsys.readouterr().out
    assert "5 faces with votes: 15 ballots of 3 annotators" in said and "alpha" in said
    targets = read_manifest(tmp_path / "voted").vectors("targets")
    np.testing.assert_allclose(targets, np.tile([1 / 3, 2 / 3, 0, 0, 0, 0], (5, 1)), atol=1e-6)
    with (tmp_path / "voted" / "annotators.csv").open() as file:
        assert [row["num_ballots"] for row in csv.DictReader(file)] == ["5", "5", "5"]


@pytest.mark.shared
def test_the_open_sets_are_built_by_one_command(shared_data: Path, tmp_path: Path) -> None:
    """A reduced copy of the shared folder: the first cells of each set."""
    small = tmp_path / "data"
    for name, count in (("ferplus", 40), ("lfw", 30), ("synth3d", 20)):
        (small / name).mkdir(parents=True)
        lines = (shared_data / name / "labels.csv").read_text("utf-8").splitlines(keepends=True)
        (small / name / "labels.csv").write_text("".join(lines[: count + 1]), "utf-8")
        for atlas in sorted((shared_data / name).glob("*_00.*")):
            (small / name / atlas.name).symlink_to(atlas)
    assert run("open", small, "--out", tmp_path / "out", "--workers", 1) == 0
    manifest = read_manifest(tmp_path / "out")
    assert set(manifest.info["sources"]) == {"ferplus", "lfw", "synth3d"}
    assert manifest.info["sources"]["lfw"]["num_samples"] == 30
    assert set(manifest.strings("framing")) == {"whole"}
    assert manifest.vectors("au_mask").any() and manifest.vectors("mask").any()
