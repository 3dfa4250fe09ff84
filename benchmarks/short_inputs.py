"""Frames per second of `femae predict` on many short films and on the same frames as one film, including the start.

    python benchmarks/short_inputs.py --film FILM [--clips 192] [--runs 3]

The film is divided into clips of one second (25 frames), which are encoded again, and one film is made of the same
pictures. Both run in alternation, each in a separate process; medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np

from femae.video.pyav import PyAVSource

FRAMES = 25  # of a clip


def write(path: Path, pictures: list[np.ndarray]) -> None:
    """Write a film, H.264 with 25 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def seconds(source: Path, out: Path) -> float:
    """Time of the whole command."""
    command = [sys.executable, "-m", "femae", "predict", str(source), "--out", str(out), "--overwrite", "--quiet"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=192)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with PyAVSource(args.film) as film:
        shown = [frame.image for frame in film if frame.image is not None]
    pictures = list(islice(cycle(shown), args.clips * FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        clips, one = Path(folder) / "clips", Path(folder) / "one.mp4"
        clips.mkdir()
        for number in range(args.clips):
            write(clips / f"{number:04d}.mp4", pictures[number * FRAMES : (number + 1) * FRAMES])
        write(one, pictures)
        times: dict[str, list[float]] = {"one film": [], "clips": []}
        for run in range(args.runs):
            for name, source in (("one film", one), ("clips", clips)):
                times[name].append(seconds(source, Path(folder) / f"out-{name}-{run}"))
    print("| | seconds | frames/s |\n|---|---:|---:|")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.1f} | {len(pictures) / median:.0f} |")
    ratio = statistics.median(times["one film"]) / statistics.median(times["clips"])
    print(f"\n{args.clips} clips of {FRAMES} frames; clips / one film, frames per second: {ratio:.2f}")


if __name__ == "__main__":
    main()
