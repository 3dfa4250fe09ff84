"""Votes of annotators -> new shards with the same faces; the target of an emotion is the share of votes for it.

A face with fewer than `min_annotators` ballots is left out (or kept without a label). `Others` is not an emotion but
means that all six are absent, so a face with votes for Others only has six known zeros. `class_name` becomes the labels
that at least half of the annotators chose, joined by " + ", or "divided".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from femae.data.annotate.agreement import Agreement, measure_agreement
from femae.data.annotate.label_studio import CHOICES, Ballot, Ballots, read_label_studio
from femae.data.store.manifest import Manifest, ShardFile, file_sha256, read_manifest, write_bytes, write_manifest
from femae.data.store.shard_reader import ShardReader
from femae.data.store.shards import ShardWriter, shard_path
from femae.errors import DataError, OutputError
from femae.labels import EMOTIONS

__all__ = ["VotedShards", "import_label_studio"]

_ROWS_PER_SHARD = 1024
_TOO_FEW = "too few annotators"
_NOT_ANNOTATED = "not annotated"


@dataclass(frozen=True, kw_only=True, slots=True)
class VotedShards:
    """The result of an import."""

    folder: Path
    num_samples: int
    num_unknown: int  # faces of the export that are not in the shards
    ballots: Ballots
    agreement: Agreement


def import_label_studio(
    exports: list[Path],
    *,
    shards: Path,
    out: Path,
    min_annotators: int = 1,
    keep_unannotated: bool = False,
) -> VotedShards:
    """Read exports, write the voted shards, ballots.parquet, agreement.md and two csv tables into the new folder `out`.

    `keep_unannotated`: keep faces with too few ballots, without a label. Raises DataError when no ballot belongs to a
    face of `shards`, OutputError when `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty: voted shards go into a new folder")
    manifest = read_manifest(shards)
    ballots = read_label_studio(exports)
    votes: dict[tuple[str, str], list[Ballot]] = {}
    for ballot in ballots.ballots:
        votes.setdefault((ballot.source, ballot.key), []).append(ballot)
    known = set(zip(manifest.strings("source"), manifest.strings("key"), strict=True))
    unknown = [face for face in votes if face not in known]
    if len(unknown) == len(votes):
        what = f"no face of {shards} (e.g. {unknown[0][0]}: {unknown[0][1]})" if unknown else "no answer at all"
        raise DataError(f"the export holds {what}: give the shards that the project was made from")
    agreement = measure_agreement(ballots)
    out.mkdir(parents=True, exist_ok=True)
    written, left_out = _write_shards(manifest, votes, out=out, minimum=min_annotators, keep=keep_unannotated)
    _write_tables(ballots, agreement, out)
    settings = {**manifest.info["settings"], "labels": "votes of annotators", "min_annotators": min_annotators}
    write_bytes(out / "settings.json", (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())
    info = write_manifest(
        out, shards=written, settings=settings, versions=manifest.info["versions"], per_source=left_out
    )
    return VotedShards(
        folder=out,
        num_samples=info["num_samples"],
        num_unknown=len(unknown),
        ballots=ballots,
        agreement=agreement,
    )


def _write_shards(
    manifest: Manifest, votes: dict[tuple[str, str], list[Ballot]], *, out: Path, minimum: int, keep: bool
) -> tuple[list[ShardFile], dict[str, dict[str, Any]]]:
    """Copy rows with new labels, source by source; returns the shards and per source what was left out."""
    shards: list[ShardFile] = []
    account: dict[str, dict[str, Any]] = {}
    buffer: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}

    def flush() -> None:
        if buffer:
            source = buffer[0]["source"]
            numbers[source] = numbers.get(source, -1) + 1
            shards.append(_write_shard(buffer, out=out, source=source, number=numbers[source]))
            buffer.clear()

    for row in ShardReader(manifest).rows():
        ballots = votes.get((row["source"], row["key"]), [])
        entry = account.setdefault(row["source"], {"num_read": 0, "num_left_out": 0, "left_out": {}})
        entry["num_read"] += 1
        has_enough = len(ballots) >= max(minimum, 1)
        if not has_enough and not keep:
            entry["num_left_out"] += 1
            cause = entry["left_out"].setdefault(_TOO_FEW if ballots else _NOT_ANNOTATED, {"count": 0, "examples": []})
            cause["count"] += 1
            cause["examples"] = [*cause["examples"], row["key"]][:5]
            continue
        if buffer and (buffer[0]["source"] != row["source"] or len(buffer) >= _ROWS_PER_SHARD):
            flush()
        buffer.append({**row, **_labels(ballots if has_enough else [])})
    flush()
    return shards, account


def _write_shard(rows: Sequence[dict[str, Any]], *, out: Path, source: str, number: int) -> ShardFile:
    path = shard_path(out, source=source, number=number)
    with ShardWriter(path=path) as writer:
        for row in rows:
            writer.add_row(row)
        writer.commit({"source": source, "number": number, "num_rows": len(rows), "left_out": {}})
    return ShardFile(
        file=path.name,
        source=source,
        num_rows=len(rows),
        num_bytes=path.stat().st_size,
        sha256=file_sha256(path),
    )


def _labels(ballots: Sequence[Ballot]) -> dict[str, Any]:
    """The label columns of one face; all unknown without ballots."""
    if not ballots:
        return {"targets": [0.0] * len(EMOTIONS), "mask": [False] * len(EMOTIONS), "class_name": ""}
    shares = {name: sum(name in ballot.choices for ballot in ballots) / len(ballots) for name in CHOICES}
    names = [name for name in CHOICES if shares[name] >= 0.5]
    return {
        "targets": [shares[emotion.capitalize()] for emotion in EMOTIONS],
        "mask": [True] * len(EMOTIONS),
        "class_name": " + ".join(names) or "divided",
    }


def _write_tables(ballots: Ballots, agreement: Agreement, out: Path) -> None:
    """Write ballots.parquet (one row per annotator and face), agreement.csv, annotators.csv, agreement.md."""
    rows = [
        {
            "source": ballot.source,
            "key": ballot.key,
            "annotator": ballot.annotator,
            **{name.lower(): name in ballot.choices for name in CHOICES},
            "lead_time_s": ballot.lead_time_s,
            "when": ballot.when,
        }
        for ballot in ballots.ballots
    ]
    columns: dict[str, pa.DataType] = {
        **{name: pa.string() for name in ("source", "key", "annotator")},
        **{name.lower(): pa.bool_() for name in CHOICES},
        "lead_time_s": pa.float64(),
        "when": pa.string(),
    }
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), out / "ballots.parquet")
    pa.csv.write_csv(pa.Table.from_pylist(agreement.label_rows()), out / "agreement.csv")
    pa.csv.write_csv(pa.Table.from_pylist(agreement.annotator_rows()), out / "annotators.csv")
    notes = "".join(f"- {cause}: {count}\n" for cause, count in ballots.left_out.items())
    text = agreement.markdown() + (f"\n## No votes\n\n{notes}" if notes else "")
    (out / "agreement.md").write_text(text, encoding="utf-8")
