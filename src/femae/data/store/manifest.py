"""The manifest of a folder of shards: their content, how they were made, and what was left out and why.

`manifest.parquet` has one row per sample with every column but the pictures, plus `shard` (file name) and `row` (from
0, within the shard); its order is the order of training. `manifest.json` has settings, versions, counts, exclusions
per source and the sha256 of every shard. Without time stamps and absolute paths, equal inputs give equal bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from femae.data.store.addresses import is_file, open_parquet, read_text
from femae.data.store.shards import ACTION_UNITS, SHARD_SCHEMA
from femae.errors import DataError
from femae.files import replacing
from femae.labels import EMOTIONS

__all__ = [
    "MANIFEST_SCHEMA",
    "Manifest",
    "ShardFile",
    "codes",
    "distinct",
    "file_sha256",
    "numbers",
    "read_manifest",
    "strings",
    "vectors",
    "write_bytes",
    "write_manifest",
]

FORMAT: Final = "femae-shards"
FORMAT_VERSION: Final = 1
_COLUMNS: Final = [name for name in SHARD_SCHEMA.names if name != "image"]
_FIELDS: Final[list[Any]] = [SHARD_SCHEMA.field(name) for name in _COLUMNS]
_SHARD: Final = pa.field("shard", pa.string(), nullable=False)
_ROW: Final = pa.field("row", pa.int32(), nullable=False)
MANIFEST_SCHEMA: Final = pa.schema(
    [_SHARD, _ROW, *_FIELDS],
    metadata={"emotions": json.dumps(EMOTIONS), "action_units": json.dumps(ACTION_UNITS)},
)


_DICTIONARY_COLUMNS: Final = ("shard", "source", "split")  # columns with few distinct values
_CHUNK_ROWS: Final = 1 << 16  # rows read at once when iterating over a manifest


def strings(table: pa.Table, name: str) -> list[str]:
    """The values of a text column."""
    column: Any = table.column(name)
    values: list[str] = column.to_pylist()
    return values


def codes(table: pa.Table, name: str) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A text column as indices i32[N] into its distinct values (in order of first appearance), and these values."""
    column: Any = table.column(name)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    names: list[str] = array.dictionary.to_pylist()
    return np.asarray(array.indices.to_numpy(zero_copy_only=False), np.int32), names


def distinct(table: pa.Table, name: str) -> list[str]:
    """The distinct values of a text column, in order of first appearance."""
    column: Any = table.column(name)
    values: list[str] = column.unique().to_pylist()
    return values


def numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A numeric column [N]; null becomes NaN."""
    column: Any = table.column(name)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def vectors(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of fixed-size lists of length K as an array [N, K]."""
    column: Any = table.column(name)
    data = column.combine_chunks()
    return np.asarray(data.flatten().to_numpy(zero_copy_only=False)).reshape(-1, data.type.list_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """The manifest's entry of a shard."""

    file: str  # name within the folder `shards`
    source: str
    num_rows: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A folder of shards without its pictures."""

    folder: Path
    table: pa.Table  # MANIFEST_SCHEMA, or some of its columns
    info: dict[str, Any]  # manifest.json

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def shards(self) -> list[ShardFile]:
        """All shards, in the order of their rows."""
        return [ShardFile(**entry) for entry in self.info["shards"]]

    def strings(self, column: str) -> list[str]:
        """A text column such as key, source, group, split, class_name."""
        return strings(self.table, column)

    def chunks(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """All rows in order, in chunks: from the table, or from the file if the table lacks a column.

        Raises DataError when the file cannot be read.
        """
        if set(columns) <= set(self.table.column_names):
            for first in range(0, len(self), _CHUNK_ROWS):
                yield self.table.select(list(columns)).slice(first, _CHUNK_ROWS)
            return
        path = self.folder / "manifest.parquet"
        dictionary_columns = [name for name in _DICTIONARY_COLUMNS if name in columns]
        try:
            with open_parquet(path, read_dictionary=dictionary_columns) as file:
                for groups in _row_group_chunks(file):
                    yield file.read_row_groups(groups, columns=list(columns))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); `femae data prepare` writes it again") from error

    def text(self, column: str, rows: npt.NDArray[np.int64]) -> list[str]:
        """A text column of the rows i64[K], in their order."""
        found, first = np.empty(len(rows), object), 0
        for table in self.chunks((column,)):
            here = np.flatnonzero((rows >= first) & (rows < first + len(table)))
            if len(here):
                texts: Any = table.column(column).take(rows[here] - first)
                found[here] = texts.to_pylist()
            first += len(table)
        return list(found)

    def numbers(self, column: str) -> npt.NDArray[Any]:
        """A numeric column [N]; null becomes NaN."""
        return numbers(self.table, column)

    def vectors(self, column: str) -> npt.NDArray[Any]:
        """`targets` f32[N, 6], `mask` bool[N, 6], `au_targets` f32[N, A], `au_mask` bool[N, A]."""
        return vectors(self.table, column)

    def select(self, chosen: npt.NDArray[np.bool_]) -> "Manifest":
        """The rows where `chosen` bool[N] is True."""
        return Manifest(folder=self.folder, table=self.table.filter(pa.array(chosen)), info=self.info)


def _row_group_chunks(file: pq.ParquetFile) -> Iterator[list[int]]:
    """The row groups of a file in order, in chunks to read at once."""
    chunk, rows = [], 0
    for number in range(file.num_row_groups):
        chunk.append(number)
        rows += file.metadata.row_group(number).num_rows
        if rows >= _CHUNK_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> bool:
    """Write a small file atomically; a file with these bytes is not touched. Returns whether it was written."""
    if path.is_file() and path.read_bytes() == data:
        return False
    with replacing(path) as partial:
        partial.write_bytes(data)
    return True


def read_manifest(folder: Path, *, columns: Sequence[str] | None = None) -> Manifest:
    """Read the manifest of a folder of shards. Raises DataError when it is missing, unfinished, or of another version.

    `columns`: only these. An empty sequence reads no rows, so that memory does not grow with their number; use
    `Manifest.chunks` to iterate over them.
    """
    json_path, table_path = folder / "manifest.json", folder / "manifest.parquet"
    try:
        is_complete = is_file(json_path) and is_file(table_path)
        is_unfinished = not is_complete and is_file(folder / "settings.json")
    except OSError as error:
        raise DataError(f"{folder} cannot be reached: {error}") from error
    if is_unfinished:
        raise DataError(f"{folder} is not finished: run the same `femae data prepare` again to complete it")
    if not is_complete:
        raise DataError(f"{folder} is not a folder of shards: it has no manifest.json; `femae data prepare` makes one")
    try:
        info = json.loads(read_text(json_path))
        with open_parquet(table_path) as file:
            names = file.schema_arrow.names
            table = file.read(columns=None if columns is None else [name for name in columns if name in names])
    except (ValueError, OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"the manifest of {folder} is damaged ({error}); `femae data prepare` writes it again"
        ) from error
    if info.get("format") != FORMAT or info.get("version") != FORMAT_VERSION:
        raise DataError(f"{json_path} is not of format {FORMAT} version {FORMAT_VERSION}: prepare the data again")
    missing = [name for name in MANIFEST_SCHEMA.names if name not in names]
    if missing:
        raise DataError(f"{table_path} lacks the columns {', '.join(missing)}: prepare the data again")
    return Manifest(folder=folder, table=table, info=info)


def write_manifest(
    folder: Path,
    *,
    shards: Sequence[ShardFile],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    per_source: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Collect the shards' rows into the two manifest files; `per_source` has further entries per source.

    Returns the content of manifest.json. It is written last: without it a folder counts as unfinished.
    """
    counts = _SourceCounts()
    with (
        replacing(folder / "manifest.parquet") as partial,
        pq.ParquetWriter(partial, MANIFEST_SCHEMA, compression="zstd") as writer,
    ):
        for shard in shards:
            table = pq.read_table(folder / "shards" / shard.file, columns=_COLUMNS, partitioning=None)
            counts.add(table)
            columns: list[Any] = [pa.array([shard.file] * table.num_rows), pa.array(range(table.num_rows))]
            columns += [table.column(name) for name in _COLUMNS]
            writer.write_table(pa.Table.from_arrays(columns, names=MANIFEST_SCHEMA.names).cast(MANIFEST_SCHEMA))
    info = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "num_samples": sum(shard.num_rows for shard in shards),
        "emotions": list(EMOTIONS),
        "action_units": list(ACTION_UNITS),
        "settings": dict(settings),
        "versions": dict(versions),
        "sources": {name: {**counts.of(name), **per_source[name]} for name in sorted(per_source)},
        "shards": [
            {"file": s.file, "source": s.source, "num_rows": s.num_rows, "num_bytes": s.num_bytes, "sha256": s.sha256}
            for s in shards
        ],
    }
    write_bytes(folder / "README.md", _dataset_card(info).encode())
    write_bytes(
        folder / "manifest.json",
        (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"),
    )
    return info


class _SourceCounts:
    """Counts per source, accumulated shard by shard."""

    def __init__(self) -> None:
        self._groups: dict[str, set[str]] = {}
        self._texts: dict[str, dict[str, Counter[str]]] = {}
        self._labels: dict[str, npt.NDArray[np.float64]] = {}
        self._rows: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        for source in distinct(table, "source"):
            part = table.filter(pc.field("source") == source)
            self._rows[source] += part.num_rows
            self._groups.setdefault(source, set()).update(distinct(part, "group"))
            texts = self._texts.setdefault(source, {"splits": Counter(), "classes": Counter(), "framings": Counter()})
            for key, column in (("splits", "split"), ("classes", "class_name"), ("framings", "framing")):
                texts[key].update(_named(strings(part, column)))
            for prefix in ("", "au_"):
                mask, targets = vectors(part, f"{prefix}mask"), vectors(part, f"{prefix}targets")
                sums = np.stack([mask.sum(0), (mask & (targets >= 0.5)).sum(0), (targets * mask).sum(0)])
                total = self._labels.setdefault(f"{prefix}{source}", np.zeros_like(sums, np.float64))
                total += sums

    def of(self, source: str) -> dict[str, Any]:
        texts = self._texts.get(source, {})
        return {
            "num_samples": self._rows[source],
            "num_groups": len(self._groups.get(source, ())),
            **{key: dict(sorted(counter.items())) for key, counter in texts.items()},
            "labels": _label_counts(self._labels.get(source), EMOTIONS),
            "action_units": _label_counts(self._labels.get(f"au_{source}"), ACTION_UNITS),
        }


def _named(values: Iterable[str]) -> Iterable[str]:
    """The values, with a name for the empty one."""
    return (value or "(none)" for value in values)


def _label_counts(sums: npt.NDArray[np.float64] | None, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each label that is ever known: rows where it is known, rows where it is at least 0.5, sum of its targets."""
    if sums is None:
        return {}
    return {
        name: {"known": int(known), "positive": int(positive), "sum": round(float(total), 4)}
        for name, known, positive, total in zip(names, *sums, strict=True)
        if known
    }


def _dataset_card(info: Mapping[str, Any]) -> str:
    """A data set card: the location of the shards for `datasets.load_dataset`, and a table of counts."""
    head = (
        "---\nconfigs:\n- config_name: default\n  data_files: shards/*.parquet\n---\n# Face shards\n\n"
        "Made by `femae data prepare`; `datasets.load_dataset` opens this folder. Settings, counts and what was left "
        "out: manifest.json.\n\n| source | samples | groups | left out |\n|---|---|---|---|\n"
    )
    escape: Callable[[object], str] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")  # noqa: E731
    rows = [
        f"| {escape(name)} | {source['num_samples']} | {source['num_groups']} | {_num_left_out(source)} |\n"
        for name, source in info["sources"].items()
    ]
    return head + "".join(rows)


def _num_left_out(source: Mapping[str, Any]) -> int:
    """Number of samples left out by the reader and by prepare."""
    return sum(
        int(entry["count"]) for key in ("left_out", "left_out_by_reader") for entry in source.get(key, {}).values()
    )
