"""Faces per second of `femae data prepare`, of a plain loop, and of the detector alone.

    python benchmarks/prepare.py [--pictures 400] [--film CLIP] [--out benchmarks/results/prepare.md]

Pictures: one photograph (scikit-image's astronaut) with random crops, scales and brightness, 480 to 640 pixels a side,
as jpg files. The plain loop is a simple script: open, detect, crop, save, next. `alone` has the pixels in memory and
only detects faces: `every scale` like `predict` on a picture, `one face` like prepare (data/prepare/find_faces.py). All
use one detector thread per process; prepare's result includes reading of labels, hashing, quality measures and shards.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.prepare.find_faces import FaceFinder
from femae.data.prepare.pool import num_cores
from femae.data.prepare.run import PrepareSettings, Workers, prepare
from femae.data.samples import PictureFile, PictureRef, RawSample, Reading, VideoFrame
from femae.faces.crop import crop_face
from femae.faces.load import load_detector
from femae.video.pictures import read_picture
from femae.video.pyav import PyAVSource

Row = tuple[str, int, float, float]  # what, faces, seconds, seconds of processor


class ListReader:
    def __init__(self, references: dict[str, PictureRef]) -> None:
        self.references, self.reading = references, Reading(source="bench")

    def __iter__(self) -> Iterator[RawSample]:
        for key, picture in self.references.items():
            yield RawSample(key=key, picture=picture, group=key)


def make_pictures(folder: Path, *, count: int) -> list[Path]:
    """Write variants of one photograph as jpg files."""
    from skimage import data

    photo = Image.fromarray(data.astronaut()[:400, 40:440])
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        left, top = random.integers(0, 60, 2).tolist()
        side = int(random.integers(480, 641))
        cut = photo.crop((left, top, left + 340, top + 340)).resize((side, side), Image.Resampling.BICUBIC)
        lit = np.clip(np.asarray(cut, np.float32) * random.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray(lit).save(paths[-1], quality=92)
    return paths


def plain_loop(paths: list[Path], out: Path) -> int:
    detector, faces = load_detector(None, num_threads=1), 0
    for path in paths:
        image = read_picture(path)
        found = detector.detect(image[None])[0]
        for face in found[:1]:
            Image.fromarray(crop_face(image, face=face, size=140).image).save(out / f"{faces:05d}.jpg", quality=95)
            faces += 1
    return faces


def plain_film_loop(film: Path, out: Path) -> int:
    detector, faces = load_detector(None, num_threads=1), 0
    with PyAVSource(film, num_threads=1) as source:
        for frame in source:
            if frame.image is None:
                continue
            for face in detector.detect(frame.image[None])[0][:1]:
                crop = crop_face(frame.image, face=face, size=140).image
                Image.fromarray(crop).save(out / f"{faces:05d}.jpg", quality=95)
                faces += 1
    return faces


def cpu_seconds() -> float:
    """CPU seconds of this process and of finished workers, which depend little on other load."""
    return sum(os.times()[:4])


def timed(name: str, work: Callable[[], int], rows: list[Row]) -> None:
    started, cpu = time.perf_counter(), cpu_seconds()
    faces = work()
    rows.append((name, faces, time.perf_counter() - started, cpu_seconds() - cpu))
    print(f"{name}: {faces} faces, {rows[-1][2]:.1f} s, {rows[-1][3]:.1f} s of processor", flush=True)


def run_prepare(references: dict[str, PictureRef], out: Path, *, workers: int, shard_size: int) -> int:
    shutil.rmtree(out, ignore_errors=True)
    settings = PrepareSettings(shard_size=shard_size)
    result = prepare([ListReader(references)], out=out, settings=settings, workers=Workers(num=workers), quiet=True)
    return result.num_faces


def measure(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    rows: list[Row] = []
    workers = sorted({1, arguments.workers or num_cores()})
    paths = make_pictures(folder, count=arguments.pictures)
    images = [read_picture(path) for path in paths]
    finder = FaceFinder(PrepareSettings(), detector_path=None)
    detector = load_detector(None, num_threads=1)

    def find(image: npt.NDArray[np.uint8]) -> bool:
        return bool(finder.in_picture(image, box_xyxy=None, all_faces=False)[0])

    find(images[0])
    timed("pictures: detector alone, every scale", lambda: sum(bool(detector.detect(i[None])[0]) for i in images), rows)
    timed("pictures: detector alone, one face", lambda: sum(find(image) for image in images), rows)
    images.clear()
    (folder / "loop").mkdir()
    timed("pictures: plain loop", lambda: plain_loop(paths, folder / "loop"), rows)
    references: dict[str, PictureRef] = {path.name: PictureFile(path=path) for path in paths}
    for count in workers:
        out, size = folder / f"shards{count}", max(len(paths) // 8, 1)
        timed(
            f"pictures: prepare, {count} worker{'s' * (count > 1)}",
            lambda count=count, out=out, size=size: run_prepare(references, out, workers=count, shard_size=size),  # type: ignore[misc]
            rows,
        )
    if arguments.film:
        film = Path(arguments.film)
        with PyAVSource(film) as source:
            num_frames = sum(1 for _ in source)
        (folder / "film").mkdir()
        timed(f"film of {num_frames} frames: plain loop", lambda: plain_film_loop(film, folder / "film"), rows)
        frames: dict[str, PictureRef] = {f"#{n}": VideoFrame(path=film, frame=n) for n in range(1, num_frames + 1)}
        timed("film: prepare, 1 worker", lambda: run_prepare(frames, folder / "f", workers=1, shard_size=1024), rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--film")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(arguments, Path(name))
    lines = ["| what | faces | seconds | faces/s | faces per second of one processor |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {faces} | {seconds:.1f} | {faces / seconds:.1f} | {faces / cpu:.1f} |"
        for name, faces, seconds, cpu in rows
    ]
    lines += ["", f"{num_cores()} cores, {platform.machine()}, Python {platform.python_version()}."]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("# femae data prepare\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
