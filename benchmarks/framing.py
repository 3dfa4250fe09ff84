"""The framing of faces in FER+ and LFW, which square around a detected face reproduces it, and its effect on F1.

    python benchmarks/framing.py --data FOLDER [--pictures 3000] [--model MODEL.onnx] [--sheets FOLDER] [--out FILE.md]

FOLDER holds ferplus/, lfw/ and videos/. All lengths are in sides of the picture (or of the crop) unless noted. The
training pictures end close to the face, so a gray border is added before detection; the effect of the border on the
boxes is measured on crops of film frames, where the box without a border is known, and corrected.
"""

import argparse
import csv
import dataclasses
import math
import platform
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from ferplus_arrays import read_ferplus
from framing_tables import Geometry, candidate_table, expression_table, geometry_table
from PIL import Image

from femae import __version__
from femae.faces.crop import FERPLUS_FRAMING, crop_face
from femae.faces.load import load_detector
from femae.faces.scales import FaceDetector
from femae.types import Face

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

SIDE, BORDER, GRAY = 192, 64, 110  # a picture is enlarged to SIDE pixels, then bordered
FILMS = {
    "talking_face_franck.mp4": 300,
    "webcam_man_1.mp4": 300,
    "grid_bbaf2n.mpg": 75,
    "grid_brbk7n.mpg": 75,
    "grid_lrwp9a.mpg": 75,
    "man_smile.mp4": 72,
    "headpose_man.gif": 62,
    "woman_phone_profile.mp4": 115,
}


# ---- detections as rows f64[15]: score, box x1 y1 x2 y2, five landmarks x y; NaN if no face was found


def largest(faces: Sequence[Face]) -> Floats:
    """The row of the largest face."""
    if not faces:
        return np.full(15, np.nan)
    face = max(faces, key=lambda face: face.score * float(np.prod(face.box_xyxy[2:] - face.box_xyxy[:2])))
    assert face.landmarks is not None
    return np.array([face.score, *face.box_xyxy.tolist(), *face.landmarks.ravel().tolist()])


def bordered(picture: Picture) -> Picture:
    """Gray picture u8[S, S] -> enlarged RGB picture with a border."""
    large = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.pad(large, BORDER, constant_values=GRAY)[..., None].repeat(3, 2)


def find(pictures: Sequence[Picture], detector: FaceDetector) -> Floats:
    """Rows f64[N, 15] in sides of the picture."""
    rows = np.stack([largest(detector.detect(bordered(picture)[None])[0]) for picture in pictures])
    rows[:, 1:] = (rows[:, 1:] - BORDER) / SIDE
    return rows


def as_face(row: Floats, *, scale: float) -> Face:
    return Face(
        box_xyxy=(row[1:5] * scale).astype(np.float32),
        landmarks=(row[5:].reshape(5, 2) * scale).astype(np.float32),
        score=float(row[0]),
    )


# ---- the border


def frames_of(path: Path, *, limit: int, step: int = 1) -> Iterator[Picture]:
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= limit:
                return
            if number % step == 0:
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def border_effect(
    films: dict[str, list[Picture]], rows: dict[str, Floats], detector: FaceDetector
) -> tuple[Floats, list[str]]:
    """Linear map f64[15, 4] from a detection with border (1, box, landmarks) to the box without border."""
    rng, pairs = np.random.default_rng(1), []
    for name, pictures in films.items():
        for picture, row in list(zip(pictures, rows[name], strict=True))[::12]:
            if not row[0] > 0.9:
                continue
            middle, size = (row[1:3] + row[3:5]) / 2, math.sqrt(np.prod(row[3:5] - row[1:3]))
            for _ in range(4):
                side = 1.1 * size * math.exp(rng.normal(0, 0.14))
                corner = middle + rng.normal(0, 0.04, 2) * side - side / 2
                if (corner < 0).any() or (corner + side > picture.shape[1::-1]).any():
                    continue
                box = (*corner, *(corner + side))
                small = Image.fromarray(picture).convert("L").resize((48, 48), Image.Resampling.BOX, box=box)
                truth = row.copy()
                truth[1:] = (row[1:].reshape(7, 2) - corner).ravel() / side
                pairs.append((find([np.asarray(small)], detector)[0], truth))
    seen, truth = (np.stack(side) for side in zip(*[p for p in pairs if p[0][0] > 0.9], strict=True))
    with_one = np.column_stack([np.ones(len(seen)), seen[:, 1:]])
    a, b = Geometry(seen), Geometry(truth)
    lines = [f"{len(seen)} crops of film frames, with and without border (medians of the ratio with : without):", ""]
    for name in ("width", "height", "eye_distance", "eyes_mouth"):
        lines.append(f"- {name.replace('_', ' ')}: {np.median(getattr(a, name) / getattr(b, name)):.3f}")
    return np.linalg.lstsq(with_one, truth[:, 1:5], rcond=None)[0], lines


def without_border(rows: Floats, effect: Floats) -> Floats:
    """The same rows with the boxes corrected for the effect of the border."""
    result = rows.copy()
    result[:, 1:5] = np.column_stack([np.ones(len(rows)), rows[:, 1:]]) @ effect
    return result


# ---- pictures to look at


def write_sheets(
    folder: Path, ferplus: Sequence[Picture], films: dict[str, list[Picture]], rows: dict[str, Floats]
) -> None:
    """Write a sheet of FER+ pictures and crops of films, with and without rotation, gray, 96 pixels each."""
    folder.mkdir(parents=True, exist_ok=True)
    strips = [np.concatenate(list(ferplus[16 * k : 16 * k + 16]), axis=1) for k in range(4)]
    for name, pictures in films.items():
        chosen = np.linspace(0, len(pictures) - 1, 16).astype(int)
        for framing in (FERPLUS_FRAMING, dataclasses.replace(FERPLUS_FRAMING, keep_roll_deg=180)):
            crops = [
                crop_face(pictures[k], face=as_face(rows[name][k], scale=1), size=48, framing=framing).image
                if np.isfinite(rows[name][k][0])
                else np.zeros((48, 48, 3), np.uint8)
                for k in chosen
            ]
            strips.append(np.concatenate([np.asarray(Image.fromarray(crop).convert("L")) for crop in crops], axis=1))
    sheet = Image.fromarray(np.concatenate(strips))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(folder / "framing.png")


def read_lfw(folder: Path, count: int) -> list[Picture]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), min(count, len(rows)), replace=False))
    atlases: dict[int, Picture] = {}
    pictures = []
    for k in chosen:
        atlas = int(rows[k]["atlas"])
        if atlas not in atlases:
            atlases[atlas] = np.asarray(Image.open(folder / f"lfw_{atlas:02d}.jpg").convert("L"))
        r, c = divmod(int(rows[k]["cell"]), 24)
        pictures.append(atlases[atlas][r * 96 : (r + 1) * 96, c * 96 : (c + 1) * 96])
    return pictures


def small_faces(films: dict[str, list[Picture]], detector: FaceDetector) -> list[str]:
    """Detections in reduced frames, relative to those in the full frames."""
    lines = ["| frames reduced to | face, pixels | box size | eye to eye | anchor x | anchor y |", "|---" * 6 + "|"]
    pictures = [picture for name in ("talking_face_franck.mp4", "man_smile.mp4") for picture in films[name][::6]]
    full = np.stack([largest(detector.detect(picture[None])[0]) for picture in pictures])
    for share in (0.5, 0.33, 0.25, 0.2):
        rows = []
        for picture in pictures:
            size = (round(picture.shape[1] * share), round(picture.shape[0] * share))
            small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            row = largest(detector.detect(small[None])[0])
            row[1:] = (row[1:].reshape(7, 2) * np.divide(picture.shape[1::-1], size)).ravel()
            rows.append(row)
        a, b = Geometry(np.stack(rows)), Geometry(full)
        moved = 100 * np.nanmedian((a.middle + a.eyes - b.middle - b.eyes) / 2 / b.size[:, None], axis=0)
        ratios = [np.nanmedian(a.size / b.size), np.nanmedian(a.eye_distance / b.eye_distance)]
        cells = [f"{np.nanmedian(b.size) * share:.0f}", *(f"x {ratio:.3f}" for ratio in ratios)]
        lines.append(f"| {share:.0%} | {' | '.join(cells)} | {moved[0]:+.1f} % | {moved[1]:+.1f} % |")
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=3000, help="of FER+ Training; half as many of LFW")
    parser.add_argument("--frames", type=int, default=300, help="of each film, at most")
    parser.add_argument("--model", type=Path, help="an ONNX model of femae: measure F1 on PublicTest as well")
    parser.add_argument("--test-pictures", type=int, help="of PublicTest, at most")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets (keep it out of the repository)")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    detector = load_detector()
    train = read_ferplus(arguments.data / "ferplus", split="Training")
    count = min(arguments.pictures, len(train.pictures))
    chosen = np.sort(np.random.default_rng(0).choice(len(train.pictures), count, replace=False))
    ferplus, votes = train.pictures[chosen], train.votes[chosen]
    films, film_rows = {}, {}
    for name, limit in FILMS.items():
        path = arguments.data / "videos" / name
        films[name] = list(frames_of(path, limit=min(limit, arguments.frames)))
        film_rows[name] = np.stack([largest(detector.detect(picture[None])[0]) for picture in films[name]])
    effect, border_lines = border_effect(films, film_rows, detector)
    found = {"FER+": find(list(ferplus), detector), "LFW": find(read_lfw(arguments.data / "lfw", count // 2), detector)}
    sure = {name: rows[:, 0] > 0.9 for name, rows in found.items()}
    share = ", ".join(f"{name} {100 * sure[name].mean():.1f} % of {len(rows)}" for name, rows in found.items())
    sets = {name: without_border(rows[sure[name]], effect) for name, rows in found.items()}

    assert __doc__ is not None
    sections = {
        "The border": border_lines,
        "Where faces lie in the pictures": ["Boxes with the border's effect undone.", "", *geometry_table(sets)],
        "Candidates": candidate_table(sets, film_rows),
        "Expression": expression_table(sets["FER+"], votes[sure["FER+"]]),
        "Small faces": small_faces(films, detector),
    }
    if arguments.model:
        from framing_f1 import Judge

        def locate(pictures: Sequence[Picture]) -> list[Face | None]:
            rows = without_border(find(pictures, detector), effect)
            return [None if np.isnan(row[0]) else as_face(row, scale=pictures[0].shape[0]) for row in rows]

        judge = Judge(arguments.data / "ferplus", arguments.model, locate, limit=arguments.test_pictures)
        sections["F1 on PublicTest"] = judge.table()
    if arguments.sheets:
        write_sheets(arguments.sheets, list(ferplus), films, film_rows)
    about = " ".join(__doc__.split("\n\n")[2].split()).partition(". ")[2]
    lines = ["# Framing", "", about, ""]
    lines += [
        f"femae {__version__}, Python {platform.python_version()}, {date.today()}; default: {FERPLUS_FRAMING}.",
        "",
    ]
    lines += [f"Detected with a score above 0.9: {share}."]
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
