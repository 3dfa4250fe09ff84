"""Annotation round trip: export of a project, import of answers in both formats, votes, agreement."""

import base64
import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import krippendorff
import numpy as np
import pyarrow.parquet as pq
import pytest

from femae.data.annotate.agreement import measure_agreement
from femae.data.annotate.label_studio import (
    CHOICES,
    CONTROL,
    Ballot,
    Ballots,
    FaceDraw,
    export_label_studio,
    read_label_studio,
)
from femae.data.annotate.voted_shards import import_label_studio
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import InlinePicture, RawSample, Reading
from femae.data.store.manifest import read_manifest
from femae.data.store.shard_reader import ShardReader
from femae.errors import DataError, OutputError
from femae.labels import EMOTIONS


class Faces:
    def __init__(self, count: int, *, name: str = "set") -> None:
        self.count, self.reading = count, Reading(source=name)

    def __iter__(self) -> Iterator[RawSample]:
        for number in range(self.count):
            pixels = np.random.default_rng(number).integers(0, 256, 16 * 16, np.uint8).tobytes()
            known = np.full(6, number % 2 == 0)
            picture = InlinePicture(pixels=pixels, height=16, width=16)
            yield RawSample(key=f"é {number}", picture=picture, group=f"g{number}", mask=known, is_crop=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    readers = [Faces(6, name="one"), Faces(4, name="two")]
    prepare(readers, out=folder, settings=PrepareSettings(), workers=Workers(num=1), quiet=True)
    return folder


def tasks_of(folder: Path) -> list[dict[str, Any]]:
    return [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_text("utf-8"))]


def annotation(person: Any, *words: str, **changes: Any) -> dict[str, Any]:
    result = [
        {"from_name": CONTROL, "to_name": "image", "type": "choices", "value": {"choices": list(words)}, "id": "x"}
    ]
    return {
        "id": 1,
        "completed_by": person,
        "was_cancelled": False,
        "lead_time": 4.0,
        "updated_at": "2026-01-01T00:00:00Z",
        "result": result if words else [],
        **changes,
    }


def exported(folder: Path, answers: Mapping[tuple[str, str], Sequence[dict[str, Any]]], **changes: Any) -> Path:
    """An export in the JSON format."""
    tasks = [
        {"id": n, "data": {"image": "i", "source": source, "key": key}, "annotations": list(found), "drafts": [],
         "predictions": [], **changes}
        for n, ((source, key), found) in enumerate(answers.items())
    ]  # fmt: skip
    path = folder / "export.json"
    path.write_text(json.dumps(tasks), "utf-8")
    return path


def test_the_interface_offers_six_emotions_and_others(shards: Path, tmp_path: Path) -> None:
    export_label_studio(shards, out=tmp_path / "project")
    view = ElementTree.parse(tmp_path / "project" / "config.xml").getroot()
    (choices,) = view.iter("Choices")
    assert [choice.get("value") for choice in choices] == [*(e.capitalize() for e in EMOTIONS), "Others"]
    assert (choices.get("name"), choices.get("choice"), choices.get("required")) == (CONTROL, "multiple", "true")
    (image,) = view.iter("Image")
    assert image.get("value") == "$image" and choices.get("toName") == image.get("name")


def test_embedded_pictures_are_the_stored_bytes(shards: Path, tmp_path: Path) -> None:
    project = export_label_studio(shards, out=tmp_path / "project")
    stored = {(row["source"], row["key"]): row["image"]["bytes"] for row in ShardReader(shards).rows()}
    tasks = tasks_of(tmp_path / "project")
    assert project.num_tasks == len(tasks) == 10
    for task in tasks:
        head, _, code = task["data"]["image"].partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(code) == stored.pop((task["data"]["source"], task["data"]["key"]))
    assert not stored
    assert "Happiness" not in json.dumps([{**task["data"], "image": ""} for task in tasks])


def test_files_lie_where_the_task_says(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "served here" / "project"
    export_label_studio(shards, out=out, pictures="files")
    for task in tasks_of(out):
        url = urlparse(task["data"]["image"])
        assert url.path == "/data/local-files/"
        path = out.parent / parse_qs(url.query)["d"][0]
        assert path.read_bytes().startswith(b"\x89PNG")
    assert str(out.parent.resolve()) in (out / "README.md").read_text("utf-8")
    with pytest.raises(OutputError, match="not inside"):
        export_label_studio(shards, out=tmp_path / "b", pictures="files", document_root=out)


def test_a_part_can_be_drawn(shards: Path, tmp_path: Path) -> None:
    export_label_studio(shards, out=tmp_path / "a", faces=FaceDraw(limit=4, seed=1))
    export_label_studio(shards, out=tmp_path / "b", faces=FaceDraw(limit=4, seed=1))
    export_label_studio(shards, out=tmp_path / "c", faces=FaceDraw(limit=4, seed=2))
    a, b, c = (tasks_of(tmp_path / name) for name in "abc")
    assert len(a) == 4 and a == b != c
    export_label_studio(shards, out=tmp_path / "d", faces=FaceDraw(unlabelled_only=True))
    assert all(int(task["data"]["key"].split()[1]) % 2 for task in tasks_of(tmp_path / "d"))
    with pytest.raises(OutputError, match="not empty"):
        export_label_studio(shards, out=tmp_path / "a")


def test_votes_become_shares(shards: Path, tmp_path: Path) -> None:
    answers = {
        ("one", "é 0"): [
            annotation(1, "Fear", "Surprise"),
            annotation(2, "Fear"),
            annotation({"id": 3, "email": "c@d"}, "Surprise", "Fear"),
            annotation(4, "Others"),
        ],
        ("one", "é 1"): [annotation(1, "Others"), annotation(2, "Others")],
        ("two", "é 0"): [annotation(2, "Anger"), annotation(1, "Happiness"), annotation(5, "Sadness")],
    }
    result = import_label_studio([exported(tmp_path, answers)], shards=shards, out=tmp_path / "voted")
    manifest = read_manifest(tmp_path / "voted")
    assert result.num_samples == len(manifest) == 3
    rows = {(s, k): i for i, (s, k) in enumerate(zip(manifest.strings("source"), manifest.strings("key"), strict=True))}
    targets, mask = manifest.vectors("targets"), manifest.vectors("mask")
    names = manifest.strings("class_name")
    assert targets[rows["one", "é 0"]].tolist() == [0.5, 0.75, 0, 0, 0, 0]  # surprise, fear
    assert mask.all() and targets[rows["one", "é 1"]].tolist() == [0] * 6
    assert targets[rows["two", "é 0"]].tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 1 / 3])
    assert [names[rows[face]] for face in answers] == ["Surprise + Fear", "Others", "divided"]
    before = {(r["source"], r["key"]): r for r in ShardReader(shards).rows()}
    for row in ShardReader(tmp_path / "voted").rows():
        old = before[row["source"], row["key"]]
        assert {k for k in row if row[k] != old[k]} <= {"targets", "mask", "class_name"}
    assert manifest.info["sources"]["one"]["left_out"]["not annotated"]["count"] == 4


def test_too_few_ballots_make_no_label(shards: Path, tmp_path: Path) -> None:
    answers = {("one", "é 0"): [annotation(1, "Fear")], ("one", "é 1"): [annotation(1, "Fear"), annotation(2, "Fear")]}
    export = exported(tmp_path, answers)
    kept = import_label_studio([export], shards=shards, out=tmp_path / "a", min_annotators=2)
    assert kept.num_samples == 1
    every = import_label_studio([export], shards=shards, out=tmp_path / "b", min_annotators=2, keep_unannotated=True)
    assert every.num_samples == 10
    assert read_manifest(tmp_path / "b").vectors("mask").any(1).sum() == 1


def test_what_is_no_vote_is_counted(tmp_path: Path) -> None:
    answers = {
        ("one", "é 0"): [
            annotation(1, "Fear", was_cancelled=True),
            annotation(2),
            annotation(3, "Anger", updated_at="2026-01-02T00:00:00Z"),
            annotation(3, "Fear", updated_at="2026-01-01T00:00:00Z"),
        ]
    }
    path = exported(tmp_path, answers, drafts=[{"result": []}], predictions=[7])
    ballots = read_label_studio([path])
    assert [(b.annotator, b.choices) for b in ballots.ballots] == [("3", frozenset({"Anger"}))]
    assert ballots.left_out == {
        "answer without a choice": 1,
        "draft": 1,
        "older answer of the same person": 1,
        "prediction of a model": 1,
        "skipped by the annotator": 1,
    }
    assert ballots.num_skipped == {"1": 1}


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    answers = {("one", "a"): [annotation(1, "Fear", "Anger"), annotation(2, "Fear")]}
    flat = [
        {"image": "i", "source": "one", "key": "a", "id": 0, "annotator": 1, "annotation_id": 5, CONTROL:
         {"choices": ["Fear", "Anger"]}, "lead_time": 4.0, "updated_at": "2026-01-01T00:00:00Z"},
        {"image": "i", "source": "one", "key": "a", "id": 0, "annotator": 2, "annotation_id": 6, CONTROL: "Fear",
         "lead_time": 4.0, "updated_at": "2026-01-01T00:00:00Z"},
        {"image": "i", "source": "one", "key": "a", "id": 0, "annotator": 3, "annotation_id": 7},
    ]  # fmt: skip
    (tmp_path / "min.json").write_text(json.dumps(flat), "utf-8-sig")
    small = read_label_studio([tmp_path / "min.json"])
    assert small.ballots == read_label_studio([exported(tmp_path, answers)]).ballots
    assert small.left_out == {"answer without a choice": 1}


def test_people_without_a_name_are_not_one_person(tmp_path: Path) -> None:
    answers = {("one", "a"): [annotation(None, "Fear", id=8), annotation(None, "Anger", id=9)]}
    assert len(read_label_studio([exported(tmp_path, answers)]).ballots) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "not JSON"),
        ('{"a": 1}', "not an export of Label Studio"),
        ('[{"data": {"image": "x"}, "annotations": []}]', "no 'source' and 'key'"),
        (
            '[{"data": {"source": "one", "key": "a"}, "annotations": [{"completed_by": 1, "result": '
            '[{"from_name": "emotion", "value": {"choices": ["Contempt"]}}]}]}]',
            "'Contempt' is not a choice",
        ),
    ],
)
def test_a_wrong_export_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_label_studio([tmp_path / "e.json"])
    with pytest.raises(DataError, match="cannot be read"):
        read_label_studio([tmp_path / "gone.json"])


def test_an_export_of_other_shards_is_refused(shards: Path, tmp_path: Path) -> None:
    answers = {("other", "a"): [annotation(1, "Fear")]}
    with pytest.raises(DataError, match="no face of"):
        import_label_studio([exported(tmp_path, answers)], shards=shards, out=tmp_path / "voted")
    assert not (tmp_path / "voted").exists()
    answers[("one", "é 0")] = [annotation(1, "Fear")]
    assert import_label_studio([exported(tmp_path, answers)], shards=shards, out=tmp_path / "voted").num_unknown == 1


def ballots_of(table: Sequence[Sequence[str]]) -> Ballots:
    """One row per face, one word (or words joined by +, or empty) per annotator."""
    found = [
        Ballot(source="s", key=str(face), annotator=f"p{person}", choices=frozenset(words.split("+")), lead_time_s=3.0)
        for face, row in enumerate(table)
        for person, words in enumerate(row)
        if words
    ]
    return Ballots(ballots=tuple(found), left_out={}, num_skipped={"p0": 2, "p9": 1}, num_tasks=len(table))


def alpha_by_hand(values: Sequence[Sequence[int]]) -> float:
    """Nominal alpha from its definition: 1 - observed / expected disagreement, over pairable values."""
    pairable = [unit for unit in values if len(unit) > 1]
    total = sum(len(unit) for unit in pairable)
    observed = sum(
        sum(a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j) / (len(unit) - 1)
        for unit in pairable
    )
    flat = [value for unit in pairable for value in unit]
    expected = sum(a != b for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j) / (total - 1)
    return 1 - observed / expected


def test_alpha_is_the_one_of_its_definition() -> None:
    table = [["Fear", "Fear", "Anger"], ["Anger", "Anger", ""], ["Fear+Surprise", "Fear", "Fear"], ["Fear", "", ""]]
    agreement = measure_agreement(ballots_of(table))
    fear = [[int("Fear" in words) for words in row if words] for row in table]
    by_label = {one.label: one for one in agreement.labels}
    assert by_label["Fear"].alpha == pytest.approx(alpha_by_hand(fear))
    assert by_label["Fear"].pairwise == pytest.approx((1 + 0 + 0 + 1 + 3) / 7)
    assert by_label["Fear"].share == pytest.approx(6 / 9)
    assert by_label["Disgust"].alpha is None and by_label["Disgust"].pairwise == 1
    assert by_label["Fear"].alpha == pytest.approx(krippendorff.alpha(value_counts=[[1, 2], [2, 0], [0, 3]]))
    assert (agreement.num_faces, agreement.num_faces_with_pairs, agreement.num_ballots) == (4, 3, 9)
    assert agreement.likeness == pytest.approx((1 + 0 + 0 + 1 + 0.5 + 0.5 + 1) / 7)
    assert agreement.exact == pytest.approx(3 / 7)


def test_overall_alpha_is_one_for_agreement_and_low_for_chance() -> None:
    same = measure_agreement(ballots_of([["Fear+Anger"] * 3, ["Sadness"] * 3, ["Others"] * 3]))
    assert same.alpha == pytest.approx(1) and same.exact == 1
    random = np.random.default_rng(0)
    chance = [[CHOICES[int(n)] for n in random.integers(0, 7, 4)] for _ in range(300)]
    assert measure_agreement(ballots_of(chance)).alpha == pytest.approx(0, abs=0.05)
    numbers = [[row.count(name) for name in CHOICES] for row in chance]
    theirs = krippendorff.alpha(value_counts=np.array(numbers), level_of_measurement="nominal")
    assert measure_agreement(ballots_of(chance)).alpha == pytest.approx(theirs)  # single labels: all distances are 1
    near = measure_agreement(ballots_of([["Fear+Anger", "Fear"], ["Sadness", "Sadness"]]))
    far = measure_agreement(ballots_of([["Disgust+Anger", "Fear"], ["Sadness", "Sadness"]]))
    assert near.alpha is not None and far.alpha is not None and near.alpha > far.alpha
    alone = measure_agreement(ballots_of([["Fear", ""], ["", "Anger"]]))
    assert alone.alpha is None and alone.likeness is None


def test_each_annotator_is_reported() -> None:
    agreement = measure_agreement(ballots_of([["Fear", "Fear", "Anger"], ["Fear", "Fear", "Sadness"]]))
    people = {one.annotator: one for one in agreement.annotators}
    assert list(people) == ["p0", "p1", "p2", "p9"]
    assert people["p0"].likeness == 0.5 and people["p2"].likeness == 0
    assert (people["p0"].num_ballots, people["p0"].num_skipped, people["p0"].median_time_s) == (2, 2, 3.0)
    assert people["p2"].shares["Anger"] == 0.5 and people["p9"].num_ballots == 0
    page = agreement.markdown()
    assert "| p2 | 2 | 0 | 0.000 |" in page and "Krippendorff's alpha" in page


def test_tables_stand_beside_the_shards(shards: Path, tmp_path: Path) -> None:
    answers = {
        ("one", "é 0"): [annotation(1, "Fear"), annotation(2, "Fear", "Anger")],
        ("one", "é 1"): [annotation(1, "Sadness"), annotation(2, "Sadness", was_cancelled=True)],
    }
    import_label_studio([exported(tmp_path, answers)], shards=shards, out=tmp_path / "voted")
    ballots = pq.read_table(tmp_path / "voted" / "ballots.parquet").to_pylist()
    assert [(row["key"], row["annotator"], row["fear"], row["anger"]) for row in ballots] == [
        ("é 0", "1", True, False),
        ("é 0", "2", True, True),
        ("é 1", "1", False, False),
    ]
    with (tmp_path / "voted" / "annotators.csv").open() as file:
        people = list(csv.DictReader(file))
    assert [(row["annotator"], row["num_ballots"], row["num_skipped"]) for row in people] == [
        ("1", "2", "0"),
        ("2", "1", "1"),
    ]
    assert (tmp_path / "voted" / "agreement.csv").is_file()
    assert "skipped by the annotator: 1" in (tmp_path / "voted" / "agreement.md").read_text("utf-8")
    with pytest.raises(OutputError, match="not empty"):
        import_label_studio([exported(tmp_path, answers)], shards=shards, out=tmp_path / "voted")
