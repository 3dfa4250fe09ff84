"""Robustness of a model to pictures of lower quality than FER+, and its results on sharp colour pictures.

    python benchmarks/robustness.py --data FOLDER --scorer score_ferplus.py [--model model.onnx ...] [--out FILE.md]

FER+ PublicTest (FOLDER/ferplus) is modified in one way at a time, predicted by `femae predict --faces whole` and scored
by the given script: macro-F1 of six emotions and of the compounds. FOLDER/sfhq_samples are sharp synthetic colour faces
with the search word of each, which is not a label: the mean probability of that emotion is given, with face detection.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ferplus import predict_split
from PIL import Image, ImageFilter

from femae import __version__
from femae.cli import main as femae
from femae.engine.load import load_engine
from femae.labels import EMOTIONS

Picture = npt.NDArray[np.uint8]  # u8[48, 48]


def _reduce(picture: Picture, factor: int) -> Picture:
    """Reduce the resolution by a factor and enlarge again."""
    image, size = Image.fromarray(picture), picture.shape[0]
    small = image.resize((size // factor, size // factor), Image.Resampling.BOX)
    return np.asarray(small.resize((size, size), Image.Resampling.BILINEAR))


def _rotate_and_zoom(picture: Picture, *, degrees: float = 0.0, zoom: float = 1.0) -> Picture:
    """Rotate, then show `zoom` times the side, extended by the edge pixels."""
    height = picture.shape[0]
    wide = Image.fromarray(np.pad(picture, height // 2, mode="edge"))
    side = round(height * zoom)
    start = (wide.width - side) // 2
    turned = wide.rotate(degrees, Image.Resampling.BICUBIC).crop((start, start, start + side, start + side))
    return np.asarray(turned.resize((height, height), Image.Resampling.BOX if zoom > 1 else Image.Resampling.BICUBIC))


def _cover(picture: Picture, rows: slice, columns: slice) -> Picture:
    covered = picture.copy()
    covered[rows, columns] = 76
    return covered


def _noise(picture: Picture) -> Picture:
    noise = np.random.default_rng(int(picture.sum())).normal(0, 20, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "as it is": lambda picture: picture,
    "mirrored": lambda picture: picture[:, ::-1].copy(),
    "half the resolution": lambda picture: _reduce(picture, 2),
    "a third of the resolution": lambda picture: _reduce(picture, 3),
    "sharpened": lambda p: np.asarray(Image.fromarray(p).filter(ImageFilter.UnsharpMask(1, 150, 0))),
    "noise of 20 gray levels": _noise,
    "40 % of the contrast": lambda picture: (picture * 0.4 + 76).astype(np.uint8),
    "turned by 25 degrees": lambda picture: _rotate_and_zoom(picture, degrees=25),
    "1.3 times the side": lambda picture: _rotate_and_zoom(picture, zoom=1.3),
    "0.75 times the side": lambda picture: _rotate_and_zoom(picture, zoom=0.75),
    "mouth covered": lambda picture: _cover(picture, slice(30, 44), slice(12, 36)),
    "eyes covered": lambda picture: _cover(picture, slice(12, 22), slice(4, 44)),
}


def changed_scores(data: Path, scorer: Path, model: Path, change: Callable[[Picture], Picture]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        scores = predict_split(data, "PublicTest", Path(folder), model, change=change)
        command = [sys.executable, str(scorer), str(scores), "--labels", str(data / "ferplus")]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [f"{found[task]['macro_f1']:.3f}" for task in ("six", "compound")]


def colour_faces(data: Path, model: Path) -> dict[str, str]:
    """For each search word the mean probability of that emotion, and how often it is the strongest."""
    pictures = data / "sfhq_samples"
    with (pictures / "labels.csv").open(newline="") as file:
        words = {row["name"]: row["query_label"] for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["predict", str(pictures / "*.jpg"), "--out", folder, "--quiet"]
        assert femae([*arguments, "--model", str(model)]) == 0
        with (Path(folder) / "pictures.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    out = {}
    for word in sorted(set(words.values()) & set(EMOTIONS)):
        probs = np.array([[float(row[e]) for e in EMOTIONS] for row in rows if words[Path(row["source"]).name] == word])
        index = EMOTIONS.index(word)  # type: ignore[arg-type]
        out[word] = f"{probs[:, index].mean():.2f}, {(probs.argmax(1) == index).sum()} of {len(probs)}"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="default: the one that ships")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    models: list[Path] = arguments.model or [Path("femae:model")]
    specs = [load_engine(model).spec for model in models]
    names = [f"{spec.name} {spec.version}" for spec in specs]
    lines = ["# Worse pictures than those of FER+, and better ones", ""]
    lines += [f"`python benchmarks/robustness.py`, {date.today()}, femae {__version__}.", ""]
    lines += ["PublicTest, macro-F1 of six emotions and of the compounds, all pictures changed in one way:", ""]
    lines += ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for name, change in CHANGES.items():
        cells = [", ".join(changed_scores(arguments.data, arguments.scorer, model, change)) for model in models]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "Sharp colour faces: mean probability of the word they were found by, and how often it is the strongest:",
    ]
    lines += ["", "| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    found = [colour_faces(arguments.data, model) for model in models]
    for word in found[0]:
        lines.append(f"| {word} | " + " | ".join(one[word] for one in found) + " |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
