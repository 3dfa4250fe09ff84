"""The error of `femae predict --columns pose` on rendered heads with known pose.

    python benchmarks/pose.py --data FOLDER_WITH_synth3d [--split test] [--out FILE.md]

Each render (96 x 96, yaw, pitch and roll in radians) is written as a PNG with a border of its edge pixels, and the
command detects the face and its pose. For comparison, the spread of the poses is the error of a constant prediction.
"""

import argparse
import csv
import datetime
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from femae.cli import main as femae

_CELL, _COLUMNS, _BORDER = 96, 24, 48
_ANGLES = ("yaw", "pitch", "roll")
_SIGNS = {"yaw": 1, "pitch": -1, "roll": -1}  # the renderer's axes -> the signs of data/quality.py


def write_pictures(data: Path, split: str, folder: Path) -> dict[str, list[float]]:
    """Write the split's renders as PNG files; name -> yaw, pitch, roll in degrees, signs as in the columns."""
    atlases: dict[str, np.ndarray[Any, Any]] = {}
    truth: dict[str, list[float]] = {}
    with (data / "synth3d" / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] != split:
                continue
            name = f"syn_{int(row['atlas']):02d}.jpg"
            if name not in atlases:
                atlases[name] = np.asarray(Image.open(data / "synth3d" / name).convert("L"))
            y, x = (_CELL * index for index in divmod(int(row["cell"]), _COLUMNS))
            picture = np.pad(atlases[name][y : y + _CELL, x : x + _CELL], _BORDER, mode="edge")
            Image.fromarray(picture).save(folder / f"{row['index']}.png")
            truth[row["index"]] = [_SIGNS[angle] * np.degrees(float(row[angle])) for angle in _ANGLES]
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pictures = Path(temporary) / "pictures"
        pictures.mkdir()
        truth = write_pictures(arguments.data, arguments.split, pictures)
        assert femae(["predict", str(pictures), "--columns", "pose", "--out", temporary, "--quiet"]) == 0
        with (Path(temporary) / "pictures.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    measured = np.array([[float(row[f"{angle}_deg"]) for angle in _ANGLES] for row in rows])
    known = np.array([truth[Path(row["source"]).stem] for row in rows])
    error = measured - known
    lines = [
        "# Head pose",
        "",
        f"`benchmarks/pose.py`, renders of the split {arguments.split}: {len(truth)}, faces found in {len(rows)}; "
        f"femae {version('femae')}, {datetime.date.today()}. Degrees.",
        "",
        "| | mean error | bias | mean error without bias | correlation | spread of the poses (mean deviation, range) |",
        "|---|---|---|---|---|---|",
    ]
    for column, angle in enumerate(_ANGLES):
        errors, bias, pose = error[:, column], error[:, column].mean(), known[:, column]
        lines.append(
            f"| {angle} | {abs(errors).mean():.1f} | {bias:+.1f} | {abs(errors - bias).mean():.1f} | "
            f"{np.corrcoef(measured[:, column], pose)[0, 1]:.2f} | {abs(pose - pose.mean()).mean():.1f}, "
            f"{pose.min():.0f} to {pose.max():.0f} |"
        )
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
