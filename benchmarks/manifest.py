"""Start of a training run on very many faces: time and memory until the rows of the first steps are known.

    python benchmarks/manifest.py --out benchmarks/results/manifest.md

Manifests of synthetic rows represent folders of shards: 10,000 faces per shard, every column of the schema, one face in
a thousand for validation, one of six emotions for every face. A separate process then does what `femae train` does
before it reads a picture: it reads the manifest, selects the rows, divides them into blocks, and computes the rows and
their locations for 50 steps of 4,096 spread over the first epoch. Memory is the growth of a process that has imported
everything and has done the same for a thousand rows; bytes a row is the growth of the memory kept since the smallest
set.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from femae import __version__
from femae.data.store.manifest import FORMAT, FORMAT_VERSION, MANIFEST_SCHEMA

CHUNK = 100_000
PER_SHARD = 10_000


def column(field: Any, first: int, count: int) -> Any:
    """One column of rows first..first+count-1."""
    rows = np.arange(first, first + count)
    if field.name == "shard":
        return pa.array(np.char.add("faces-", (rows // PER_SHARD).astype(str)).tolist())
    if field.name == "row":
        return pa.array(rows % PER_SHARD, pa.int32())
    if field.name == "targets":
        flat = pa.array(np.eye(6, dtype=np.float32)[rows % 6].ravel())
        return pa.FixedSizeListArray.from_arrays(flat, 6)
    if field.name == "mask":
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ones(count * 6, bool)), 6)
    if field.name in ("key", "group", "sha256"):
        return pa.array([f"{field.name}/{row:012d}.jpg" for row in rows.tolist()])
    if field.name == "split":
        return pa.array(["val" if row % 1000 == 0 else "train" for row in rows.tolist()])
    if pa.types.is_string(field.type):
        return pa.array(["faces"] * count)
    if pa.types.is_fixed_size_list(field.type):
        flat = pa.array(np.zeros(count * field.type.list_size), pa.float32()).cast(field.type.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, field.type.list_size)
    if pa.types.is_list(field.type) or field.nullable:
        return pa.nulls(count, field.type)
    return pa.array(np.ones(count), pa.float64()).cast(field.type)


def write(folder: Path, num_rows: int) -> None:
    first_rows = {field.name: column(field, 0, min(CHUNK, num_rows)) for field in MANIFEST_SCHEMA}
    with pq.ParquetWriter(folder / "manifest.parquet", MANIFEST_SCHEMA, compression="zstd") as writer:
        for first in range(0, num_rows, CHUNK):  # all chunks are equal except for `shard` and `row`
            count = min(CHUNK, num_rows - first)
            arrays = {name: values.slice(0, count) for name, values in first_rows.items()}
            arrays |= {name: column(MANIFEST_SCHEMA.field(name), first, count) for name in ("shard", "row")}
            writer.write_table(pa.Table.from_arrays(list(arrays.values()), schema=MANIFEST_SCHEMA))
    about = {"format": FORMAT, "version": FORMAT_VERSION, "num_samples": num_rows, "shards": []}
    (folder / "manifest.json").write_text(json.dumps(about))


def begin(folder: Path, *, labels: bool) -> Any:
    """Do what a run does before its first picture, and the sampling of 50 steps; returns the objects a run keeps."""
    from femae.config.train import PretrainConfig
    from femae.training.loader.sampler import RowStream
    from femae.training.loader.sets import load_sets

    config = PretrainConfig(data={"folders": (folder,), "loader": "stream"})
    sets = load_sets(config.data, config.model, labels=labels)
    train = sets[0]
    stream = RowStream(len(train), batch_size=4096, seed=0, blocks=train.blocks())
    for step in np.linspace(0, len(train) // 4096, 50).astype(int).tolist():
        rows = stream.rows(step)
        assert len(rows) == 4096
        for reader, _, positions in train.find(rows):
            reader.runs.find(positions)
    return sets, stream


def memory(name: str) -> float:
    """VmRSS or VmHWM of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def start(folder: Path, small: Path, *, labels: bool) -> dict[str, float]:
    begin(small, labels=labels)
    before, started = memory("VmRSS"), time.perf_counter()
    held = begin(folder, labels=labels)
    seconds = time.perf_counter() - started
    assert held
    return {"seconds": seconds, "peak": memory("VmHWM") - before, "kept": memory("VmRSS") - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here; default: only print it")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 2_000_000, 10_000_000])
    parser.add_argument("--one", nargs=3, metavar=("FOLDER", "SMALL", "LABELS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, small, labels = arguments.one
        print(json.dumps(start(Path(folder), Path(small), labels=labels == "labels")))
        return
    lines = [
        "| stage | rows | seconds | memory kept, MB | at most, MB | bytes a row |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    kept: dict[str, tuple[int, float]] = {}
    with tempfile.TemporaryDirectory() as small:
        write(Path(small), 1000)
        for num_rows in arguments.rows:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), num_rows)
                for stage, labels in (("pretraining", ""), ("emotions", "labels")):
                    command = [sys.executable, __file__, "--one", folder, small, labels]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found = json.loads(done.stdout)
                    first = kept.setdefault(stage, (num_rows, found["kept"]))
                    grown = (found["kept"] - first[1]) * 2**20 / max(num_rows - first[0], 1)
                    row = f"{grown:.1f}" if num_rows > first[0] else "-"
                    lines.append(
                        f"| {stage} | {num_rows:,} | {found['seconds']:.1f} | {found['kept']:,.0f} | "
                        f"{found['peak']:,.0f} | {row} |"
                    )
                    print(lines[-1], flush=True)
    about = ["# Start on many faces", ""]
    about += [f"femae {__version__}, Python {platform.python_version()}, {date.today()}; other work ran beside.", ""]
    about += [" ".join(__doc__.split("\n\n")[2].split()), ""]
    if arguments.out:
        arguments.out.write_text("\n".join(about + lines) + "\n")


if __name__ == "__main__":
    main()
