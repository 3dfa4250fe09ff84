"""The doctor reports one planted problem of each kind, in shards and in raw data, and none in sound ones."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFilter

from femae.data.doctor.page import ContactSheets, draw_sheet
from femae.data.doctor.run import Diagnosis, diagnose_raw, diagnose_shards
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import InlinePicture, PictureFile, RawSample, Reading
from femae.errors import DataError

Pixels = npt.NDArray[np.uint8]


def blob(number: int) -> Pixels:
    """u8[48, 48] gray: a different picture for each number, smooth enough to survive jpg."""
    noise = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC))


def sample(key: str, pixels: Pixels, **changes: Any) -> RawSample:
    height, width = pixels.shape
    emotion = int(changes.pop("emotion", sum(key.encode()) % 6))
    targets = np.eye(6, dtype=np.float32)[emotion]
    values: dict[str, Any] = {
        "key": key,
        "picture": InlinePicture(pixels=pixels.tobytes(), height=height, width=width),
        "group": f"person {key}",
        "split": "train",
        "class_name": f"class {emotion}",
        "targets": targets,
        "mask": np.ones(6, np.bool_),
        "is_crop": True,
    }
    return RawSample(**{**values, **changes})


class Listed:
    def __init__(self, samples: Sequence[RawSample], *, name: str = "set") -> None:
        self.samples, self.reading = samples, Reading(source=name)

    def __iter__(self) -> Iterator[RawSample]:
        return iter(self.samples)


def sound(count: int = 12, *, start: int = 0) -> list[RawSample]:
    return [sample(f"s{n}", blob(n), emotion=n % 6) for n in range(start, start + count)]


def shards_of(folder: Path, *sets: Sequence[RawSample]) -> Path:
    readers = [Listed(samples, name=f"set{number}") for number, samples in enumerate(sets)]
    prepare(readers, out=folder, settings=PrepareSettings(shard_size=5), workers=Workers(num=1), quiet=True)
    return folder


def examine(tmp_path: Path, *sets: Sequence[RawSample]) -> Diagnosis:
    return diagnose_shards(shards_of(tmp_path / "shards", *sets), out=tmp_path / "report")


def kinds(diagnosis: Diagnosis) -> dict[str, int]:
    return {finding.kind: finding.count for finding in diagnosis.findings}


def examples(diagnosis: Diagnosis, kind: str) -> str:
    return " | ".join(next(finding.examples for finding in diagnosis.findings if finding.kind == kind))


def rewrite(shard: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of a shard without updating the manifest."""
    table = pq.read_table(shard)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)


def test_sound_shards_have_no_findings(tmp_path: Path) -> None:
    diagnosis = examine(tmp_path, sound(), sound(start=100))
    assert diagnosis.findings == () and diagnosis.is_sound
    assert diagnosis.num_samples == 24
    counts = diagnosis.sources["set0"]
    assert counts["classes"] == {f"class {n}": 2 for n in range(6)} and counts["splits"] == {"train": 12}
    assert counts["labels"]["surprise"] == {"known": 12, "positive": 2, "sum": 2.0}
    assert len(diagnosis.quality["blur"]) == 7


def test_lost_changed_and_strange_shards(tmp_path: Path) -> None:
    folder = shards_of(tmp_path / "shards", sound(15))
    one, two, three = sorted((folder / "shards").iterdir())
    one.unlink()
    rewrite(two, lambda rows: rows.pop())
    three.write_bytes(three.read_bytes()[:400])
    (folder / "shards" / "other-00000.parquet").write_bytes(b"x")
    diagnosis = diagnose_shards(folder, out=tmp_path / "report")
    assert kinds(diagnosis) == {
        "changed-shard": 2,
        "damaged-shard": 2,
        "missing-shard": 1,
        "unlisted-shard": 1,
        **{kind: kinds(diagnosis)[kind] for kind in ("no-positive",) if kind in kinds(diagnosis)},
    }
    assert "set0-00000.parquet" in examples(diagnosis, "missing-shard")
    assert "4 rows, the manifest says 5" in examples(diagnosis, "damaged-shard")
    assert not diagnosis.is_sound


def test_a_damaged_picture_inside_a_shard(tmp_path: Path) -> None:
    folder = shards_of(tmp_path / "shards", sound())

    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[2]["image"]["bytes"] = rows[2]["image"]["bytes"][:60]

    rewrite(folder / "shards" / "set0-00001.parquet", spoil)
    diagnosis = diagnose_shards(folder, out=tmp_path / "report")
    assert {"changed-shard", "damaged-picture"} <= set(kinds(diagnosis))
    assert "set0: s7" in examples(diagnosis, "damaged-picture")


def test_labels_out_of_range(tmp_path: Path) -> None:
    wrong = [
        sample(f"w{n}", blob(50 + n), targets=np.full(6, v, np.float32)) for n, v in enumerate((1.5, -0.1, np.nan))
    ]
    unknown = sample("fine", blob(60), targets=np.full(6, 7, np.float32), mask=np.arange(6) < 0)
    diagnosis = examine(tmp_path, [*sound(), *wrong, unknown])
    assert kinds(diagnosis)["label-range"] == 3 and "w0 (1.5" in examples(diagnosis, "label-range")


def test_action_units_out_of_range(tmp_path: Path) -> None:
    diagnosis = examine(tmp_path, [*sound(), sample("w", blob(50), action_units={"AU12": 3.0})])
    assert kinds(diagnosis) == {"label-range": 1}


def test_samples_of_which_nothing_is_known(tmp_path: Path) -> None:
    nothing = np.zeros(6, np.bool_)
    masked = sample("m", blob(50), mask=nothing)
    with_units = sample("u", blob(51), mask=nothing, action_units={"AU01": 1.0})
    unlabelled = [sample(f"n{n}", blob(60 + n), mask=nothing) for n in range(4)]
    diagnosis = examine(tmp_path, [*sound(), masked, with_units], unlabelled)
    assert kinds(diagnosis) == {"all-masked": 1, "unlabelled-set": 1}
    assert examples(diagnosis, "all-masked") == "set0: m"
    assert examples(diagnosis, "unlabelled-set") == "set1: all 4"


def test_constant_pictures(tmp_path: Path) -> None:
    gray, black = np.full((48, 48), 90, np.uint8), np.zeros((48, 48), np.uint8)
    diagnosis = examine(tmp_path, [*sound(), sample("gray", gray), sample("black", black), sample("again", black)])
    assert kinds(diagnosis) == {"constant-picture": 3}


def test_exact_duplicates_within_and_across_sets_and_splits(tmp_path: Path) -> None:
    first = [*sound(), sample("within", blob(3), emotion=3), sample("test", blob(4), emotion=4, split="test")]
    film = [sample(f"f{n}", blob(70), group="film", emotion=1) for n in range(3)]
    diagnosis = examine(tmp_path, [*first, *film], [*sound(start=200), sample("across", blob(5), emotion=5)])
    assert kinds(diagnosis) == {
        "exact-duplicates": 1,
        "exact-duplicates-across-sets": 1,
        "exact-duplicates-across-splits": 1,
        "repeated-frames": 1,
    }
    assert examples(diagnosis, "exact-duplicates") == "set0: s3 = set0: within"
    assert examples(diagnosis, "exact-duplicates-across-splits") == "set0: s4 = set0: test"
    assert examples(diagnosis, "exact-duplicates-across-sets") == "set0: s5 = set1: across"


def test_duplicates_with_other_labels(tmp_path: Path) -> None:
    diagnosis = examine(tmp_path, [*sound(), sample("other", blob(3), emotion=5)])
    assert kinds(diagnosis) == {"exact-duplicates": 1, "duplicates-with-other-labels": 1}


def near(pixels: Pixels) -> Pixels:
    """The same picture, compressed again and slightly brighter."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels.astype(int) + 6, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer).filter(ImageFilter.GaussianBlur(0.4)))


def test_near_duplicates_within_and_across_sets_and_splits(tmp_path: Path) -> None:
    first = [*sound(), sample("within", near(blob(3)), emotion=3)]
    first.append(sample("test", near(blob(4)), emotion=4, split="test"))
    first.append(sample("mate", near(blob(6)), emotion=0, group="person s6"))  # one group: as it should be
    diagnosis = examine(tmp_path, first, [*sound(start=200), sample("across", near(blob(5)), emotion=5)])
    assert kinds(diagnosis) == {
        "near-duplicates": 1,
        "near-duplicates-across-sets": 1,
        "near-duplicates-across-splits": 1,
    }
    assert examples(diagnosis, "near-duplicates-across-sets") == "set0: s5 ~ set1: across"


def test_a_group_in_two_splits_and_no_group(tmp_path: Path) -> None:
    leak = [sample("a", blob(50), group="Ann"), sample("b", blob(51), group="Ann", split="val")]
    diagnosis = examine(tmp_path, [*sound(), *leak, sample("c", blob(52), group="")])
    assert kinds(diagnosis) == {"group-leak": 1, "no-group": 1}
    assert examples(diagnosis, "group-leak") == "set0: group Ann in train, val"


def test_one_group_name_in_two_sets_is_no_leak(tmp_path: Path) -> None:
    one = [*sound(), sample("a", blob(50), group="1")]
    two = [*sound(start=100), sample("b", blob(51), group="1", split="val")]
    assert examine(tmp_path, one, two).findings == ()


def test_labels_that_never_occur_and_imbalance(tmp_path: Path) -> None:
    many = [sample(f"h{n}", blob(n), emotion=3) for n in range(45)]
    rest = [sample(f"r{n}", blob(100 + n), emotion=n) for n in (0, 1, 4, 5)]
    diagnosis = examine(tmp_path, [*many, *rest])
    assert kinds(diagnosis) == {"no-positive": 1}  # disgust; with it missing no ratio is finite
    assert "disgust (49 known)" in examples(diagnosis, "no-positive")
    again = diagnose_raw([Listed([*many, *rest, sample("d", blob(99), emotion=2)])], subject="x", out=tmp_path / "b")
    assert kinds(again) == {"imbalance": 1} and again.is_sound


def test_raw_data_are_examined_as_their_reader_gives_them(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(blob(number)).save(tmp_path / f"{number}.png")
    (tmp_path / "6.png").write_text("no picture")
    files = [sample(f"{n}", blob(0), picture=PictureFile(path=tmp_path / f"{n}.png"), emotion=n % 6) for n in range(9)]
    reader = Listed([*files, sample("0", blob(40), emotion=2)])
    reader.reading.excluded["label is -1"] = 7
    diagnosis = diagnose_raw([reader], subject="raw", out=tmp_path / "report")
    assert kinds(diagnosis) == {"damaged-picture": 1, "key-twice": 1, "left-out": 7, "missing-picture": 1}
    assert "set: 8" in examples(diagnosis, "missing-picture") and "set: 6" in examples(diagnosis, "damaged-picture")
    assert (diagnosis.kind, diagnosis.num_samples) == ("raw", 10)


def test_what_preparing_left_out_is_repeated(tmp_path: Path) -> None:
    broken = sample("x", blob(0), picture=PictureFile(path=tmp_path / "gone.png"))
    diagnosis = examine(tmp_path, [*sound(), broken])
    assert kinds(diagnosis) == {"left-out": 1} and diagnosis.is_sound
    assert examples(diagnosis, "left-out") == "set0: picture file is missing: 1"


def test_report_files(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    samples = [*sound(), sample("x", blob(40), class_name=script, emotion=1), sample("y", blob(3), emotion=3)]
    diagnosis = examine(tmp_path, samples)
    stored = json.loads((tmp_path / "report" / "doctor.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(diagnosis.as_json()))
    page = (tmp_path / "report" / "doctor.html").read_text("utf-8")
    assert script not in page and "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page) and "@import" not in page
    assert "exact-duplicates" in page and "set0: s3 = set0: y" in page
    names = [name for name, _, _ in diagnosis.sheets]
    assert sorted(names) == sorted([*(f"class {n}" for n in range(6)), script])
    for _, _, file in diagnosis.sheets:
        png = (tmp_path / "report" / file).read_bytes()
        assert Image.open(io.BytesIO(png)).size == (960, 124)
        assert base64.b64encode(png).decode() in page


def test_contact_sheets_hold_the_faces_of_their_class() -> None:
    sheets = ContactSheets(num_faces=3)
    for number in range(20):
        face = np.full((48, 48, 3), 10 * number, np.uint8)
        sheets.add("a" if number % 2 else "", face, bytes([number]) * 16)
    again = ContactSheets(num_faces=3)
    for number in reversed(range(20)):
        again.add("a" if number % 2 else "", np.full((48, 48, 3), 10 * number, np.uint8), bytes([number]) * 16)
    assert sheets.sheets() == again.sheets()
    assert [(name, total) for name, total, _ in sheets.sheets()] == [("(no label)", 10), ("a", 10)]
    image = np.asarray(Image.open(io.BytesIO(sheets.sheets()[1][2])))
    assert [int(image[28 + 48, 48 + 96 * column, 0]) for column in range(4)] == [10, 30, 50, 24]
    assert Image.open(io.BytesIO(draw_sheet("none", 0, []))).size == (960, 124)


def test_a_folder_that_holds_no_shards_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder of shards"):
        diagnose_shards(tmp_path, out=tmp_path / "report")
