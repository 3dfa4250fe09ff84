"""Start of a pretraining run on very many faces: time and memory until the first step knows its rows, by rows.

    python benchmarks/manifest.py --out benchmarks/results/manifest.md

Manifests of synthetic rows stand in for folders of shards: 10,000 faces a shard, keys of their own, every column of the
schema. A process of its own then does what `femae train` does before it reads a picture: reads the manifest, chooses
the training rows, sorts them into units of reading and draws the order of the first epoch. Memory is what that adds to
a process that has imported everything.
"""

import argparse
import json
import platform
import resource
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
    with pq.ParquetWriter(folder / "manifest.parquet", MANIFEST_SCHEMA, compression="zstd") as writer:
        for first in range(0, num_rows, CHUNK):
            count = min(CHUNK, num_rows - first)
            arrays = [column(field, first, count) for field in MANIFEST_SCHEMA]
            writer.write_table(pa.Table.from_arrays(arrays, schema=MANIFEST_SCHEMA))
    about = {"format": FORMAT, "version": FORMAT_VERSION, "num_samples": num_rows, "shards": []}
    (folder / "manifest.json").write_text(json.dumps(about))


def start(folder: Path) -> dict[str, float]:
    """What a run does before its first picture."""
    from femae.config.train import PretrainConfig
    from femae.training.loader.block_reader import BlockReader
    from femae.training.loader.sampler import RowStream
    from femae.training.loader.sets import load_sets

    config = PretrainConfig(data={"folders": (folder,), "loader": "stream"})
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    train, _ = load_sets(config.data, config.model, labels=False)
    stream = RowStream(len(train), batch_size=4096, seed=0, blocks=train.blocks())
    reader = BlockReader(train, config.model)
    assert len(np.unique(stream.rows(0))) == 4096 and reader is not None
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    now = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), peak)
    return {"seconds": seconds, "peak": (peak - before) / 1024, "kept": (now - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here; default: only print it")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 2_000_000, 10_000_000])
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(start(arguments.one)))
        return
    lines = ["| rows | seconds to the first step's rows | memory kept, MB | at most, MB |", "|---:|---:|---:|---:|"]
    for num_rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), num_rows)
            command = [sys.executable, __file__, "--one", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        lines.append(f"| {num_rows:,} | {found['seconds']:.1f} | {found['kept']:,.0f} | {found['peak']:,.0f} |")
        print(lines[-1], flush=True)
    about = ["# Start on many faces", ""]
    about += [f"femae {__version__}, Python {platform.python_version()}, {date.today()}; other work ran beside.", ""]
    about += [" ".join(__doc__.split("\n\n")[2].split()), ""]
    if arguments.out:
        arguments.out.write_text("\n".join(about + lines) + "\n")


if __name__ == "__main__":
    main()
