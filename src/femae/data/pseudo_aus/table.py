"""The table of action-unit pseudo-labels: its schema, writer and reader.

One row is one picture of a folder of shards, identified by source and key. Null: the unit is unknown, because no rule
of `arkit_aus.AU_RULES` gives it, it is unreliable in this picture, or no face was found. Pseudo-labels are predictions
of another model, not annotations by FACS coders.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from femae.data.store.manifest import Manifest, distinct, numbers, strings
from femae.data.store.shards import ACTION_UNITS
from femae.errors import DataError, OutputError
from femae.files import replacing

__all__ = ["PSEUDO_AU_SCHEMA", "PseudoAus", "read_pseudo_aus", "read_pseudo_note", "write_pseudo_aus"]

_NOTE_KEY: Final = b"femae"
_NUM_BLENDSHAPES: Final = 52
_NUM_NAMED: Final = 3  # missing pictures or columns named in an error
_FIELDS: Final[list[Any]] = [
    pa.field("source", pa.string(), nullable=False),  # data set
    pa.field("key", pa.string(), nullable=False),  # unique within the source
    pa.field("split", pa.string(), nullable=False),  # train, val, test of the shards, or empty
    pa.field("presence", pa.float32(), nullable=False),  # 0..1, the landmark network's confidence in a face
    *(pa.field(name, pa.float32()) for name in ACTION_UNITS),  # 0..1; null: unknown
    pa.field(
        "blendshapes", pa.list_(pa.float32(), _NUM_BLENDSHAPES)
    ),  # coefficients from which the units were computed
]
PSEUDO_AU_SCHEMA: Final = pa.schema(_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoAus:
    """Measurements of N pictures."""

    presence: npt.NDArray[np.float32]  # f32[N] 0..1
    blendshapes: npt.NDArray[np.float32]  # f32[N, 52] 0..1
    au_targets: npt.NDArray[np.float32]  # f32[N, 46] 0..1
    au_mask: npt.NDArray[np.bool_]  # bool[N, 46]; True: known


def write_pseudo_aus(path: Path, *, manifest: Manifest, measured: PseudoAus, note: Mapping[str, Any]) -> None:
    """Write the table for the rows of a manifest, in its order, atomically.

    `note`: JSON values kept in the file's metadata. Raises OutputError when the file cannot be written.
    """
    columns: list[Any] = [pa.array(manifest.strings(name), pa.string()) for name in ("source", "key", "split")]
    columns.append(pa.array(measured.presence.astype(np.float32)))
    for unit in range(len(ACTION_UNITS)):
        columns.append(pa.array(measured.au_targets[:, unit].astype(np.float32), mask=~measured.au_mask[:, unit]))
    flat: Any = pa.array(measured.blendshapes.astype(np.float32).ravel())
    columns.append(pa.FixedSizeListArray.from_arrays(flat, _NUM_BLENDSHAPES))
    schema = PSEUDO_AU_SCHEMA.with_metadata({_NOTE_KEY: json.dumps(note, sort_keys=True).encode()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            pq.write_table(pa.Table.from_arrays(columns, schema=schema), partial, compression="zstd")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error


def read_pseudo_note(path: Path) -> dict[str, Any]:
    """The note of a table: settings, versions and counts. Raises DataError when it is not a table of pseudo-labels."""
    note: dict[str, Any] = json.loads((_read(path).schema.metadata or {}).get(_NOTE_KEY, b"{}"))
    return note


def read_pseudo_aus(
    path: Path, manifest: Manifest, *, sources: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(au_targets f32[N, 46] 0..1, au_mask bool[N, 46]) of a manifest's rows, in the order of ACTION_UNITS.

    An unknown unit has the mask False and the target 0. Every row must be in the table; only rows of a source that the
    table lacks entirely are unknown. `sources` must be in the table (default: at least one of the manifest's). Further
    rows of the table are ignored. Raises DataError that names what is missing, duplicated or out of range.
    """
    table = _read(path)
    present = set(distinct(table, "source"))
    needed = set(manifest.strings("source"))
    absent = [name for name in sources or () if name not in present]
    if absent or (needed and not needed & present):
        lacking = ", ".join(absent or sorted(needed))
        raise DataError(
            f"{path} has no pictures of {lacking}, only of {', '.join(sorted(present)) or 'nothing'}: make "
            "pseudo-labels of these shards with `femae data pseudo-au`"
        )
    row_of = _index_rows(path, table)
    targets = np.stack([numbers(table, name) for name in ACTION_UNITS], axis=1).astype(np.float32)
    invalid = ~(np.isnan(targets) | ((targets >= 0) & (targets <= 1)))
    if invalid.any():
        units = [name for unit, name in enumerate(ACTION_UNITS) if invalid[:, unit].any()]
        raise DataError(f"{path} has values outside 0 to 1 in {', '.join(units)}: make it again")
    names = list(zip(manifest.strings("source"), manifest.strings("key"), strict=True))
    missing = [name for name in names if name[0] in present and name not in row_of]
    if missing:
        some = ", ".join("/".join(name) for name in missing[:_NUM_NAMED])
        raise DataError(
            f"{path} lacks {len(missing):,} of {len(names):,} pictures of {manifest.folder} (e.g. {some}): it was made "
            "from other shards; run `femae data pseudo-au` on these"
        )
    rows = np.array([row_of.get(name, -1) for name in names], np.int64)
    au_targets = np.full((len(names), len(ACTION_UNITS)), np.nan, np.float32)
    au_targets[rows >= 0] = targets[rows[rows >= 0]]
    au_mask = ~np.isnan(au_targets)
    return np.where(au_mask, au_targets, np.float32(0)), au_mask


def _index_rows(path: Path, table: pa.Table) -> dict[tuple[str, str], int]:
    """(source, key) -> row. Raises DataError for repeated pictures."""
    names = list(zip(strings(table, "source"), strings(table, "key"), strict=True))
    row_of = {name: row for row, name in enumerate(names)}
    if len(row_of) < len(names):
        raise DataError(f"{path} has {len(names) - len(row_of):,} pictures more than once: make it again")
    return row_of


def _read(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: make it with `femae data pseudo-au SHARDS --out {path}`") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a complete Parquet file ({error}): make it again") from error
    missing = [name for name in ("source", "key", "presence", *ACTION_UNITS) if name not in table.column_names]
    if missing:
        some = ", ".join(missing[:_NUM_NAMED])
        raise DataError(
            f"{path} is not a table of pseudo-labels: it lacks {some}{', ...' if len(missing) > _NUM_NAMED else ''}; "
            "`femae data pseudo-au` makes one"
        )
    return table
