"""`femae evaluate` on shards with a real model, its files, and the tables of training runs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from femae.cli import main
from femae.labels import EMOTIONS


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """Twelve crops of one face with different brightness, labelled by folder."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for name in ("happiness", "anger"):
        (folder / "raw" / name).mkdir(parents=True)
        for number in range(6):
            shift = int(rng.integers(0, 20))
            crop = astronaut[50 + shift : 190 + shift, 155 + shift : 295 + shift] * rng.uniform(0.15, 1.0)
            Image.fromarray(crop.astype(np.uint8)).save(folder / "raw" / name / f"{name}{number}.png")
    arguments = ["data", "prepare", f"folder={folder / 'raw'}", "--crops", "--out", str(folder / "shards"), "--quiet"]
    assert main([*arguments, "--workers", "1"]) == 0
    return folder


def metrics(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
    return content


def test_a_model_on_shards_gives_what_predict_gives_on_the_same_crops(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", str(shards / "shards"), "--out", str(out), "--by", "darkness", "--threads", "2", "--quiet"]
    assert main(arguments) == 0
    got = metrics(out)
    assert got["emotions"]["num"] == 12 and got["model"] and got["emotions"]["f1"]["happiness"] > 0.5
    assert len(got["by"]["darkness"]) == 4
    both: dict[str, Any] = {}
    labels_of: dict[str, Any] = {}
    for name in ("happiness", "anger"):
        predicted = tmp_path / "predicted"
        main(["predict", str(shards / "raw" / name), "--faces", "whole", "--out", str(predicted), "--quiet"])
        labels = [{"source": f"{name}{n}.png", "label": name} for n in range(6)]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["source", "label"])
            writer.writeheader()
            writer.writerows(labels)
        table = predicted / f"{name}.csv"
        options = ["--labels", str(tmp_path / f"{name}.csv"), "--out", str(tmp_path / name), "--no-figures", "--quiet"]
        assert main(["evaluate", str(table), *options]) == 0
        both[name] = metrics(tmp_path / name)["emotions"]["confusion"]["rows"][EMOTIONS.index(name)]
        labels_of[name] = metrics(tmp_path / name)["expression"]["confusion"]["rows"][1 + EMOTIONS.index(name)]
    for name, row in both.items():
        assert got["emotions"]["confusion"]["rows"][EMOTIONS.index(name)] == row
        assert got["expression"]["confusion"]["rows"][1 + EMOTIONS.index(name)] == labels_of[name]


def test_its_table_of_scores_can_be_judged_again_and_a_manifest_serves_as_labels(shards: Path, tmp_path: Path) -> None:
    first, again, joined = tmp_path / "first", tmp_path / "again", tmp_path / "joined"
    options = ["--no-figures", "--quiet"]
    assert main(["evaluate", str(shards / "shards"), "--out", str(first), *options]) == 0
    scores = str(first / "scores.parquet")
    assert main(["evaluate", scores, "--out", str(again), *options]) == 0
    manifest = str(shards / "shards" / "manifest.parquet")
    assert main(["evaluate", scores, "--labels", manifest, "--out", str(joined), *options]) == 0
    for key in ("emotions", "emotion_labels", "compound", "expression"):
        assert metrics(first)[key] == metrics(again)[key] == metrics(joined)[key]


def test_files_are_whole_and_equal_for_equal_input(shards: Path, tmp_path: Path) -> None:
    outs = [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        assert main(["evaluate", str(shards / "shards"), "--out", str(out), "--quiet", "--seed", "3"]) == 0
    names = {path.name for path in outs[0].iterdir()}
    stems = ("reliability", "reliability-expression", "confusion-emotions", "confusion-expression")
    figures = {f"{stem}.{kind}" for stem in stems for kind in ("svg", "png")}
    tables = {"emotions.csv", "confusion-emotions.csv", "emotion-labels.csv", "reliability.csv"}
    tables |= {"expression.csv", "confusion-expression.csv", "reliability-expression.csv"}
    assert names == figures | tables | {"metrics.json", "report.md", "scores.parquet"}
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in names)
    with Image.open(outs[0] / "reliability.png") as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 200
    with (outs[0] / "emotions.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert rows["happiness"]["samples"] == "6"
    assert float(rows["happiness"]["F1"]) == pytest.approx(metrics(outs[0])["emotions"]["f1"]["happiness"], abs=1e-4)


def test_wrong_folders_and_splits(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        ([str(tmp_path)], "is not a folder of shards"),
        ([str(shards / "shards"), "--split", "test"], "has no sample of the split 'test'"),
        ([str(shards / "shards"), "--model", "gone.onnx"], "there is no model file gone.onnx"),
        ([str(tmp_path), "--table", "1"], "kfold.json: give the folder of a k-fold run"),
    ):
        assert main(["evaluate", *arguments]) == 2
        assert words in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_named(shards: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    options = ["--out", str(tmp_path / "file" / "x"), "--no-figures"]
    assert main(["evaluate", str(shards / "shards"), *options]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_table_1_of_a_kfold_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    f1 = dict(zip(EMOTIONS, (0.6689, 0.6834, 0.7547, 0.8673, 0.6501, 0.6867), strict=True))
    folds = [{"fold": n, "run": f"fold-{n}", "f1": f1, "macro_f1": 0.7185} for n in range(2)]
    (tmp_path / "kfold.json").write_text(json.dumps({"folds": folds}))
    assert main(["evaluate", str(tmp_path), "--table", "1", "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert "| fold-2 | 0.6689 | 0.6834 | 0.7547 | 0.8673 | 0.6501 | 0.6867 | 0.7185 |" in said
    assert (tmp_path / "o" / "table1.md").read_text() == said
    del f1["anger"]
    (tmp_path / "kfold.json").write_text(json.dumps({"folds": [{"fold": 0, "f1": f1}]}))
    assert main(["evaluate", str(tmp_path), "--table", "1"]) == 2
    assert "fold 0: expected `f1` with a number for each of surprise" in capsys.readouterr().err


def test_table_2_of_an_ablation_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def seeds(*f1: float) -> list[dict[str, Any]]:
        return [{"seed": n, "run": f"x/seed-{n}", "macro_f1": value, "f1": {}} for n, value in enumerate(f1)]

    rows = [{"name": "none", "seeds": seeds(0.60, 0.62)}, {"name": "+ MAE", "seeds": seeds(0.64, 0.66)}]
    (tmp_path / "ablation.json").write_text(json.dumps({"rows": rows}))
    assert main(["evaluate", str(tmp_path), "--table", "2"]) == 0
    said = capsys.readouterr().out
    assert "| none | 0.6100 | 0.0141 | 2 |" in said and "| + MAE | 0.6500 | 0.0141 | 2 |" in said
    (tmp_path / "ablation.json").write_text(json.dumps({"rows": [{"name": "none", "seeds": [{"seed": 0}]}]}))
    assert main(["evaluate", str(tmp_path), "--table", "2"]) == 2
    assert "row none: a seed lacks `macro_f1`" in capsys.readouterr().err
    (tmp_path / "ablation.json").write_text("{")
    assert main(["evaluate", str(tmp_path), "--table", "2"]) == 2
    assert "is not JSON" in capsys.readouterr().err
