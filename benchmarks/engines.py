"""Milliseconds per crop of model files, by engine, batch size and precision, on one thread.

    python benchmarks/engines.py model.onnx model.int8.onnx model.xml model.safetensors

Engines alternate in each round, so that other load on the machine affects all of them; the median round counts.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from femae.engine.load import engines_for, load_engine
from femae.engine.spec import Engine
from femae.export.check import noise_crops

BATCHES = (1, 8, 64)


def time_engine(engine: Engine, crops: np.ndarray, calls: int) -> float:
    """Milliseconds per crop over some calls."""
    start = time.perf_counter()
    for _ in range(calls):
        engine.run(crops)
    return (time.perf_counter() - start) / calls / len(crops) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    engines = {
        (file.name, name): load_engine(file, engine=name) for file in arguments.files for name in engines_for(file)
    }
    times: dict[tuple[str, str, int], list[float]] = {}
    for round_number in range(arguments.rounds + 1):
        for (file, name), engine in engines.items():
            for batch in BATCHES:
                crops = noise_crops(size=engine.spec.image_size, count=batch)
                taken = time_engine(engine, crops, calls=max(1, 16 // batch))
                if round_number:  # the first one warms up
                    times.setdefault((file, name, batch), []).append(taken)
    print("| file | engine | " + " | ".join(f"batch {batch}" for batch in BATCHES) + " |")
    print("|---|---|" + "---|" * len(BATCHES))
    for file, name in engines:
        cells = [f"{np.median(times[file, name, batch]):.2f}" for batch in BATCHES]
        print(f"| {file} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
