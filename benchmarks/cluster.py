"""Frames per second of `femae predict` in one process with N threads, and on `--cluster local` with N one-core workers.

python benchmarks/cluster.py FILM ... --short FILM [--rounds 3]
Both process the same films, in alternation. "whole command" is the time of the process; "work" excludes the start-up,
measured by a run on a film of one second, as in long runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def run(inputs: list[str], options: list[str]) -> tuple[float, int, dict[str, bytes]]:
    """Run one command; returns (seconds, frames, content of each table)."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "femae", "predict", *inputs, "--out", folder, "--quiet", *options]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        entries = json.loads((Path(folder) / "run.json").read_text())["inputs"]
        tables = {path.name: path.read_bytes() for path in Path(folder).glob("*.csv")}
        return seconds, sum(entry["num_frames"] for entry in entries), tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="+")
    parser.add_argument("--short", required=True, help="a film of a second, for the time to start")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    kinds = {
        f"one process, {cores} threads": [],
        f"--cluster local, {cores} workers of one core": ["--cluster", "local"],
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    starts: dict[str, list[float]] = {kind: [] for kind in kinds}
    tables, frames = [], 0
    for _ in range(args.rounds):
        for kind, options in kinds.items():
            spent, frames, found = run(args.films, options)
            seconds[kind].append(spent)
            tables.append(found)
            starts[kind].append(run([args.short], options)[0])
    assert all(found == tables[0] for found in tables), "the tables differ"
    print(f"{len(args.films)} films, {frames} frames, {cores} cores, medians of {args.rounds} rounds, equal tables\n")
    print("| | whole command, frames/s | to start, s | work, frames/s |\n|---|---:|---:|---:|")
    for kind in kinds:
        whole, start = np.median(seconds[kind]), np.median(starts[kind])
        print(f"| {kind} | {frames / whole:.0f} | {start:.1f} | {frames / (whole - start):.0f} |")


if __name__ == "__main__":
    main()
