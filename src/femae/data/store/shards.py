"""Shards: Parquet files of face pictures with labels, written once and read by training, doctor and annotation.

One row is one face, with the schema below; the `image` column is the struct {bytes, path} of Hugging Face `datasets`'
feature Image, as the file's metadata declares, so that `datasets.load_dataset` decodes it. The key `femae` of the
file's metadata holds a note: the fingerprint of the work unit and what was left out. So a single rename commits
pictures, labels and note together.

Layout of a folder of shards:

    manifest.json        settings, versions, counts, exclusions, sha256 of every shard
    manifest.parquet     one row per sample, all columns but the pictures, plus `shard` and `row`
    README.md            data set card with the location of the shards for `datasets.load_dataset(FOLDER)`
    settings.json        settings that determine the shards' content; a run with others is refused
    shards/SOURCE-00000.parquet, ...
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.data.samples import RawSample
from femae.errors import DataError, LabelError
from femae.files import move_into_place
from femae.labels import EMOTIONS

__all__ = [
    "ACTION_UNITS",
    "SHARD_SCHEMA",
    "ShardSample",
    "ShardWriter",
    "action_unit_arrays",
    "read_shard_note",
    "shard_path",
]

# All facial action units of FACS, so that all shards have the same schema.
ACTION_UNITS: Final[tuple[str, ...]] = tuple(f"AU{number:02d}" for number in range(1, 47))
_NOTE_KEY: Final = b"femae"
_ROWS_PER_GROUP: Final = 256
_Codec = Literal["gzip", "brotli", "lz4", "zstd", "snappy", "none"]
_F32: Final = pa.float32()


SHARD_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # unique within the source
        pa.field("source", pa.string(), nullable=False),  # data set
        pa.field("group", pa.string(), nullable=False),  # subject or video: never split by a fold
        pa.field("split", pa.string(), nullable=False),  # train, val, test of the data set, or empty
        pa.field("class_name", pa.string(), nullable=False),  # name of the label, or empty
        pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        pa.field("width", pa.int32(), nullable=False),  # of the picture, pixels
        pa.field("height", pa.int32(), nullable=False),
        pa.field("margin", _F32, nullable=False),  # side of the picture / side of the network's input frame
        pa.field("framing", pa.string(), nullable=False),  # `face`: cropped by the settings; `whole`: passed through
        pa.field("targets", pa.list_(_F32, len(EMOTIONS)), nullable=False),  # 0..1, in the order of labels.EMOTIONS
        pa.field("mask", pa.list_(pa.bool_(), len(EMOTIONS)), nullable=False),  # True: known
        pa.field("au_targets", pa.list_(_F32, len(ACTION_UNITS)), nullable=False),  # 0..1, in the order of ACTION_UNITS
        pa.field("au_mask", pa.list_(pa.bool_(), len(ACTION_UNITS)), nullable=False),
        pa.field("frame", pa.int32()),  # from 1; null: not from a film
        pa.field("face", pa.int16(), nullable=False),  # number of the face from 1 with all_faces, else 0
        pa.field("box_xyxy", pa.list_(_F32)),  # 4 numbers, pixels of the original picture; null: not detected
        pa.field("landmarks", pa.list_(_F32)),  # 10 numbers x1, y1, ... y5, pixels of the original picture
        pa.field("frame_to_crop", pa.list_(_F32)),  # 6 numbers, 2 x 3 row by row; null: picture passed through
        pa.field("detection_score", _F32),
        pa.field("face_size_px", _F32, nullable=False),  # quality measures: data/quality.py
        pa.field("blur", _F32, nullable=False),
        pa.field("darkness", _F32, nullable=False),
        pa.field("contrast", _F32, nullable=False),
        pa.field("yaw_deg", _F32),
        pa.field("pitch_deg", _F32),
        pa.field("roll_deg", _F32),
        pa.field("sha256", pa.string(), nullable=False),  # of the picture's bytes, hex
        pa.field("phash", pa.uint64(), nullable=False),  # perceptual hash, data/duplicates.py
    ],
    metadata={
        "huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}),
        "emotions": json.dumps(EMOTIONS),
        "action_units": json.dumps(ACTION_UNITS),
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSample:
    """One row of a shard; see SHARD_SCHEMA for the columns."""

    key: str
    source: str
    group: str
    split: str
    class_name: str
    image: bytes  # jpg or png
    image_path: str  # a file name with the suffix of the format
    width: int
    height: int
    margin: float
    framing: str
    targets: npt.NDArray[np.float32]  # f32[6]
    mask: npt.NDArray[np.bool_]  # bool[6]
    au_targets: npt.NDArray[np.float32]  # f32[len(ACTION_UNITS)]
    au_mask: npt.NDArray[np.bool_]  # bool[len(ACTION_UNITS)]
    frame: int | None = None
    face: int = 0
    box_xyxy: npt.NDArray[np.float32] | None = None  # f32[4]
    landmarks: npt.NDArray[np.float32] | None = None  # f32[5, 2]
    frame_to_crop: npt.NDArray[np.float32] | None = None  # f32[2, 3]
    detection_score: float | None = None
    face_size_px: float
    blur: float
    darkness: float
    contrast: float
    yaw_deg: float | None = None
    pitch_deg: float | None = None
    roll_deg: float | None = None
    sha256: str
    phash: int

    def row(self) -> dict[str, Any]:
        """The row as Python values by column, for pyarrow."""
        row: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            row[item.name] = value.ravel().tolist() if isinstance(value, np.ndarray) else value
        row["image"] = {"bytes": self.image, "path": row.pop("image_path")}
        return row


def action_unit_arrays(sample: RawSample) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Targets f32[46] and mask bool[46] in the order of ACTION_UNITS. Raises LabelError for a unit outside of these."""
    targets, mask = np.zeros(len(ACTION_UNITS), np.float32), np.zeros(len(ACTION_UNITS), np.bool_)
    for name, value in sample.action_units.items():
        if name not in ACTION_UNITS:
            raise LabelError(
                f"{sample.key}: '{name}' is not a facial action unit (AU01 to AU46; from 51 on, FACS codes "
                f"movements of head and eyes): leave it out of the labels"
            )
        targets[ACTION_UNITS.index(name)], mask[ACTION_UNITS.index(name)] = value, True
    return targets, mask


def shard_path(folder: Path, *, source: str, number: int) -> Path:
    """The path of a shard; `number` from 0 within the source."""
    return folder / "shards" / f"{source}-{number:05d}.parquet"


@dataclass(kw_only=True, slots=True)
class ShardWriter:
    """Writes one shard under a temporary name and renames it on `commit`; without commit nothing remains.

    A context manager. Equal rows and note give equal bytes (with the same version of pyarrow).
    """

    path: Path
    num_rows: int = 0
    _partial: Path = field(init=False)
    _writer: pq.ParquetWriter | None = field(init=False, default=None)
    _rows: list[dict[str, Any]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._partial,
            SHARD_SCHEMA,
            compression=_compression(),
            use_dictionary=[item.name for item in SHARD_SCHEMA if pa.types.is_string(item.type)],  # type: ignore[arg-type]
        )
        return self

    def add(self, sample: ShardSample) -> None:
        self.add_row(sample.row())

    def add_row(self, row: dict[str, Any]) -> None:
        """Add a row as in the result of `pyarrow.Table.to_pylist`."""
        self._rows.append(row)
        self.num_rows += 1
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SHARD_SCHEMA))
            self._rows.clear()

    def commit(self, note: Mapping[str, Any]) -> None:
        """Finish the file with `note` (JSON values) in its metadata and rename it to `path`."""
        assert self._writer is not None
        self._flush()
        self._writer.add_key_value_metadata({_NOTE_KEY: json.dumps(note, sort_keys=True).encode()})  # type: ignore[dict-item]
        self._writer.close()
        self._writer = None
        move_into_place(self._partial, target=self.path)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        self._partial.unlink(missing_ok=True)


def _compression() -> dict[str, _Codec]:
    """Codec by Parquet column; pictures are compressed already."""
    codecs: dict[str, _Codec] = {"image.bytes": "none", "image.path": "zstd"}
    for item in SHARD_SCHEMA:
        is_list = pa.types.is_list(item.type) or pa.types.is_fixed_size_list(item.type)
        if item.name != "image":
            codecs[f"{item.name}.list.element" if is_list else item.name] = "zstd"
    return codecs


def read_shard_note(path: Path) -> dict[str, Any]:
    """The note of a shard. Raises DataError when the file is not a complete shard."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a complete Parquet file ({error}): run `femae data prepare` again") from error
    if _NOTE_KEY not in metadata:
        raise DataError(f"{path} was not written by `femae data prepare`: its metadata has no key 'femae'")
    note: dict[str, Any] = json.loads(metadata[_NOTE_KEY])
    return note
