"""Evaluates a model on the LFW pictures of one split with their weak labels: with face detection, and as crops.

    python benchmarks/lfw.py --data FOLDER_WITH_lfw [--model model.onnx] [--split test]

Each picture is written as a PNG; `femae predict` detects the face (a missed one counts as wrong) or uses the picture as
the crop, and `femae evaluate` compares. It also prints the mean probabilities of the pictures labelled neutral.
"""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from femae.cli import main as femae
from femae.labels import EMOTIONS

CELL, COLUMNS = 96, 24


def write_pictures(data: Path, split: str, folder: Path) -> None:
    """Write the split's pictures as PNG files and their labels as labels.csv."""
    atlases: dict[str, np.ndarray[Any, Any]] = {}
    (folder / "pictures").mkdir()
    with (data / "lfw" / "labels.csv").open(newline="") as source, (folder / "labels.csv").open("w") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["name", "emotion", "person"])
        for row in csv.DictReader(source):
            if row["split"] != split:
                continue
            name = f"lfw_{int(row['atlas']):02d}.jpg"
            if name not in atlases:
                atlases[name] = np.asarray(Image.open(data / "lfw" / name).convert("L"))
            y, x = (CELL * index for index in divmod(int(row["cell"]), COLUMNS))
            stem = Path(row["name"]).stem
            Image.fromarray(atlases[name][y : y + CELL, x : x + CELL]).save(folder / "pictures" / f"{stem}.png")
            writer.writerow([stem, row["emotion"], row["person"]])


def evaluate(folder: Path, faces: str, model: Path | None) -> dict[str, Any]:
    """Metrics of one way to crop (`detect` or `whole`)."""
    out = folder / faces
    arguments = ["predict", str(folder / "pictures"), "--faces", faces, "--out", str(out), "--quiet"]
    assert femae(arguments + (["--model", str(model)] if model else [])) == 0
    table = out / "pictures.csv"
    arguments = ["evaluate", str(table), "--labels", str(folder / "labels.csv"), "--no-figures", "--quiet"]
    assert femae([*arguments, "--out", str(out / "judged"), "--present", "20"]) == 0
    measured = json.loads((out / "judged" / "metrics.json").read_text())
    with (folder / "labels.csv").open(newline="") as file:
        neutral = {row["name"] for row in csv.DictReader(file) if row["emotion"] == "neutral"}
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok" and Path(row["source"]).stem in neutral]
    means = {name: round(float(np.mean([float(row[name]) for row in rows])), 3) for name in EMOTIONS}
    figures = {key: measured["emotions"][key] for key in ("num", "num_missed", "accuracy", "macro_f1_present", "f1")}
    return figures | {"present": measured["emotions"]["present"], "means_of_neutral_faces": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(arguments.data, arguments.split, Path(folder))
        for faces in ("detect", "whole"):
            print(faces, json.dumps(evaluate(Path(folder), faces, arguments.model), indent=1), flush=True)


if __name__ == "__main__":
    main()
