"""FER+ : FER2013 faces (48 x 48, gray) with the votes of ten annotators (Barsoum et al. 2016), kept in atlases.

An atlas is one large picture of equal cells, row by row. `labels.csv` names each picture's atlas and cell, its split
and its ten vote counts. `FerPlusSource` gives samples for `prepare`, `read_ferplus` one split as arrays.

Training is `train`; PublicTest is `test`, since it is what this set has to be measured on. Pictures of one `dup_group`
are exact copies and share a group; of PublicTest those that stand in Training too are left out.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.samples import AtlasCell, RawSample
from femae.data.sources.atlas import AtlasSource
from femae.data.sources.base import LeftOut
from femae.data.sources.fer2013 import votes_label
from femae.data.sources.files import key_of
from femae.errors import DataError
from femae.labels import EMOTIONS
from femae.labels import FERPLUS_VOTES as CSV_VOTES

__all__ = ["FERPLUS_VOTES", "FerPlus", "FerPlusSource", "read_ferplus"]

FERPLUS_VOTES = (*EMOTIONS, "neutral", "contempt", "unknown", "NF")  # order of FerPlus.votes, not of the csv
_SPLITS = {"Training": "train", "PublicTest": "test"}
_CELL = 48
_COLUMNS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class FerPlus:
    """One split: pictures u8[N, 48, 48] gray, votes i64[N, 10] (order FERPLUS_VOTES), index i64[N] of labels.csv."""

    pictures: npt.NDArray[np.uint8]
    votes: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    in_training: npt.NDArray[np.bool_]  # True: an exact copy of this picture stands in Training


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
    pictures = np.empty((len(rows), _CELL, _CELL), np.uint8)
    for position, row in enumerate(rows):
        atlas = int(row["atlas"])
        if atlas not in atlases:
            atlases[atlas] = np.asarray(Image.open(folder / f"atlas_{atlas:02d}.png").convert("L"))
        r, c = divmod(int(row["cell"]), _COLUMNS)
        pictures[position] = atlases[atlas][r * _CELL : (r + 1) * _CELL, c * _CELL : (c + 1) * _CELL]
    return FerPlus(
        pictures=pictures,
        votes=np.array([[int(row[name]) for name in FERPLUS_VOTES] for row in rows]),
        index=np.array([int(row["index"]) for row in rows]),
        in_training=np.array([row.get("dup_in_training") == "1" for row in rows]),
    )


class FerPlusSource(AtlasSource):
    """Reads the atlases of FER+."""

    def __init__(self, folder: Path, *, keep_unlabelled: bool = False, name: str = "ferplus") -> None:
        """Raises DataError when labels.csv or a column is not there."""
        needs = ("name", "split", *CSV_VOTES)
        super().__init__(
            folder,
            name=name,
            file="atlas_{:02d}.png",
            size=_CELL,
            columns=_COLUMNS,
            needs=needs,
            keep_unlabelled=keep_unlabelled,
        )

    def _labelled(self, row: dict[str, str], picture: AtlasCell, key: str) -> RawSample:
        split = _SPLITS.get(row["split"], "")
        if row.get("dup_in_training", "") == "1":
            raise LeftOut("a test picture that stands in Training too")
        label = votes_label([row[name] for name in CSV_VOTES])
        name = key_of(row["name"] or key)
        copies = row.get("dup_group", "")
        return RawSample(
            key=name,
            picture=picture,
            group=f"fer2013/copies-{copies}" if copies else f"fer2013/{name}",
            split=split,
            class_name=label.class_name,
            targets=label.targets,
            mask=label.mask,
            is_crop=True,
        )
