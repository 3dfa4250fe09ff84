"""Reading shards: rows in order, picture bytes of chosen rows, and whole sets of pictures as one array.

A stored picture shows more than the network is fed with: its side is `margin` times the side of the frame that
`predict` cuts out, so that augmentation finds real pixels around it. `load_pictures(..., margin=1.0)` gives exactly
that frame; a larger margin keeps more, and where a picture holds less (crops that were passed through have margin 1)
the border is mirrored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.store.addresses import open_parquet
from femae.data.store.columns import numbers, strings
from femae.data.store.manifest import Manifest, read_manifest
from femae.data.store.pictures import decode_bytes
from femae.data.store.shards import SHARD_SCHEMA
from femae.errors import DataError
from femae.faces.crop import Framing, crop_face
from femae.types import Face

__all__ = ["ShardReader", "decode_picture", "frame_picture", "load_pictures"]

_BATCH_ROWS: Final = 256


def decode_picture(data: bytes) -> npt.NDArray[np.uint8]:
    """Bytes of a jpg or png -> u8[H, W, 3] RGB, orientation tags applied. Raises DataError when they are damaged."""
    try:
        return decode_bytes(data)
    except Exception as error:  # decoders of damaged pictures raise nearly anything
        raise DataError(f"not a readable picture: {error}") from error


def frame_picture(
    image: npt.NDArray[np.uint8], *, size: int, stored_margin: float, margin: float = 1.0, gray: bool = False
) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB with `stored_margin` -> u8[size, size, C] with `margin`, C = 1 (gray, ITU-R 601) or 3.

    Resampled as `predict` does it. Of a picture that is not square (a crop passed through) the longer side fills the
    frame and the shorter one is mirrored, as with `predict --faces whole`.
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


class ShardReader:
    """Random and sequential access to the rows of a folder of shards."""

    def __init__(self, folder: Path | Manifest) -> None:
        self.manifest = folder if isinstance(folder, Manifest) else read_manifest(folder)

    def __len__(self) -> int:
        return len(self.manifest)

    def rows(self, *, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row of every shard as a dict, shard by shard (the whole folder, also of a selected manifest).

        Memory stays flat. `columns`: only these; all by default. Raises DataError when a shard is missing or damaged.
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
        """(position, bytes) of rows of the manifest, shard by shard in the order of the shards, not of `positions`."""
        chosen = np.asarray(positions, np.intp)
        files, rows = strings(self.manifest.table, "shard"), numbers(self.manifest.table, "row")
        by_file: dict[str, list[int]] = {}
        for position in chosen.tolist():
            by_file.setdefault(files[position], []).append(position)
        for file in sorted(by_file):
            wanted = sorted(by_file[file], key=lambda position: int(rows[position]))
            yield from self._of_shard(file, wanted, [int(rows[position]) for position in wanted])

    def _of_shard(self, file: str, positions: list[int], rows: list[int]) -> Iterator[tuple[int, bytes]]:
        path = self.manifest.folder / "shards" / file
        try:
            with open_parquet(path) as parquet:
                start, at = 0, 0
                for group in range(parquet.num_row_groups):
                    end = start + parquet.metadata.row_group(group).num_rows
                    upto = at
                    while upto < len(rows) and rows[upto] < end:
                        upto += 1
                    if upto > at:
                        table: Any = parquet.read_row_group(group, columns=["image"])
                        values = table.column("image").combine_chunks().field("bytes")
                        for position, row in zip(positions[at:upto], rows[at:upto], strict=True):
                            yield position, values[row - start].as_py()
                    start, at = end, upto
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); see `femae data doctor`") from error
        if at < len(rows):
            raise DataError(f"{path} has fewer rows than the manifest says; see `femae data doctor`")


def load_pictures(
    folder: Path | Manifest,
    *,
    size: int,
    margin: float = 1.0,
    gray: bool = False,
    positions: Sequence[int] | npt.NDArray[np.intp] | None = None,
) -> npt.NDArray[np.uint8]:
    """Pictures of the rows at `positions` (default: all, in the manifest's order) -> u8[N, size, size, C] RGB or gray.

    margin 1.0 is the frame `predict` feeds; see the file's docstring. Raises DataError naming the row that is damaged.
    """
    reader = ShardReader(folder)
    chosen = np.arange(len(reader)) if positions is None else np.asarray(positions, np.intp)
    out = np.empty((len(chosen), size, size, 1 if gray else 3), np.uint8)
    places: dict[int, list[int]] = {}
    for place, position in enumerate(chosen.tolist()):
        places.setdefault(position, []).append(place)
    margins = numbers(reader.manifest.table, "margin")
    for position, data in reader.picture_bytes(np.array(sorted(places), np.intp)):
        try:
            image = decode_picture(data)
        except DataError as error:
            key = reader.manifest.text("key", np.array([position]))[0]
            raise DataError(f"{reader.manifest.folder}, {key}: {error}; see `femae data doctor`") from error
        stored = float(margins[position])
        out[places[position]] = frame_picture(image, size=size, stored_margin=stored, margin=margin, gray=gray)
    return out
