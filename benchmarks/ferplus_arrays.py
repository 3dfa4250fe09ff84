"""FER+ as arrays in memory, for the benchmarks that process its pictures one by one."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.errors import DataError
from femae.labels import EMOTIONS

FERPLUS_VOTES = (*EMOTIONS, "neutral", "contempt", "unknown", "NF")  # order of FerPlus.votes, not of the csv
_SIZE = 48  # side of a cell in pixels
_COLUMNS = 32  # cells per row


@dataclass(frozen=True, kw_only=True, slots=True)
class FerPlus:
    """One split: pictures u8[N, 48, 48] gray, votes i64[N, 10] (order FERPLUS_VOTES), index i64[N] of labels.csv."""

    pictures: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    in_training: npt.NDArray[np.bool_]  # True: Training has an exact copy of this picture


def read_ferplus(folder: Path, *, split: str) -> FerPlus:
    """Read one split (`Training` or `PublicTest`) into memory. Raises DataError when a file or column is missing."""
    labels_path = folder / "labels.csv"
    if not labels_path.is_file():
        raise DataError(f"{labels_path} is missing: give the folder that holds labels.csv and the atlases")
    with labels_path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split") == split]
    if not rows:
        raise DataError(f"{labels_path} has no row of split '{split}'; expected Training or PublicTest")
    missing = [column for column in ("index", "atlas", "cell", *FERPLUS_VOTES) if column not in rows[0]]
    if missing:
        raise DataError(f"{labels_path} lacks the columns {', '.join(missing)}")
    atlases: dict[int, npt.NDArray[np.uint8]] = {}
    pictures = np.empty((len(rows), _SIZE, _SIZE), np.uint8)
    for position, row in enumerate(rows):
        atlas = int(row["atlas"])
        if atlas not in atlases:
            atlases[atlas] = np.asarray(Image.open(folder / f"atlas_{atlas:02d}.png").convert("L"))
        r, c = divmod(int(row["cell"]), _COLUMNS)
        pictures[position] = atlases[atlas][r * _SIZE : (r + 1) * _SIZE, c * _SIZE : (c + 1) * _SIZE]
    return FerPlus(
        pictures=pictures,
        votes=np.array([[int(row[name]) for name in FERPLUS_VOTES] for row in rows]),
        index=np.array([int(row["index"]) for row in rows]),
        in_training=np.array([row.get("dup_in_training") == "1" for row in rows]),
    )
