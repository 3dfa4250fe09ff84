"""How many faces the built-in detector misses and invents: in real clips, degraded clips and pictures without people.

    python benchmarks/detector_recall.py --data FOLDER_WITH_videos [--out benchmarks/results/detector_recall.md]

Each picture is searched at several scales, with several score thresholds. The degraded clips are every tenth frame of
the clean ones below in which the right number of faces is found.
"""

import argparse
import io
import platform
from collections import Counter
from collections.abc import Callable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import onnxruntime
import skimage.data
from PIL import Image, ImageFilter

from femae import __version__
from femae.faces.load import load_detector
from femae.faces.scales import ScaledDetector, choose_long_side

Picture = npt.NDArray[np.uint8]
THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CLIPS = {  # people in every frame: clips
    1: "asl_small_face_help.mkv asl_small_face_sorry.mkv carphone_qcif.mp4 carphone_qcif_distorted.mp4 "
    "grid_bbaf2n.mpg headpose_man.gif man_smile.mp4 talking_face_franck.mp4 webcam_man_1.mp4 "
    "woman_phone_profile.mp4 hard/tiny_64x36.mp4 hard/untagged_sideways.mp4 hard/phone_rotated_180.mp4",
    2: "headpose_two_people.gif hard/two_faces.mp4",
    3: "three_people_walking.gif",
    4: "classroom_small_faces.gif hard/four_faces.mp4",
    0: "no_face.mp4 hard/black.mp4",
}
DEGRADED = "grid_bbaf2n.mpg man_smile.mp4 talking_face_franck.mp4 webcam_man_1.mp4 woman_phone_profile.mp4 " \
    "headpose_two_people.gif three_people_walking.gif asl_small_face_help.mkv classroom_small_faces.gif"  # fmt: skip
NO_PEOPLE = (
    "brick checkerboard chelsea clock coffee coins colorwheel grass gravel horse hubble_deep_field "
    "immunohistochemistry logo moon page retina rocket text"
).split()


def read(path: Path, *, count: int, step: int) -> list[Picture]:
    """Every `step`-th picture of a film, at most `count`, as stored (rotation tags not applied)."""
    with av.open(str(path)) as container:
        frames = islice(container.decode(video=0), 0, count * step, step)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def read_without_people() -> list[Picture]:
    """u8[H, W, 3] pictures of scikit-image without people."""
    pictures = []
    for name in NO_PEOPLE:
        array = np.asarray(getattr(skimage.data, name)())
        array = array.astype(np.uint8) * 255 if array.dtype == bool else array
        pictures.append(np.ascontiguousarray((np.stack([array] * 3, 2) if array.ndim == 2 else array)[..., :3]))
    return pictures


def degradations() -> dict[str, Callable[[Picture], Picture]]:
    """Functions that degrade a picture, by name."""
    rng = np.random.default_rng(0)

    def noisy(image: Picture, *, share: float, sigma: float) -> Picture:
        return np.clip(image * share + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)

    def compressed(image: Picture) -> Picture:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=5)
        return np.asarray(Image.open(file))

    def blurred(image: Picture) -> Picture:
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(image.shape[1] / 100)))

    return {
        "as it is": lambda image: image,
        "an eighth of the light": lambda image: (image * 0.12).astype(np.uint8),
        "an eighth of the light, noise of 6": lambda image: noisy(image, share=0.12, sigma=6),
        "noise of 45": lambda image: noisy(image, share=1, sigma=45),
        "JPEG of quality 5": compressed,
        "blurred by a hundredth of the width": blurred,
        "overexposed": lambda image: np.clip(image * 2.2 + 30, 0, 255).astype(np.uint8),
    }


def counts_text(missed: int, invented: int) -> str:
    return f"{missed} / {invented}" if missed or invented else "0"


def clip_rows(detectors: list[ScaledDetector], folder: Path, *, count: int) -> list[list[Any]]:
    """Rows: clip, people, frames, missed / invented faces for each threshold, and the same at a single scale."""
    rows: list[list[Any]] = []
    middle = detectors[THRESHOLDS.index(0.6)]
    for name, people in ((name, people) for people, names in CLIPS.items() for name in names.split()):
        pictures = read(folder / name, count=count, step=3)
        height, width = pictures[0].shape[:2]
        first = middle.detect(pictures[:1])[0]
        smallest = min((float(face.box_xyxy[3] - face.box_xyxy[1]) for face in first), default=112.0)
        long_side = choose_long_side(width, height, smallest_face_px=smallest)
        found = [[len(faces) for faces in detector.detect(pictures)] for detector in detectors]
        found.append([len(faces) for faces in middle.detect(pictures, long_side=long_side)])
        cells = [
            counts_text(sum(max(0, people - n) for n in row), sum(max(0, n - people) for n in row)) for row in found
        ]
        rows.append([name, people, len(pictures), *cells])
    return rows


def degraded_rows(detectors: list[ScaledDetector], folder: Path, *, count: int) -> list[list[Any]]:
    """Rows: way, faces, then missed / invented faces for each threshold."""
    people = {name: number for number, names in CLIPS.items() for name in names.split()}
    pictures = [
        (picture, people[name])
        for name in DEGRADED.split()
        for picture in read(folder / name, count=max(3, count // 4), step=10)
    ]
    middle = detectors[THRESHOLDS.index(0.6)]
    clean = [(picture, number) for picture, number in pictures if len(middle.detect([picture])[0]) == number]
    rows: list[list[Any]] = []
    for way, make in degradations().items():
        counts = [Counter[str]() for _ in detectors]
        for picture, number in clean:
            image = np.ascontiguousarray(make(picture))
            for detector, counter in zip(detectors, counts, strict=True):
                found = len(detector.detect([image])[0])
                counter.update(missed=max(0, number - found), invented=max(0, found - number))
        cells = [counts_text(counter["missed"], counter["invented"]) for counter in counts]
        rows.append([way, sum(number for _, number in clean), *cells])
    return rows


def table(title: str, head: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds videos/")
    parser.add_argument("--count", type=int, default=24, help="frames of each clip")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder, count = arguments.data / "videos", arguments.count
    detectors = [load_detector(score_threshold=level) for level in THRESHOLDS]
    levels = [f"> {level}" for level in THRESHOLDS]
    empty = read_without_people()
    dark = [(picture * 0.12).astype(np.uint8) for picture in empty]
    alarms = [
        [way, len(pictures), *(sum(map(len, look(detector, pictures))) for detector in detectors)]
        for way, pictures, look in (
            ("search", empty, lambda d, pictures: d.detect(pictures)),
            ("search, an eighth of the light", dark, lambda d, pictures: d.detect(pictures)),
            ("one look at 640", empty, lambda d, pictures: d.detect(pictures, long_side=640)),
            ("one look at 1280", empty, lambda d, pictures: d.detect(pictures, long_side=1280)),
        )
    ]
    lines = [
        "# Faces that the built-in detector misses and invents",
        "",
        f"`python benchmarks/detector_recall.py --count {count}`, {date.today()}, femae {__version__}, "
        f"onnxruntime {onnxruntime.__version__}, {platform.machine()}.",
        "",
        *(__doc__ or "").split("\n\n")[-1].strip().splitlines(),
        "",
        *table(
            "Real clips: faces missed / invented",
            ["clip", "people", "frames", *levels, "one look, > 0.6"],
            clip_rows(detectors, folder, count=count),
        ),
        *table(
            "Clips made worse: faces missed / invented",
            ["way", "faces", *levels],
            degraded_rows(detectors, folder, count=count),
        ),
        *table("Pictures without people: faces invented", ["way", "pictures", *levels], alarms),
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
