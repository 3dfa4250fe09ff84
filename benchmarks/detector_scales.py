"""The measurements behind the constants of femae.faces.scales: accuracy, speed and memory by face size.

    python benchmarks/detector_scales.py --data FOLDER_WITH_videos [--out benchmarks/results/detector_scales.md]

Times are median CPU milliseconds of one thread, which are valid on a busy machine too. These clips have no true
landmarks: the error is the distance to the median over the sizes 80 to 200, the trembling (jitter) the distance of a
frame's landmarks to the mean of its neighbours'; both in distances between the eyes.
"""

import argparse
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnxruntime
import psutil

from femae import __version__
from femae.faces.load import load_detector
from femae.faces.onnx_net import open_net
from femae.faces.pixels import resize_rgb
from femae.faces.retinaface import RetinaFace, builtin_weights
from femae.faces.scales import ScaledDetector, choose_long_side, search_long_sides
from femae.types import Face

Picture = npt.NDArray[np.uint8]
Rows = list[list[Any]]

LARGE_FACES = (
    "man_smile.mp4 face_then_noface_vfr_hevc.mov grid_bbaf2n.mpg grid_lrwp9a.mpg talking_face_franck.mp4 "
    "webcam_man_1.mp4 woman_phone_profile.mp4 headpose_man.gif"
).split()
SEEN_PX = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 200, 256, 320, 400)
REFERENCE_PX = (80, 96, 112, 128, 160, 200)
FILMED_PX, ENLARGED = (12, 16, 20, 24, 32, 40, 56), (1.0, 1.5, 2.0, 3.0)


def read(path: Path, *, count: int, step: int | None = None) -> list[Picture]:
    """`count` pictures of a film: every `step`-th from the start, or evenly over all of it."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return pictures[:: step or max(1, len(pictures) // count)][:count]


def cpu_ms(work: Callable[..., object], *arguments: object, repeats: int = 15) -> float:
    """Median CPU milliseconds of this thread."""
    work(*arguments)
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        work(*arguments)
        times.append(time.thread_time() - started)
    return statistics.median(times) * 1e3


def height_of(face: Face) -> float:
    return float(face.box_xyxy[3] - face.box_xyxy[1])


def largest(faces: Iterable[Face]) -> Face | None:
    return max(faces, key=height_of, default=None)


def detect_at(detector: RetinaFace, image: Picture, *, scale: float) -> Face | None:
    """The largest face of a picture that is found at a scale, in pixels of the picture."""
    height, width = image.shape[:2]
    small = resize_rgb(image, width=round(width * scale), height=round(height * scale))
    face = largest(detector.detect(small[None])[0])
    if face is None:
        return None
    back = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
    return Face(box_xyxy=face.box_xyxy * np.tile(back, 2), landmarks=face.landmarks * back, score=face.score)


def jitter(track: Sequence[Face | None], *, unit: float) -> list[float]:
    """Mean distance of each frame's landmarks to the mean of its neighbours', in units."""
    result = []
    for before, face, after in zip(track, track[1:], track[2:], strict=False):
        if before is not None and face is not None and after is not None:
            move = face.landmarks - (before.landmarks + after.landmarks) / 2
            result.append(float(np.linalg.norm(move, axis=1).mean() / unit))
    return result


def size_table(detector: RetinaFace, folder: Path, *, count: int) -> Rows:
    """Rows: size, found above 0.6 and 0.9, median score, error mean and 95 %, jitter."""
    scores, errors, jitters = (defaultdict[int, list[float]](list) for _ in range(3))
    for name in LARGE_FACES:
        pictures = read(folder / name, count=count, step=1)
        faces = [largest(detector.detect(picture[None])[0]) for picture in pictures[::6]]
        height = statistics.median(height_of(face) for face in faces if face is not None)
        tracks = {
            size: [detect_at(detector, picture, scale=size / height) for picture in pictures]
            for size in SEEN_PX
            if size / height <= 1.8 and max(pictures[0].shape) * size / height <= 1300
        }
        unit = 0.42 * height  # of the boxes' height, the distance between the eyes of a face seen from the front
        for number in range(len(pictures)):
            known = [tracks[size][number] for size in REFERENCE_PX if size in tracks]
            reference = np.median([face.landmarks for face in known if face is not None], axis=0)
            for size, track in tracks.items():
                face = track[number]
                scores[size].append(0.0 if face is None else face.score)
                if face is not None:
                    errors[size].append(float(np.linalg.norm(face.landmarks - reference, axis=1).mean() / unit))
        for size, track in tracks.items():
            jitters[size] += jitter(track, unit=unit)
    rows: Rows = []
    for size in SEEN_PX:
        found = [float(np.mean(np.array(scores[size]) > level)) for level in (0.6, 0.9)]
        error = errors[size] or [np.nan]
        rows.append([
            size, *(f"{share:.2f}" for share in found), f"{statistics.median(scores[size]):.3f}",
            f"{np.mean(error):.3f}", f"{np.percentile(error, 95):.3f}", f"{np.mean(jitters[size] or [np.nan]):.4f}",
        ])  # fmt: skip
    return rows


def enlarging_table(detector: RetinaFace, folder: Path, *, count: int) -> Rows:
    """Rows: size of the face in the film, then for each enlargement the share found above 0.6."""
    found = defaultdict[tuple[int, float], list[bool]](list)
    for name in LARGE_FACES:
        pictures = read(folder / name, count=count, step=3)
        face = largest(detector.detect(pictures[0][None])[0])
        assert face is not None
        for picture in pictures:
            height, width = picture.shape[:2]
            for size in FILMED_PX:
                scale = size / height_of(face)
                filmed = resize_rgb(picture, width=round(width * scale), height=round(height * scale))
                for factor in ENLARGED:
                    seen = detect_at(detector, filmed, scale=factor)
                    found[size, factor].append(seen is not None and seen.score > 0.6)
    return [[size, *(f"{np.mean(found[size, factor]):.2f}" for factor in ENLARGED)] for size in FILMED_PX]


def track_face(
    detector: ScaledDetector, pictures: list[Picture], way: str, first: Face
) -> tuple[list[Face | None], float]:
    """One person's face in each picture, and the median CPU milliseconds per detection."""
    height, width = pictures[0].shape[:2]
    long_side = choose_long_side(width, height, smallest_face_px=height_of(first))
    track: list[Face | None] = []
    times, last = [], first
    for picture in pictures:
        started = time.thread_time()
        if way == "region":
            faces = detector.detect_near(picture, boxes_xyxy=last.box_xyxy[None])
        else:
            faces = detector.detect([picture], long_side=long_side if way == "one scale" else None)[0]
        times.append((time.thread_time() - started) * 1e3)
        track.append(min(faces, key=lambda face, box=last.box_xyxy: np.abs(face.box_xyxy - box).sum(), default=None))
        last = track[-1] or last
    return track, statistics.median(times)


def ways_table(detector: ScaledDetector, folder: Path, *, count: int) -> Rows:
    """Rows: clip, face, and for search, one scale and regions: frames without the face, distance, jitter, ms."""
    rows: Rows = []
    for name in (*LARGE_FACES, "asl_small_face_help.mkv", "carphone_qcif.mp4", "three_people_walking.gif"):
        pictures = read(folder / name, count=count, step=1)
        height, width = pictures[0].shape[:2]
        first = largest(detector.detect(pictures[:1])[0])
        assert first is not None
        unit = 0.42 * height_of(first)
        pixels = {
            "search": search_long_sides(width, height),
            "one scale": choose_long_side(width, height, smallest_face_px=height_of(first)),
            "region": 246,
        }
        searched, _ = track_face(detector, pictures, "search", first)
        for way, seen in pixels.items():
            track, milliseconds = track_face(detector, pictures, way, first)
            moves = [
                float(np.linalg.norm(face.landmarks - truth.landmarks, axis=1).mean() / unit)
                for face, truth in zip(track, searched, strict=True)
                if face is not None and truth is not None
            ]
            without, shake = sum(face is None for face in track), np.mean(jitter(track, unit=unit))
            numbers = [without, f"{np.mean(moves):.3f}", f"{shake:.4f}", f"{milliseconds:.1f}"]
            rows.append([name, f"{width}x{height}", round(height_of(first)), way, seen, *numbers])
    return rows


def speed_table(folder: Path) -> Rows:
    """Rows: size before the network, ms of scaling from 640x360, of the network alone, and of detection in all."""
    net = open_net(builtin_weights(), num_threads=1)
    detector = RetinaFace(net, multiple=1)
    picture = read(folder / "man_smile.mp4", count=1)[0]
    rows: Rows = []
    sizes = "160x90 298x168 320x180 448x252 596x336 640x360 1024x576 1280x720 2560x1440"
    for width, height in (map(int, size.split("x")) for size in sizes.split()):
        scale = partial(resize_rgb, picture, width=width, height=height)
        feed = {net.input_name: np.zeros((1, 3, height, width), np.float32)}
        repeats = 15 if width <= 640 else 5
        times = (
            cpu_ms(scale, repeats=repeats),
            cpu_ms(net.session.run, None, feed, repeats=repeats),
            cpu_ms(detector.detect, scale()[None], repeats=repeats),
        )
        rows.append([f"{width}x{height}", *(f"{one:.2f}" for one in times)])
    for batch in (4, 8):
        feed = {net.input_name: np.zeros((batch, 3, 360, 640), np.float32)}
        each = cpu_ms(net.session.run, None, feed, repeats=5) / batch
        rows.append([f"640x360, {batch} pictures at once, each", "", f"{each:.2f}", ""])
    return rows


def memory_rows() -> Rows:
    """Resident megabytes after pictures of many sizes."""
    process, rng = psutil.Process(), np.random.default_rng(0)
    detector = load_detector()
    rows: Rows = [["detector opened", round(process.memory_info().rss / 1e6)]]

    def detect(height: int, width: int, note: str | None = None, long_side: int | None = None) -> None:
        detector.detect([np.zeros((height, width, 3), np.uint8)], long_side=long_side)
        if note:
            rows.append([note, round(process.memory_info().rss / 1e6)])

    detect(360, 640, "one look at 640x360", long_side=640)
    detect(360, 640, "search of 640x360")
    for _ in range(100):
        height, width = (int(side) for side in rng.integers(40, 640, 2))
        detect(height, width, long_side=max(height, width))
    detect(360, 640, "100 sizes up to 640x640", long_side=640)
    detect(1080, 1920, "search of 1920x1080 (2560x1440)")
    detect(3000, 4000, "search of 4000x3000 (2560x1920)")
    for _ in range(100):
        height, width = (int(side) for side in rng.integers(40, 640, 2))
        detect(height, width, long_side=max(height, width))
    detect(360, 640, "100 more sizes up to 640x640", long_side=640)
    return rows


def table(title: str, head: Sequence[str], rows: Rows) -> list[str]:
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds videos/")
    parser.add_argument("--count", type=int, default=30, help="frames of each clip")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder, count = arguments.data / "videos", arguments.count
    memory = memory_rows()  # first, while the process is small
    low = RetinaFace(open_net(builtin_weights(), num_threads=1), score_threshold=0.3, multiple=1)
    lines = [
        "# Scales of the built-in detector",
        "",
        f"`python benchmarks/detector_scales.py --count {count}`, {date.today()}, femae {__version__}, "
        f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, one thread.",
        "",
        *(__doc__ or "").split("\n\n")[-1].strip().splitlines(),
        "",
        *table(
            "Height of a face before the network",
            ["pixels", "found > 0.6", "> 0.9", "score", "error", "95 %", "trembling"],
            size_table(low, folder, count=count),
        ),
        *table(
            "Small faces, enlarged: share found above 0.6",
            ["pixels in the film", *(f"x {factor:g}" for factor in ENLARGED)],
            enlarging_table(low, folder, count=max(4, count // 3)),
        ),
        *table(
            "Three ways of looking (distance: to the search's landmarks)",
            ["clip", "size", "face", "way", "pixels", "without", "distance", "trembling", "ms"],
            ways_table(load_detector(), folder, count=count),
        ),
        *table("Milliseconds", ["size", "scaling", "network alone", "detection"], speed_table(folder)),
        *table("Resident memory", ["after", "MB"], memory),
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
