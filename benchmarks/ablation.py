"""The gain of each component of the method: every row of an ablation against the previous one, on the same pictures.

    femae train recipes/open/ablation.yaml --out runs/open-ablation
    python benchmarks/ablation.py runs/open-ablation [--out benchmarks/results/ablation.md]

For each step: the difference of the macro-F1 of six emotions, and of the compounds, averaged over seeds; its standard
deviation over seeds (paired by seed); and a 95 % interval over test pictures (bootstrap with the same draws for both).
"""

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from femae import __version__
from femae.compound.rules import combine
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.metrics.bootstrap import bootstrap_f1, interval
from femae.metrics.f1 import f1_per_class
from femae.metrics.hard_labels import top_emotion, top_pair
from femae.metrics.tables import markdown_table
from femae.training.loop.scores import read_scores

Floats = npt.NDArray[np.float64]
PAIRS = [(EMOTIONS.index(c.pair[0]), EMOTIONS.index(c.pair[1])) for c in ABAW_COMPOUNDS]
NUM_DRAWS = 2000


def evaluate(run: Path) -> dict[str, tuple[float, Floats]]:
    """Macro-F1 of the six emotions and of the compounds present, each with its bootstrap draws f64[NUM_DRAWS]."""
    probs, targets, mask = read_scores(run / "scores.parquet")
    six, pair = top_emotion(targets, mask=mask), top_pair(targets, pairs=PAIRS, mask=mask)
    scores = combine(probs, compounds=ABAW_COMPOUNDS)
    out = {}
    for name, true, pred in (("six", six, probs.argmax(1)), ("compound", pair, scores.argmax(1))):
        chosen = np.flatnonzero(true >= 0)
        true, pred, size = true[chosen], pred[chosen], len(EMOTIONS) if name == "six" else len(PAIRS)
        present = np.bincount(true, minlength=size) >= 3
        draws, _ = bootstrap_f1(pred, true=true, num_classes=size, groups=chosen, num=NUM_DRAWS)
        value = float(f1_per_class(pred, true=true, num_classes=size)[present].mean())
        out[name] = value, draws[:, present].mean(1)
    return out


def steps(folder: Path) -> list[list[str]]:
    """Cells of the table, a line for each row of the ablation after the first."""
    rows = json.loads((folder / "ablation.json").read_text())["rows"]
    results = {row["name"]: [evaluate(folder / seed["run"]) for seed in row["seeds"]] for row in rows}
    lines = []
    for before, after in zip(list(results)[:-1], list(results)[1:], strict=True):
        line = [f"{before} -> {after}"]
        for name in ("six", "compound"):
            pairs = list(zip(results[before], results[after], strict=True))
            values = np.array([new[name][0] - old[name][0] for old, new in pairs])
            low, high = interval(np.mean([new[name][1] - old[name][1] for old, new in pairs], axis=0))
            line += [f"{values.mean():+.4f}", f"{values.std(ddof=1):.4f}", f"{low:+.4f} to {high:+.4f}"]
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of an ablation run with all its seeds")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = steps(arguments.folder)
    first = json.loads((arguments.folder / "ablation.json").read_text())["rows"][0]["seeds"][0]["run"]
    versions = json.loads((arguments.folder / first / "run.json").read_text())["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    columns = ("difference", "deviation over seeds", "95 % over pictures")
    heads = ["step", *(f"{name}: {column}" for name in ("six", "compound") for column in columns)]
    text = "# What each part of the method adds (Table 2 on open data)\n\n"
    text += f"`python benchmarks/ablation.py`, {date.today()}, femae {__version__}, {packages}.\n\n"
    text += (arguments.folder / "table2.md").read_text() + "\n" + markdown_table(heads, lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
