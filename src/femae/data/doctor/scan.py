"""Iterates over all samples of a folder of shards, or of a raw data set, for the doctor."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from femae.data.duplicates import perceptual_hash
from femae.data.samples import SourceReader
from femae.data.store.manifest import Manifest, file_sha256
from femae.data.store.pictures import MISSING, load_pictures_of
from femae.data.store.shard_reader import decode_picture
from femae.data.store.shards import action_unit_arrays
from femae.errors import DataError

__all__ = ["Item", "ShardProblem", "scan_raw", "scan_shards"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One sample with its pixels."""

    key: str
    source: str
    group: str
    split: str
    class_name: str
    targets: npt.NDArray[np.float32]  # f32[6]
    mask: npt.NDArray[np.bool_]  # bool[6]
    au_targets: npt.NDArray[np.float32]  # f32[46]
    au_mask: npt.NDArray[np.bool_]  # bool[46]
    image: npt.NDArray[np.uint8] | None = None  # u8[H, W, 3] RGB
    problem: str = ""  # why there is no image
    missing: bool = False  # whether the picture's file is missing
    pixel_digest: bytes = b""  # equal for equal pixels
    phash: int = 0  # perceptual hash

    @property
    def name(self) -> str:
        """Source and key, for messages."""
        return f"{self.source}: {self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardProblem:
    """A shard that differs from the manifest."""

    kind: str  # missing-shard, changed-shard, damaged-shard, unlisted-shard
    text: str


def scan_shards(manifest: Manifest) -> Iterator[Item | ShardProblem]:
    """Every row of every shard with its decoded picture, and the problems of whole shards."""
    folder = manifest.folder / "shards"
    listed = {shard.file for shard in manifest.shards}
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in listed:
            yield ShardProblem(kind="unlisted-shard", text=f"{path.name} is in the folder but not in the manifest")
    for shard in manifest.shards:
        path = folder / shard.file
        if not path.is_file():
            yield ShardProblem(kind="missing-shard", text=f"{shard.file} ({shard.num_rows} rows) is missing")
            continue
        if file_sha256(path) != shard.sha256:
            yield ShardProblem(
                kind="changed-shard", text=f"{shard.file} is not the file that was written: its sha256 differs"
            )
        try:
            yield from _rows(path, shard.num_rows)
        except (OSError, ValueError, KeyError) as error:
            yield ShardProblem(kind="damaged-shard", text=f"{shard.file} cannot be read: {error}")


def _rows(path: Path, num_rows: int) -> Iterator[Item | ShardProblem]:
    columns = ["key", "source", "group", "split", "class_name", "image", "targets", "mask", "au_targets", "au_mask"]
    count = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=128, columns=columns):
            for row in batch.to_pylist():
                count += 1
                yield _item_of_row(row)
    if count != num_rows:
        yield ShardProblem(kind="damaged-shard", text=f"{path.name} has {count} rows, the manifest says {num_rows}")


def _item_of_row(row: dict[str, Any]) -> Item:
    image, problem = None, ""
    try:
        image = decode_picture(row["image"]["bytes"] or b"")
    except DataError as error:
        problem = str(error)
    return Item(
        **{name: row[name] for name in ("key", "source", "group", "split", "class_name")},
        targets=np.array(row["targets"], np.float32),
        mask=np.array(row["mask"], np.bool_),
        au_targets=np.array(row["au_targets"], np.float32),
        au_mask=np.array(row["au_mask"], np.bool_),
        image=image,
        problem=problem,
        **_digests(image),
    )


def scan_raw(reader: SourceReader) -> Iterator[Item]:
    """Every sample of a reader with its whole picture, without face detection."""
    source = reader.reading.source
    for sample, loaded in load_pictures_of(reader):
        au_targets, au_mask = action_unit_arrays(sample)
        yield Item(
            key=sample.key,
            source=source,
            group=sample.group,
            split=sample.split,
            class_name=sample.class_name,
            targets=sample.targets,
            mask=sample.mask,
            au_targets=au_targets,
            au_mask=au_mask,
            image=loaded.image,
            problem="" if loaded.image is not None else f"{loaded.cause} {loaded.detail}".strip(),
            missing=loaded.image is None and loaded.cause == MISSING,
            **_digests(loaded.image),
        )


def _digests(image: npt.NDArray[np.uint8] | None) -> dict[str, Any]:
    """The digest of the pixels and the perceptual hash."""
    if image is None:
        return {}
    digest = hashlib.blake2b(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes(), digest_size=16)
    return {"pixel_digest": digest.digest(), "phash": perceptual_hash(image)}
