"""The shipped model on real clips: mean of the six probabilities, number of ids, and frames without a face, per clip.

python benchmarks/clips.py --data FOLDER_WITH_videos [--out benchmarks/results/clips.md]
"""

import argparse
import csv
from datetime import date
from pathlib import Path

import numpy as np

from femae import Predictor, __version__
from femae.labels import EMOTIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds videos/clips.csv")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    predictor = Predictor(model=arguments.model)
    with (arguments.data / "videos" / "clips.csv").open(newline="") as file:
        clips = [row for row in csv.DictReader(file) if not row["codec"].startswith("ERR")]
    name = f"{predictor.engine.spec.name} {predictor.engine.spec.version}"
    lines = [
        "# The shipped model on real clips",
        "",
        f"`python benchmarks/clips.py`, {date.today()}, femae {__version__}, model {name}, default settings.",
        "",
        "| clip | what is seen | frames | without a face | ids | " + " | ".join(EMOTIONS) + " |",
        "|---|---|---|---|---|" + "---|" * len(EMOTIONS),
    ]
    for clip in clips:
        results = list(predictor.stream(arguments.data / "videos" / clip["file"]))
        faces = [face for result in results for face in result.faces]
        means = np.mean([face.probs for face in faces], axis=0) if faces else np.full(6, np.nan)
        missing = sum(result.status != "ok" for result in results)
        ids = len({face.face_id for face in faces})
        cells = [clip["file"], clip["what"], len(results), missing, ids, *(f"{value:.2f}" for value in means)]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
