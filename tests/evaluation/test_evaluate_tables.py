"""Predictions joined with labels: frames, missed faces, several faces, names, units, and errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn import metrics as sk

from femae.cli import main
from femae.inference.tables import prediction_schema
from femae.labels import ABAW_COMPOUNDS, EMOTIONS

WORDS = ("surprise", "happiness", "anger")


def probs_of(emotion: str, second: str = "", *, high: float = 0.9) -> dict[str, float]:
    return {name: high if name == emotion else 0.6 if name == second else 0.1 for name in EMOTIONS}


def row(frame: int, probs: dict[str, float] | None, **others: Any) -> dict[str, Any]:
    """A row as `femae predict` writes it."""
    names = prediction_schema(ABAW_COMPOUNDS).names
    status = "no_face" if probs is None else "ok"
    found = {"face_id": 1, "x1": 0.0, "y1": 0.0, "x2": 50.0, "y2": 60.0, **(probs or {})} if probs else {}
    return dict.fromkeys(names) | {"source": "clip.mp4", "frame": frame, "status": status} | found | others


def write_predictions(path: Path, rows: list[dict[str, Any]], *, au_names: tuple[str, ...] = ()) -> Path:
    from femae.inference.tables import Predictions

    schema = prediction_schema(ABAW_COMPOUNDS, au_names=au_names)
    return Predictions(pa.Table.from_pylist(rows, schema=schema)).write(path)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    return path


def labels_of(words: list[str], **others: Any) -> list[dict[str, Any]]:
    return [{"source": "clip.mp4", "frame": n, "emotion": word, **others} for n, word in enumerate(words, 1)]


def run(tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    out = tmp_path / "out"
    assert main(["evaluate", *map(str, arguments), "--out", str(out), "--no-figures", "--quiet"]) == 0
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
    return content


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("femae: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_missed_face_counts_as_wrong(tmp_path: Path, suffix: str) -> None:
    """Of six labelled frames four are right, one has no face, one has no row."""
    words = ["surprise", "surprise", "happiness", "happiness", "anger", "anger"]
    rows = [row(n, probs_of(word)) for n, word in enumerate(words[:4], 1)] + [row(5, None)]
    table = write_predictions(tmp_path / f"clip.{suffix}", rows)
    got = run(tmp_path, table, "--labels", write_csv(tmp_path / "labels.csv", labels_of(words)))
    six = got["emotions"]
    assert (six["num"], six["num_missed"], six["accuracy"]) == (6, 2, pytest.approx(4 / 6))
    assert (six["f1"]["surprise"], six["f1"]["happiness"], six["f1"]["anger"]) == (1, 1, 0)
    assert six["confusion"]["rows"][EMOTIONS.index("anger")] == [0, 0, 0, 0, 0, 0, 2]
    assert got["found_only"]["emotions"]["accuracy"] == 1
    assert got["notes"] == ["1 of 6 labelled rows have no row in " + table.name]
    assert got["emotion_labels"]["f1"]["anger"] == 0  # two faces that show it were missed
    assert got["emotion_labels"]["auroc"]["anger"] is None  # undefined: no found face shows it
    left = run(tmp_path, table, "--labels", tmp_path / "labels.csv", "--missing", "leave-out")
    assert left["emotions"]["num"] == 4 and left["emotions"]["accuracy"] == 1


def test_one_of_several_faces(tmp_path: Path) -> None:
    small, large = probs_of("anger", high=0.95), probs_of("happiness", high=0.5)
    rows = [row(1, small, x2=10.0, y2=10.0), row(1, large, face_id=2)]
    table = write_predictions(tmp_path / "clip.csv", rows)
    labels = write_csv(tmp_path / "labels.csv", labels_of(["happiness"]))
    for faces, right in (("largest", 1), ("max", 0), ("mean", 0)):
        got = run(tmp_path, table, "--labels", labels, "--faces", faces)
        assert (got["emotions"]["num"], got["emotions"]["accuracy"]) == (1, right), faces
    of_one = write_csv(tmp_path / "of_one.csv", labels_of(["anger"], face_id=1))
    assert run(tmp_path, table, "--labels", of_one)["emotions"]["accuracy"] == 1


def test_frames_of_two_films_are_not_mixed_up_and_films_are_the_groups(tmp_path: Path) -> None:
    films = {"a.mp4": ["anger", "happiness"], "b.mp4": ["surprise", "anger"]}
    rows = [row(n, probs_of(w), source=film) for film, words in films.items() for n, w in enumerate(words, 1)]
    labels = [{**one, "source": f"videos/{film}"} for film, words in films.items() for one in labels_of(words)]
    table = write_predictions(tmp_path / "all.parquet", rows)
    got = run(tmp_path, table, "--labels", write_csv(tmp_path / "labels.csv", labels[::-1]))
    assert got["emotions"]["accuracy"] == 1 and got["emotions"]["num_groups"] == 2


def test_pictures_of_one_name_in_two_folders_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    names = ["happy/1.png", "angry/1.png"]
    table = [{"key": name, **probs_of(word)} for name, word in zip(names, ("happiness", "anger"), strict=True)]
    labels = [{"key": name, "label": word} for name, word in zip(names, ("happiness", "anger"), strict=True)]
    got = run(tmp_path, write_csv(tmp_path / "t.csv", table), "--labels", write_csv(tmp_path / "l.csv", labels[::-1]))
    assert got["emotions"]["num"] == 2 and got["emotions"]["accuracy"] == 1


def test_numbers_of_a_data_set_and_unknown_ones(tmp_path: Path) -> None:
    table = write_predictions(tmp_path / "clip.csv", [row(n, probs_of("fear", "surprise")) for n in range(1, 5)])
    labels = [{"source": "clip.mp4", "frame": n, "compound": number} for n, number in enumerate((0, 0, -1, 6), 1)]
    path = write_csv(tmp_path / "labels.csv", labels)
    got = run(tmp_path, table, "--labels", path, "--label-order", "abaw-compound", "--table", "3")
    assert got["compound"]["num"] == 3 and got["compound"]["f1"]["Fearfully Surprised"] == pytest.approx(0.8)
    assert got["compound"]["macro_f1"] == pytest.approx(0.8 / 7, abs=1e-6)
    page = (tmp_path / "out" / "table3.md").read_text("utf-8")
    assert "| **#6** | **femae** | **0.1143** |" in page and "| #1 | Netease Fuxi AI Lab | 0.5526 |" in page


def test_eleven_classes_and_own_pairs(tmp_path: Path) -> None:
    names = ["happiness", "fear", "anger"]
    rows = [row(n, probs_of(one, two)) for n, (one, two) in enumerate(zip(names, ["disgust"] * 3, strict=True), 1)]
    words = ["Happily Disgusted", "disgust+fear", "Angrily_Disgusted"]
    labels = [{"source": "clip.mp4", "frame": n, "compound": word} for n, word in enumerate(words, 1)]
    table, path = write_predictions(tmp_path / "clip.csv", rows), write_csv(tmp_path / "labels.csv", labels)
    got = run(tmp_path, table, "--labels", path, "--classes", "raf-db")
    assert got["compound"]["num"] == 2 and len(got["compound"]["f1"]) == 11 and got["compound"]["accuracy"] == 1
    assert got["notes"] == ["1 rows name a compound outside the 11 classes and do not count"]
    own = run(tmp_path, table, "--labels", path, "--classes", "fear+disgust,anger+disgust")
    assert own["compound"]["num"] == 2 and own["compound"]["accuracy"] == 1


def test_action_units_are_judged_where_they_are_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.random((60, 2)), rng.integers(-1, 2, (60, 2))
    rows = [
        row(n, probs_of("fear"), AU01=float(one), AU12=float(two)) for n, (one, two) in enumerate(scores.round(4), 1)
    ]
    table = write_predictions(tmp_path / "clip.csv", rows, au_names=("AU01", "AU12"))
    labels = [
        {"source": "clip.mp4", "frame": n, "AU01": int(one), "AU12": int(two), "AU25": 1}
        for n, (one, two) in enumerate(truth, 1)
    ]
    got = run(tmp_path, table, "--labels", write_csv(tmp_path / "labels.csv", labels))["action_units"]
    assert list(got["f1"]) == ["AU01", "AU12"]  # the table has no AU25
    for place, name in enumerate(got["f1"]):
        known = truth[:, place] >= 0
        true, score = truth[known, place], scores[known, place].round(4)
        assert got["num_known"][name] == known.sum()
        assert got["f1"][name] == pytest.approx(sk.f1_score(true, score >= 0.5), abs=1e-6)
        assert got["average_precision"][name] == pytest.approx(sk.average_precision_score(true, score), abs=1e-6)
        assert got["auroc"][name] == pytest.approx(sk.roc_auc_score(true, score), abs=1e-6)
    assert got["mean_f1"] == pytest.approx(np.mean(list(got["f1"].values())), abs=1e-6)


def scores_table(path: Path) -> Path:
    """A table of scores with unknown labels, a text column and a number column."""
    rng = np.random.default_rng(4)
    words = rng.choice(WORDS, 120)
    table: dict[str, Any] = {
        "source": ["set"] * 120,
        "key": [f"k{n}" for n in range(120)],
        "group": [f"g{n // 4}" for n in range(120)],
        "split": ["val" if n % 2 else "train" for n in range(120)],
        "class_name": words.tolist(),
        "yaw_deg": [None if n % 10 == 0 else float(n) for n in range(120)],
        "lit": ["dark" if n < 30 else "bright" for n in range(120)],
    }
    for name in EMOTIONS:
        table[name] = np.clip((words == name) * 0.4 + rng.uniform(0, 0.6, 120), 0, 1).astype(np.float32)
        known = rng.random(120) < 0.9
        table[f"target_{name}"] = [float(w == name) if k else None for w, k in zip(words, known, strict=True)]
    pq.write_table(pa.table(table), path)
    return path


def test_a_table_of_scores_has_its_own_labels_and_subgroups(tmp_path: Path) -> None:
    path = scores_table(tmp_path / "scores.parquet")
    got = run(tmp_path, path, "--by", "lit", "yaw_deg", "--quantiles", "3", "--bootstrap", "200")
    table = pq.read_table(path).to_pydict()
    whole = [all(table[f"target_{name}"][n] is not None for name in EMOTIONS) for n in range(120)]
    pred = [max(EMOTIONS, key=lambda name: table[name][n]) for n in range(120)]
    right = [p == w for p, w, k in zip(pred, table["class_name"], whole, strict=True) if k]
    assert got["emotions"]["num"] == sum(whole) < 120
    assert got["emotions"]["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    low, high = got["emotions"]["accuracy_interval"]
    assert low < np.mean(right) < high
    by_itself = got["emotion_labels"]
    assert by_itself["average_precision"]["fear"] is None and by_itself["average_precision_intervals"]["fear"] is None
    for figure in ("average_precision", "auroc"):
        low, high = by_itself[f"{figure}_intervals"]["anger"]
        assert low < by_itself[figure]["anger"] < high
        low, high = by_itself[f"mean_{figure}_interval"]
        assert low < by_itself[f"mean_{figure}"] < high
    low, high = by_itself["mean_ece_interval"]
    assert 0 < low < high < 1
    assert list(got["by"]["lit"]) == ["bright", "dark"] and got["by"]["lit"]["dark"]["num_samples"] == 30
    assert list(got["by"]["yaw_deg"]) == ["[1, 40.33)", "[40.33, 79.67)", "[79.67, 119]", "(none)"]
    assert [part["num_samples"] for part in got["by"]["yaw_deg"].values()] == [36, 36, 36, 12]
    one = run(tmp_path, path, "--split", "val")
    assert one["num_samples"] == 60 and one["by"] == {}


def test_what_is_undefined_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scores_table(tmp_path / "scores.parquet")
    assert main(["evaluate", str(path), "--out", str(tmp_path / "o"), "--no-figures"]) == 0
    assert "undefined (-): no sample shows fear, disgust, sadness" in capsys.readouterr().out
    report = (tmp_path / "o" / "report.md").read_text("utf-8")
    assert "Undefined: no sample shows fear, disgust, sadness" in report
    assert "| fear |" in report and "| undefined | undefined |" in report


def test_thresholds_per_emotion(tmp_path: Path) -> None:
    path = scores_table(tmp_path / "scores.parquet")
    got = run(tmp_path, path, "--threshold", "0.7,anger=0.35")
    assert got["emotion_labels"]["threshold"]["anger"] == 0.35 and got["emotion_labels"]["threshold"]["fear"] == 0.7
    best, at = got["emotion_labels"]["best_f1_on_these_samples"], got["emotion_labels"]["f1"]
    assert all(best[name] >= at[name] for name in WORDS) and at["fear"] is None


def test_wrong_tables_are_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_predictions(tmp_path / "clip.csv", [row(1, probs_of("fear")), row(2, probs_of("fear"))])
    labels = write_csv(tmp_path / "labels.csv", labels_of(["fear", "anger"]))
    cases: list[tuple[list[str | Path], str]] = [
        ([good], "holds no labels"),
        ([tmp_path / "gone.csv"], "there is no table"),
        (
            [write_csv(tmp_path / "few.csv", [{"source": "a", "fear": 0.2}]), "--labels", labels],
            "lacks the columns surp",
        ),
        ([good, "--labels", write_csv(tmp_path / "n.csv", [{"source": "clip.mp4"}])], "holds no labels"),
        (
            [good, "--labels", write_csv(tmp_path / "f.csv", [{"source": "clip.mp4", "label": "fear"}])],
            "no column 'frame'",
        ),
        (
            [good, "--labels", write_csv(tmp_path / "o.csv", [{"source": "x", "frame": 1, "label": "fear"}])],
            "no name in",
        ),
        (
            [good, "--labels", write_csv(tmp_path / "w.csv", labels_of(["fear", "hungry"]))],
            "row 2: 'hungry' is not a label",
        ),
        ([good, "--labels", write_csv(tmp_path / "i.csv", labels_of(["3", "4"]))], "with --label-order"),
        (
            [good, "--labels", write_csv(tmp_path / "r.csv", labels_of(["3", "9"])), "--label-order", "affwild2"],
            "0 to 7",
        ),
        (
            [good, "--labels", write_csv(tmp_path / "d.csv", labels_of(["fear"]) * 2)],
            "two rows are labels of clip.mp4, frame 1",
        ),
        ([good, "--labels", write_csv(tmp_path / "u.csv", labels_of(["other", "unknown"]))], "no sample of"),
        ([good, "--labels", labels, "--split", "test"], "no row of the split 'test'"),
        ([good, "--labels", labels, "--by", "age"], "--by age: there is no such column"),
        ([good, "--labels", labels, "--threshold", "fear=2"], "is not a threshold"),
        ([good, "--labels", labels, "--model", "m.onnx"], "already has scores"),
        ([good, "--labels", labels, "--key", "film"], "has no column 'film'"),
        ([good, "--labels", labels, "--table", "3"], "has no compound labels"),
    ]
    for arguments, words in cases:
        assert words in refused(capsys, *arguments, "--out", tmp_path / "none"), words
    assert not (tmp_path / "none").exists()


def test_values_out_of_range_are_named_with_their_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(scores_table(tmp_path / "scores.parquet"))
    for name, value in (("fear", 1.2), ("target_fear", 7.0)):
        values = table.column(name).to_pylist()
        values[4] = value
        place = table.column_names.index(name)
        wrong = tmp_path / "wrong.parquet"
        pq.write_table(table.set_column(place, name, pa.array(values)), wrong)
        assert f"column {name}, row 5: {value:g} is out of range" in refused(capsys, wrong)
    lacking = tmp_path / "lacking.parquet"
    pq.write_table(table.drop_columns(["target_anger"]), lacking)
    assert "lacks the columns target_anger" in refused(capsys, lacking)
