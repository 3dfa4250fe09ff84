"""Start-up time: `femae predict` on one picture against the imports of its required packages.

    python benchmarks/start.py [--runs 7]

Each in a separate process, in alternation; median of the runs. The picture is scikit-image's astronaut.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from skimage import data

NEEDED = "numpy, av, onnxruntime, pyarrow, pydantic, PIL.Image"


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "astronaut.png"
        Image.fromarray(data.astronaut()).save(picture)
        commands = {
            "python": [sys.executable, "-c", ""],
            f"import {NEEDED}": [sys.executable, "-c", f"import {NEEDED}"],
            "femae predict astronaut.png": [sys.executable, "-m", "femae", "predict", str(picture), "--out", folder],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(seconds(command))
    for name, values in times.items():
        print(f"{name}: {statistics.median(values):.2f} s (least {min(values):.2f})")
    _, imports, predict = (min(values) for values in times.values())
    print(f"predict / imports, least times: {predict / imports:.2f}")


if __name__ == "__main__":
    main()
