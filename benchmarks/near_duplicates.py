"""Near duplicates: recall, false positives and time of the perceptual hash and the comparison of thumbnails.

    python benchmarks/near_duplicates.py --data DATA [--out benchmarks/results/near_duplicates.md]

DATA holds `ferplus` (exact copies are marked by dup_group) and `lfw` (aligned faces; pairs of two persons are false).
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from femae.data.duplicates import SAME_PICTURE, hamming, near_pairs, perceptual_hash, similarity, thumbnail
from femae.data.samples import AtlasCell
from femae.data.sources.atlas import AtlasSource, LfwSource
from femae.data.sources.fer2013 import FerPlusSource

Pixels = npt.NDArray[np.uint8]
DISTANCES = (0, 2, 4, 6, 8, 10, 12)
NUM_COPIES = 1000


def jpeg(image: Pixels, quality: int) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data), np.uint8)


def resized(image: Pixels, factor: float) -> Pixels:
    side = round(len(image) * factor)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.uint8)


def framed(image: Pixels, *, edge: float = 0, right: float = 0) -> Pixels:
    """The picture cropped by a share `edge` on each side, or shifted to the right by a share."""
    side = len(image)
    box = (side * (edge - right), side * edge, side * (1 - edge - right), side * (1 - edge))
    if right:
        matrix = (1, 0, -side * right, 0, 1, 0)
        picture = Image.fromarray(image).transform(
            (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
        )
        return np.asarray(picture, np.uint8)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=box), np.uint8)


def noisy(image: Pixels) -> Pixels:
    return np.clip(image + np.random.default_rng(0).normal(0, 5, image.shape), 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg quality 30": lambda image: jpeg(image, 30),
    "half size": lambda image: resized(image, 0.5),
    "double size": lambda image: resized(image, 2),
    "gamma 1.4": lambda image: (255 * (image / 255) ** 1.4).astype(np.uint8),
    "contrast 1.3": lambda image: np.clip((image - 128.0) * 1.3 + 140, 0, 255).astype(np.uint8),
    "noise of 5": noisy,
    "2 % cut off each side": lambda image: framed(image, edge=0.02),
    "5 % cut off each side": lambda image: framed(image, edge=0.05),
    "moved by 2 %": lambda image: framed(image, right=0.02),
    "moved by 6 %": lambda image: framed(image, right=0.06),
}


def read(reader: AtlasSource) -> tuple[list[Pixels], list[str], list[str]]:
    """Gray pictures u8[S, S], groups and splits of a reader's samples."""
    atlases: dict[Path, Pixels] = {}
    pictures, groups, splits = [], [], []
    for sample in reader:
        cell = sample.picture
        assert isinstance(cell, AtlasCell)
        if cell.path not in atlases:
            atlases[cell.path] = np.asarray(Image.open(cell.path).convert("L"), np.uint8)
        pictures.append(atlases[cell.path][cell.top : cell.top + cell.size, cell.left : cell.left + cell.size])
        groups.append(sample.group)
        splits.append(sample.split)
    return pictures, groups, splits


def measure(name: str, reader: AtlasSource) -> list[str]:
    pictures, groups, splits = read(reader)
    started = time.process_time()
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    per_hash_us = (time.process_time() - started) / len(pictures) * 1e6
    small = np.stack([thumbnail(picture) for picture in pictures])
    truth = "exact copy (dup_group)" if name == "ferplus" else "one person"
    lines = [
        f"## {name}: {len(pictures)} pictures, {per_hash_us:.0f} us a hash",
        "",
        f"| bits at most | pairs | {truth} | other | other, look alike | share of other | search, CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for distance in DISTANCES:
        started = time.process_time()
        pairs = near_pairs(hashes, max_distance=distance)
        seconds = time.process_time() - started
        same = np.array([groups[a] == groups[b] for a, b in pairs], np.bool_)
        others = pairs[~same]
        alike = similarities(small, others) >= SAME_PICTURE
        share = f"{len(others) / max(1, len(pairs)):.3f}"
        cells = (distance, len(pairs), same.sum(), len(others), alike.sum(), share, f"{seconds:.2f}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
        if distance == 10:
            leaks = others[alike]
    parts = np.array(splits)
    across = leaks[(parts[leaks[:, 0]] == "test") != (parts[leaks[:, 1]] == "test")]
    tested = np.unique(across.ravel()[parts[across.ravel()] == "test"])
    lines += [
        "",
        f"Of {(parts == 'test').sum()} test pictures {len(tested)} look like a picture outside of the test part "
        "(10 bits and the look; exact copies not counted).",
        "",
    ]
    return lines + copies(pictures, hashes, small)


def similarities(small: Pixels, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    chunks = [pairs[start : start + 2048] for start in range(0, len(pairs), 2048)]
    found = [similarity(small[chunk[:, 0]], small[chunk[:, 1]]) for chunk in chunks]
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def copies(pictures: list[Pixels], hashes: npt.NDArray[np.uint64], small: Pixels) -> list[str]:
    """The share of synthetic copies that are found, by kind of change."""
    lines = [
        "| copy | 4 bits | 8 bits | 10 bits | 10 bits and look | similarity, 1st percentile |",
        "|---|---|---|---|---|---|",
    ]
    chosen = np.random.default_rng(0).choice(len(pictures), NUM_COPIES, replace=False)
    for name, change in COPIES.items():
        changed = [change(pictures[position]) for position in chosen]
        bits = hamming(np.array([perceptual_hash(picture) for picture in changed], np.uint64), hashes[chosen])
        alike = similarity(np.stack([thumbnail(picture) for picture in changed]), small[chosen])
        shares = [float((bits <= distance).mean()) for distance in (4, 8, 10)]
        shares.append(float(((bits <= 10) & (alike >= SAME_PICTURE)).mean()))
        cells = " | ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {name} | {cells} | {np.quantile(alike, 0.01):.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "near_duplicates.md")
    arguments = parser.parse_args()
    lines = ["# Near duplicates", "", f"Python {sys.version.split()[0]}, numpy {np.__version__}, one thread.", ""]
    lines += measure("ferplus", FerPlusSource(arguments.data / "ferplus"))
    lines += measure("lfw", LfwSource(arguments.data / "lfw"))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
