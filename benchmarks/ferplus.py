"""Score a model on FER+ through `femae predict --faces whole`, by the rules of score_ferplus.py.

    python benchmarks/ferplus.py --data FOLDER_WITH_ferplus --scorer score_ferplus.py [--model model.onnx]

Each picture of the split is written as a PNG, predicted by the command itself, and scored by the script given.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from femae.cli import main as femae
from femae.data.sources.ferplus import read_ferplus
from femae.labels import EMOTIONS


def predict_split(data: Path, split: str, folder: Path, model: Path | None) -> Path:
    """Write the split's pictures, run the command, and give the csv of (index, six probabilities)."""
    pictures = folder / "pictures"
    pictures.mkdir()
    ferplus = read_ferplus(data / "ferplus", split=split)
    for index, picture in zip(ferplus.index, ferplus.pictures, strict=True):
        Image.fromarray(picture).save(pictures / f"{index}.png")
    arguments = ["predict", str(pictures), "--faces", "whole", "--out", str(folder), "--quiet"]
    status = femae(arguments + (["--model", str(model)] if model else []))
    assert status == 0, f"femae predict ended with status {status}"
    scores = folder / "scores.csv"
    with (folder / "pictures.csv").open(newline="") as source, scores.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["index", *EMOTIONS])
        for row in csv.DictReader(source):
            writer.writerow([Path(row["source"]).stem, *(row[name] for name in EMOTIONS)])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", default="PublicTest")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scores = predict_split(arguments.data, arguments.split, Path(folder), arguments.model)
        command = [sys.executable, str(arguments.scorer), str(scores), "--labels", str(arguments.data / "ferplus")]
        done = subprocess.run([*command, "--split", arguments.split], check=True, capture_output=True, text=True)
    print(json.dumps(json.loads(done.stdout), indent=1))


if __name__ == "__main__":
    main()
