"""Still pictures as a source of frames: upright, 8 bits, RGB, whatever the file holds."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from femae.config.storage import is_remote
from femae.errors import InputError, MissingDependencyError
from femae.types import Frame, SourceInfo
from femae.video.discover import HEIF_SUFFIXES
from femae.video.storage import file_name, read_remote, state_of

__all__ = ["PictureSource", "read_picture", "to_rgb"]

_ORIENTATION_TAG: Final = 0x0112
_TURNS: Final = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureSource:
    """Pictures, each a Frame of index 1 without a time; `source` is the file's name.

    Where two of them have the same name, `source` is the path as given. A picture that cannot be read is a Frame whose
    image is None; it is counted in `problems`, and the others follow. Of a file with several pictures (TIFF, animated
    WebP) the first is taken.
    """

    def __init__(self, paths: Sequence[Path], *, name: str) -> None:
        self.paths = tuple(paths)
        self.info = SourceInfo(name=name, num_frames=len(self.paths))
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        num_of_name = Counter(map(file_name, self.paths))
        unreadable: list[str] = []
        for path in self.paths:
            name = file_name(path)
            source = name if num_of_name[name] == 1 else path.as_posix()
            image: npt.NDArray[np.uint8] | None = None
            problem = ""
            try:
                image = read_picture(path)
            except Exception as error:  # decoders of damaged pictures raise nearly anything
                problem = f"'{path}' cannot be read as a picture: {_reason(path, error)}"
                unreadable.append(problem)
            yield Frame(index=1, time_s=None, image=image, source=source, problem=problem)
        if unreadable:
            self.problems.append(
                f"{len(unreadable)} of {len(self.paths)} pictures could not be read, the first: {unreadable[0]}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open between two pictures."""


def _know_heif() -> None:
    """Let Pillow read HEIC and HEIF, as phones take them. Raises MissingDependencyError without pillow-heif."""
    if find_spec("pillow_heif") is None:
        raise MissingDependencyError("HEIC needs the package pillow-heif: pip install 'femae[heic]'")
    import_module("pillow_heif").register_heif_opener()


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, MissingDependencyError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; make it smaller first"
    if isinstance(error, InputError):  # of a store
        return str(error)
    if state_of(path)[1] == 0:
        return "it is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "it is of a kind that is not known, or damaged at its beginning"
    return "it is damaged or incomplete"


def read_picture(path: Path | IO[bytes]) -> npt.NDArray[np.uint8]:
    """u8[H, W, 3] RGB as displayed: turned by its EXIF tag, transparent parts over white, 16 bits scaled to 8.

    Raises whatever Pillow raises for a file that it cannot read, InputError where a store does not give it.
    """
    if getattr(path, "suffix", "").lower() in HEIF_SUFFIXES:
        _know_heif()
    if is_remote(path):
        path = BytesIO(read_remote(cast(Path, path)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures and odd tags; what matters is raised
        with Image.open(path) as image:
            turn = _TURNS.get(_orientation(image))
            rgb = to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return np.array(rgb, np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8 bits RGB: transparent parts over white, deeper ones scaled."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(gray: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """[H, W] of 16-bit, 32-bit or floating values to u8[H, W, 3]; floats up to 1 count as 0..1, others as 0..255."""
    highest = float(gray.max(initial=0))
    if gray.dtype.kind == "f":
        white = 1.0 if highest <= 1 else 255.0
    elif gray.dtype.itemsize == 2:
        white = 65535.0
    else:
        white = next(top for top in (255.0, 65535.0, float("inf")) if highest <= top)
        white = min(white, float(np.iinfo(np.int32).max))
    scaled = np.rint(np.clip(np.nan_to_num(gray.astype(np.float64)) / white, 0, 1) * 255).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2)
