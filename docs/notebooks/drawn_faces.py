"""Faces drawn with Pillow, for the notebooks and the gallery: nobody's portrait, and femae's detector finds them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["SHAPES", "draw_face", "draw_film", "draw_folders"]

# brows raised, their inner ends raised, eyes open, corners of the mouth up, mouth open, mouth wide
SHAPES: dict[str, tuple[float, ...]] = {
    "none": (-0.65, -0.1, 0.62, 0.2, 0, 1.05),
    "surprise": (1, 0, 1.5, 0, 1, 0.75),
    "fear": (0.65, 0.9, 1.2, -0.9, 0.6, 1.1),
    "disgust": (-0.7, -0.6, 0.45, -0.8, 0.25, 0.85),
    "happiness": (-0.4, -0.25, 0.55, 1.75, 0.9, 1.4),
    "sadness": (0.2, 1, 0.65, -1, 0, 0.9),
    "anger": (-1, -1.1, 0.9, -0.7, 0.1, 1),
}


def draw_face(shape: str | npt.ArrayLike, *, size: int = 256, person: int | None = None) -> Image.Image:
    """An RGB picture, size x size pixels. `shape`: a name in SHAPES or six numbers like those there.

    `person`: a number that decides skin, width, tilt and place of the face and what is behind it; None: before a plain wall.
    """
    rng = np.random.default_rng(person)
    plain = person is None
    skin = (222, 180, 150) if plain else tuple(int(tone) for tone in np.array([222, 180, 150]) * rng.uniform(0.5, 1.1))
    width = 1 if plain else rng.uniform(0.85, 1.1)
    raised, inner, open_eye, corners, open_mouth, wide = SHAPES[shape] if isinstance(shape, str) else np.asarray(shape)
    unit = size * 2 / 100  # drawn at twice the size, in hundredths of a side
    image = Image.new("RGB", (size * 2, size * 2), (150, 165, 180))
    canvas = ImageDraw.Draw(image)
    hair, dark, light = (60, 40, 30), tuple(int(c * 0.75) for c in skin), tuple(min(255, int(c * 1.08)) for c in skin)

    def ellipse(x: float, y: float, half_width: float, half_height: float, fill: tuple[int, ...]) -> None:
        box = [x - half_width, y - half_height, x + half_width, y + half_height]
        canvas.ellipse([edge * unit for edge in box], fill=fill)

    def line(points: list[tuple[float, float]], fill: tuple[int, ...], thick: float) -> None:
        canvas.line([(x * unit, y * unit) for x, y in points], fill=fill, width=int(thick * unit), joint="curve")

    for _ in range(0 if plain else 14):
        colour = tuple(int(tone) for tone in rng.integers(30, 230, 3))
        ellipse(*rng.uniform(0, 100, 2), *rng.uniform(8, 30, 2), colour)
    ellipse(50, 92, 12, 20, dark)  # the neck
    ellipse(50, 45, 34 * width, 40, hair)
    ellipse(50, 52, 29 * width, 37, dark)
    ellipse(50, 51, 28 * width, 36, skin)
    ellipse(50, 30, 20 * width, 10, light)
    for side in (-1, 1):
        eye, brow = 50 + 12 * side, 37 - 3.5 * raised
        ellipse(eye, 46, 7, 5.5, dark)
        ellipse(eye, 46, 5.5, 3.2 * open_eye, (245, 245, 245))
        ellipse(eye, 46, 2.6, min(2.6, 3.2 * open_eye), (70, 50, 40))
        ellipse(eye, 46, 1.2, 1.2, (10, 10, 10))
        ends = [(6, brow - 3 * inner), (12, brow - 1), (19, brow + 1.5 + 1.5 * inner)]
        line([(50 + side * x, y) for x, y in ends], hair, 2.4)
        ellipse(50 + 3 * side, 61, 1.6, 1, dark)
    canvas.polygon([(50 * unit, 47 * unit), (46 * unit, 60 * unit), (54 * unit, 60 * unit)], fill=light)
    x = np.linspace(-1, 1, 41)
    middle, gap = 73 + 2 * corners - 5 * corners * x**2, 8 * open_mouth * np.sqrt(1 - x**2)
    upper, lower = (list(zip(50 + 11 * wide * x, middle + part * gap, strict=True)) for part in (-0.35, 1.0))
    if open_mouth > 0.05:
        canvas.polygon([(a * unit, b * unit) for a, b in upper + lower[::-1]], fill=(70, 20, 20))
        if corners > 0.3:  # teeth
            teeth = list(zip(50 + 11 * wide * x, middle + 0.5 * gap, strict=True))
            canvas.polygon([(a * unit, b * unit) for a, b in upper + teeth[::-1]], fill=(245, 240, 235))
    line(upper, (165, 80, 80), 2)
    line(lower, (165, 80, 80), 2.2)
    if not plain:
        moved = tuple(int(pixels) for pixels in rng.uniform(-0.1, 0.1, 2) * size * 2)
        image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, translate=moved)
    return image.resize((size, size), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(size / 256))


def draw_film(path: Path, shapes: list[str], *, seconds_each: float = 1.0, size: int = 192, fps: int = 12) -> Path:
    """A film (H.264) in which one face goes from shape to shape: half of each time it moves, half it rests."""
    container = av.open(str(path), "w")
    stream = container.add_stream("libx264", rate=fps, options={"crf": "20"})
    stream.width = stream.height = size
    stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
    each = round(seconds_each * fps)
    for number in range(each * len(shapes)):
        which, step = divmod(number, each)
        before, after = (np.array(SHAPES[shapes[max(0, one)]]) for one in (which - 1, which))
        share = min(1.0, 2 * step / each)
        picture = draw_face(before + (after - before) * (3 * share**2 - 2 * share**3), size=size)
        container.mux(stream.encode(av.VideoFrame.from_image(picture)))
    container.mux(stream.encode())
    container.close()
    return path


def draw_folders(folder: Path, *, number: int, size: int = 96, seed: int = 0) -> Path:
    """`number` pictures of each of the six emotions, no two alike: folder/happiness/000.png ..."""
    rng = np.random.default_rng(seed)
    for emotion in list(SHAPES)[1:]:
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        for which in range(number):
            shape = np.array(SHAPES[emotion]) * rng.uniform(0.6, 1.2) + rng.normal(0, 0.12, 6)
            shape[2:] = np.maximum(shape[2:], [0.3, -1.5, 0, 0.6])
            face = draw_face(shape, size=size, person=int(rng.integers(2**31)))
            face.save(folder / emotion / f"{which:03d}.png")
    return folder
