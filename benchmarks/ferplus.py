"""Evaluates a model on FER+ through `femae predict --faces whole` with the script score_ferplus.py.

    python benchmarks/ferplus.py --data FOLDER_WITH_ferplus --scorer score_ferplus.py [--model model.onnx]

Each picture of the split is written as a PNG, predicted by the command, and scored by the given script. PublicTest has
near copies of training pictures; --strict leaves them out (exact copies are never scored).
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ferplus_arrays import read_ferplus
from PIL import Image

from femae.cli import main as femae
from femae.data.duplicates import duplicate_pairs, perceptual_hash, thumbnail
from femae.labels import EMOTIONS

_COLUMNS = (*EMOTIONS, "compound", "compound_score", "expression", "expression_probability")


def predict_split(
    data: Path, split: str, folder: Path, model: Path | None, *, change: Callable[[Any], Any] = lambda picture: picture
) -> Path:
    """Write the split's pictures u8[48, 48] and run the command; returns a csv of index, six probabilities, labels."""
    pictures = folder / "pictures"
    pictures.mkdir()
    ferplus = read_ferplus(data / "ferplus", split=split)
    for index, picture in zip(ferplus.index, ferplus.pictures, strict=True):
        Image.fromarray(change(picture)).save(pictures / f"{index}.png")
    arguments = ["predict", str(pictures), "--faces", "whole", "--out", str(folder), "--quiet"]
    status = femae(arguments + (["--model", str(model)] if model else []))
    assert status == 0, f"femae predict ended with status {status}"
    scores = folder / "scores.csv"
    with (folder / "pictures.csv").open(newline="") as source, scores.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["index", *_COLUMNS])
        for row in csv.DictReader(source):
            writer.writerow([Path(row["source"]).stem, *(row[name] for name in _COLUMNS)])
    return scores


def labels_without_near_copies(data: Path, split: str, folder: Path) -> Path:
    """A copy of the label files without the rows of `split` that are copies or near copies of Training pictures."""
    train, test = (read_ferplus(data / "ferplus", split=name) for name in ("Training", split))
    pictures = np.repeat(np.concatenate([train.pictures, test.pictures])[..., None], 3, axis=3)
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    pairs = duplicate_pairs(hashes, thumbnails=lambda found: np.stack([thumbnail(pictures[i]) for i in found]))
    first, second = pairs.T
    copies = second[(first < len(train.pictures)) & (second >= len(train.pictures))]
    dropped = {str(test.index[i - len(train.pictures)]) for i in copies}
    print(f"{len(dropped)} pictures of {split} are copies or near copies of training pictures", file=sys.stderr)
    target = folder / "labels"
    target.mkdir()
    for name in ("labels.csv", "compound.csv"):
        with (data / "ferplus" / name).open(newline="") as source, (target / name).open("w", newline="") as kept:
            rows = csv.DictReader(source)
            writer = csv.DictWriter(kept, rows.fieldnames or [])
            writer.writeheader()
            writer.writerows(row for row in rows if row["split"] != split or row["index"] not in dropped)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", default="PublicTest")
    parser.add_argument("--strict", action="store_true", help="leave out near copies of training pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scores = predict_split(arguments.data, arguments.split, Path(folder), arguments.model)
        labels = arguments.data / "ferplus"
        if arguments.strict:
            labels = labels_without_near_copies(arguments.data, arguments.split, Path(folder))
        command = [sys.executable, str(arguments.scorer), str(scores), "--labels", str(labels)]
        done = subprocess.run([*command, "--split", arguments.split], check=True, capture_output=True, text=True)
    print(json.dumps(json.loads(done.stdout), indent=1))


if __name__ == "__main__":
    main()
