"""Makes the gallery from drawn faces and a portrait in the public domain: python scripts/gallery.py FOLDER.

Writes pictures and figures (docs/gallery has a copy of them) and report pages, which are only on the site.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "notebooks"))
from drawn_faces import SHAPES, draw_face, draw_film

from femae.cli import main as femae


def run(*arguments: str) -> None:
    if femae(list(arguments)) != 0:
        raise SystemExit(f"failed: femae {' '.join(arguments)}")


def make(out: Path, work: Path) -> None:
    """Write the gallery into `out`; `work` is a folder for intermediate files."""
    drawn, portrait = work / "drawn", work / "portrait"
    for number, shape in enumerate(list(SHAPES)[1:]):
        drawn.mkdir(exist_ok=True)
        draw_face(shape, size=320).save(drawn / f"{number}-{shape}.png")
    portrait.mkdir()
    Image.fromarray(astronaut()[:320, 60:380]).save(portrait / "astronaut.png")
    film = draw_film(work / "drawn-film.mp4", ["none", "surprise", "none", "happiness", "none", "sadness", "anger"])
    run("predict", str(film), str(drawn), str(portrait), "--video", "--report", "--quiet", "--out", str(work))
    run("report", str(work / "drawn-film.csv"), "--figures", "--format", "svg", "--out", str(work))

    annotated = [np.asarray(Image.open(path)) for path in sorted((work / "drawn.annotated").iterdir())]
    Image.fromarray(np.vstack([np.hstack(annotated[:3]), np.hstack(annotated[3:])])).save(out / "drawn.jpg", quality=85)
    (path,) = (work / "portrait.annotated").iterdir()
    Image.open(path).convert("RGB").save(out / "astronaut.jpg", quality=85)
    shutil.copy(work / "drawn-film-timeline-1.svg", out / "timeline.svg")
    for page in ("drawn-film.html", "drawn.html"):
        shutil.copy(work / page, out / page)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        make(folder, Path(temporary))
