"""Reads shards: rows in order, picture bytes of chosen rows, and sets of pictures as one array.

A stored picture shows more than the network's input: its side is `margin` times the side of the frame that `predict`
crops, so that augmentation finds real pixels around it. `load_pictures(..., margin=1.0)` gives exactly that frame; a
larger margin keeps more, and if a picture has less (crops that were passed through have margin 1) its border is
mirrored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from femae.data.store.addresses import open_parquet
from femae.data.store.manifest import Manifest, codes, numbers, read_manifest
from femae.data.store.pictures import decode_bytes, error_words
from femae.data.store.shards import SHARD_SCHEMA
from femae.errors import DataError
from femae.faces.crop import Framing, crop_face
from femae.types import Face

__all__ = ["RowRuns", "ShardReader", "decode_picture", "frame_picture", "load_pictures", "read_group"]

_BATCH_ROWS: Final = 256


def decode_picture(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a jpg or png to u8[H, W, 3] RGB, EXIF orientation applied. Raises DataError when it is damaged."""
    try:
        return decode_bytes(data)
    except Exception as error:  # decoders of damaged pictures raise nearly anything
        raise DataError(f"not a readable picture: {error_words(error)}") from error


def frame_picture(
    image: npt.NDArray[np.uint8], *, size: int, stored_margin: float, margin: float = 1.0, gray: bool = False
) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB with `stored_margin` -> u8[size, size, C] with `margin`, C = 1 (gray, ITU-R 601) or 3.

    Resampled like `predict`. In a picture that is not square (a crop passed through) the longer side fills the frame
    and the shorter one is extended by mirroring, as with `predict --faces whole`.
    """
    height, width = image.shape[:2]
    if (height, width) != (size, size) or margin != stored_margin:
        half = max(height, width) / 2
        box = np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half], np.float32)
        middle = Framing(side_per_box=margin / stored_margin, eyes_weight=0.0, below_eyes=0.0, below_box=0.0)
        square = Face(box_xyxy=box, landmarks=None, score=1.0)
        image = crop_face(image, face=square, size=size, framing=middle).image
    if gray:
        return np.asarray(Image.fromarray(image).convert("L"), np.uint8)[..., None]
    return image


@dataclass(kw_only=True, slots=True)
class RowRuns:
    """The location of a manifest's rows as runs of consecutive rows of a shard, mostly whole shards.

    Its size depends on the number of shards, not of rows.
    """

    starts: list[int]  # position in the manifest of the first row of each run
    shards: list[str]  # file of each run
    rows: list[int]  # row in the shard of the first row of each run
    num_rows: int = 0  # in total

    @classmethod
    def of(cls, manifest: Manifest) -> "RowRuns":
        """The runs of all rows of a manifest."""
        runs = cls(starts=[], shards=[], rows=[])
        for table in manifest.chunks(("shard", "row")):
            runs.add(table)
        return runs

    def add(self, table: pa.Table) -> None:
        """Append the next rows, a table with the columns `shard` and `row`."""
        (shards, names), rows = codes(table, "shard"), numbers(table, "row")
        breaks = np.flatnonzero((np.diff(shards) != 0) | (np.diff(rows) != 1)) + 1
        for start in [0, *breaks.tolist()] if len(rows) else []:
            name, row = names[shards[start]], int(rows[start])
            if start or not self._continues_run(name, row):
                self.starts.append(self.num_rows + start)
                self.shards.append(name)
                self.rows.append(row)
        self.num_rows += len(rows)

    def _continues_run(self, shard: str, row: int) -> bool:
        """Whether this row of a shard follows the last one."""
        return bool(self.shards) and self.shards[-1] == shard and self.rows[-1] + self.num_rows - self.starts[-1] == row

    def find(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(index of the run, row in its shard) i64[K] each, of rows at positions i64[K] of the manifest."""
        starts = np.array(self.starts, np.int64)
        runs = np.searchsorted(starts, positions, side="right") - 1
        return runs, np.array(self.rows, np.int64)[runs] + positions - starts[runs]


class ShardReader:
    """Random and sequential access to the rows of a folder of shards."""

    def __init__(self, folder: Path | Manifest, *, runs: RowRuns | None = None) -> None:
        self.manifest = folder if isinstance(folder, Manifest) else read_manifest(folder)
        self.runs = RowRuns.of(self.manifest) if runs is None else runs

    def __len__(self) -> int:
        return len(self.manifest)

    def rows(self, *, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row of every shard as a dict, shard by shard (of the whole folder, even for a selected manifest).

        Memory use is constant. `columns`: default all. Raises DataError when a shard is missing or damaged.
        """
        names = list(SHARD_SCHEMA.names if columns is None else columns)
        for shard in self.manifest.shards:
            path = self.manifest.folder / "shards" / shard.file
            try:
                with open_parquet(path) as file:
                    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                        yield from batch.to_pylist()
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({error}); see `femae data doctor`") from error

    def picture_bytes(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> Iterator[tuple[int, bytes]]:
        """(position, bytes) of rows of the manifest, in the order of the shards, not of `positions`.

        Raises DataError when a shard is missing or damaged.
        """
        for position, data, _ in self.stored(positions):
            yield position, data

    def stored(self, positions: Sequence[int] | npt.NDArray[np.intp]) -> Iterator[tuple[int, bytes, float]]:
        """(position, bytes, margin) of rows of the manifest, like picture_bytes."""
        chosen = np.asarray(positions, np.int64)
        runs, rows = self.runs.find(chosen)
        by_file: dict[str, list[tuple[int, int]]] = {}
        for run, row, position in zip(runs.tolist(), rows.tolist(), chosen.tolist(), strict=True):
            by_file.setdefault(self.runs.shards[run], []).append((row, position))
        for file in sorted(by_file):
            yield from self._read_shard(file, sorted(by_file[file]))

    def _read_shard(self, file: str, wanted: list[tuple[int, int]]) -> Iterator[tuple[int, bytes, float]]:
        path = self.manifest.folder / "shards" / file
        try:
            with open_parquet(path) as parquet:
                start, done = 0, 0
                for group in range(parquet.num_row_groups):
                    end = start + parquet.metadata.row_group(group).num_rows
                    stop = done
                    while stop < len(wanted) and wanted[stop][0] < end:
                        stop += 1
                    if stop > done:
                        pictures, margins = read_group(parquet, group)
                        for row, position in wanted[done:stop]:
                            yield position, pictures[row - start].as_py(), float(margins[row - start])
                    start, done = end, stop
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); see `femae data doctor`") from error
        if done < len(wanted):
            raise DataError(f"{path} has fewer rows than the manifest says; see `femae data doctor`")


def read_group(file: Any, number: int) -> tuple[Any, npt.NDArray[np.float32]]:
    """The K pictures of a row group of an open shard: encoded bytes (an Arrow array), and margins f32[K]."""
    table: Any = file.read_row_group(number, columns=["image", "margin"])
    return table.column("image").combine_chunks().field("bytes"), numbers(table, "margin")


def load_pictures(
    folder: Path | Manifest | ShardReader,
    *,
    size: int,
    margin: float = 1.0,
    gray: bool = False,
    positions: Sequence[int] | npt.NDArray[np.intp] | None = None,
) -> npt.NDArray[np.uint8]:
    """Pictures of the rows at `positions` (default: all, in the manifest's order), u8[N, size, size, C] RGB or gray.

    margin 1.0 is the frame of `predict`; see the module's docstring. Raises DataError that names a damaged row.
    """
    reader = folder if isinstance(folder, ShardReader) else ShardReader(folder)
    chosen = np.arange(len(reader)) if positions is None else np.asarray(positions, np.intp)
    out = np.empty((len(chosen), size, size, 1 if gray else 3), np.uint8)
    indices: dict[int, list[int]] = {}
    for index, position in enumerate(chosen.tolist()):
        indices.setdefault(position, []).append(index)
    for position, data, stored in reader.stored(np.array(sorted(indices), np.intp)):
        try:
            image = decode_picture(data)
        except DataError as error:
            key = reader.manifest.text("key", np.array([position]))[0]
            raise DataError(f"{reader.manifest.folder}, {key}: {error}; see `femae data doctor`") from error
        out[indices[position]] = frame_picture(image, size=size, stored_margin=stored, margin=margin, gray=gray)
    return out
