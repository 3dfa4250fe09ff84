"""Draw docs/timeline.svg, the README's figure, from the table of `femae demo`.

femae demo --out femae-out && python scripts/readme_figure.py femae-out/carphone_pristine.csv docs/timeline.svg
"""

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from femae.labels import ABAW_COMPOUNDS, EMOTIONS

# Okabe and Ito's colours, told apart by colour-blind readers too
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#000000")


def main(table: Path, figure: Path) -> None:
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    times = [float(row["time_s"]) for row in rows]
    plt.rcParams.update({"svg.hashsalt": "femae", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    fig, (upper, lower) = plt.subplots(2, 1, figsize=(8, 4.2), sharex=True, layout="constrained")
    for emotion, color in zip(EMOTIONS, COLORS, strict=False):
        upper.plot(times, [float(row[emotion]) for row in rows], color=color, label=emotion, linewidth=1.4)
    upper.set(ylim=(0, 1), ylabel="probability")
    for compound, color in zip(ABAW_COMPOUNDS, COLORS, strict=True):
        values = [float(row[compound.column]) for row in rows]
        lower.plot(times, values, color=color, label=compound.name, linewidth=1.4)
    lower.set(xlabel="time in seconds", ylabel="sum of two", ylim=(0, None), xlim=(times[0], times[-1]))
    for axis in (upper, lower):
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    fig.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
