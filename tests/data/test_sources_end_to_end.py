"""Every reader of the catalog through `prepare`: small copies of each raw layout become shards with the same labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.sources.catalog import SOURCES, open_source
from femae.data.store.manifest import read_manifest
from femae.labels import EMOTIONS


def _films(layouts: Any, make_video: Any, root: Path, name: str) -> Path:
    root.mkdir(parents=True)
    make_video(root / name, [layouts.face() for _ in range(4)])
    return root


def _cexpr(layouts: Any, make_video: Any) -> Path:
    root = _films(layouts, make_video, layouts.root / "cexpr", "01.mp4")
    layouts.text(root / "01.txt", ["header", "0", "6", "-1", "2"])
    return root


def _disfa(layouts: Any, make_video: Any) -> Path:
    root = _films(layouts, make_video, layouts.root / "disfa", "LeftVideoSN001_comp.avi")
    layouts.text(root / "SN001_au12.txt", ["1,0", "2,1", "3,2", "4,5"])
    return root


def _folder(layouts: Any) -> Path:
    for name in ("happy", "fearfully_surprised", "neutral"):
        layouts.picture(layouts.root / "classes" / name / "ü 1.png")
    return Path(layouts.root / "classes")


def _table(layouts: Any) -> Path:
    layouts.picture(layouts.root / "t" / "a.png")
    return Path(layouts.table(layouts.root / "t" / "t.csv", [{"path": "a.png", "emotion": "sad", "AU4": 1}]))


WRITERS: dict[str, Callable[[Any, Any], Path]] = {
    "affectnet": lambda layouts, _: layouts.affectnet_csv(),
    "affwild2-au": lambda layouts, _: layouts.affwild2("au"),
    "affwild2-expr": lambda layouts, _: layouts.affwild2("expr", old=True),
    "au-files": _disfa,
    "casia-webface": lambda layouts, _: layouts.casia(),
    "celeba": lambda layouts, _: layouts.celeba(),
    "cexpr": _cexpr,
    "fer2013": lambda layouts, _: layouts.fer2013_csv(),
    "ferplus": lambda layouts, _: layouts.ferplus(),
    "folder": lambda layouts, _: _folder(layouts),
    "imdb": lambda layouts, _: layouts.imdb_wiki("imdb"),
    "lfw": lambda layouts, _: layouts.lfw(),
    "rafdb-basic": lambda layouts, _: layouts.rafdb("basic"),
    "rafdb-compound": lambda layouts, _: layouts.rafdb("compound"),
    "s-affwild2": lambda layouts, _: layouts.s_affwild2(),
    "synth3d": lambda layouts, _: layouts.synth3d(),
    "table": lambda layouts, _: _table(layouts),
    "unlabelled": lambda layouts, make_video: _films(layouts, make_video, layouts.root / "films", "a.mp4"),
    "wiki": lambda layouts, _: layouts.imdb_wiki("wiki"),
}


def test_there_is_a_small_copy_of_every_data_set() -> None:
    assert set(WRITERS) == set(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_a_raw_data_set_becomes_shards_with_its_labels(
    layouts: Any, make_video: Any, tmp_path: Path, source: str
) -> None:
    reader = open_source(source, WRITERS[source](layouts, make_video))
    samples = {sample.key: sample for sample in reader}
    assert samples
    out = tmp_path / "shards"
    prepare([reader], out=out, settings=PrepareSettings(crops=True), workers=Workers(num=1), quiet=True)
    manifest = read_manifest(out)
    assert sorted(manifest.strings("key")) == sorted(samples)
    assert set(manifest.strings("source")) == {source}
    targets, mask = manifest.vectors("targets"), manifest.vectors("mask")
    for row, key in enumerate(manifest.strings("key")):
        sample = samples[key]
        assert np.array_equal(targets[row], sample.targets) and np.array_equal(mask[row], sample.mask)
        assert manifest.strings("group")[row] == sample.group
        assert manifest.strings("class_name")[row] == sample.class_name
    kept = manifest.info["sources"][source]
    assert kept["num_groups"] == reader.reading.num_groups  # type: ignore[attr-defined]
    left_out = kept["left_out_by_reader"]
    assert {cause: entry["count"] for cause, entry in left_out.items()} == dict(reader.reading.excluded)
    assert set(kept["labels"]) <= set(EMOTIONS)


def test_whole_photographs_go_through_the_detector_with_the_data_sets_own_box(layouts: Any, tmp_path: Path) -> None:
    root = layouts.root / "affectnet-photographs"
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    layouts.text(root / "training.csv", [head, "1/a.jpg,170,60,110,140,0,1,0,0", "1/b.jpg,0,400,60,60,0,1,0,0"])
    for name in ("a", "b"):
        layouts.picture(root / "1" / f"{name}.jpg", layouts.photograph)
    out = tmp_path / "shards"
    reader = open_source("affectnet", root)
    prepare([reader], out=out, settings=PrepareSettings(), workers=Workers(num=1), quiet=True)
    manifest = read_manifest(out)
    assert manifest.strings("key") == ["1/a.jpg"] and manifest.strings("class_name") == ["happiness"]
    assert manifest.info["sources"]["affectnet"]["left_out"] == {
        "no face at the data set's own box": {"count": 1, "examples": ["1/b.jpg"]}
    }
