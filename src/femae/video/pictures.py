"""Picture files and arrays as sources of frames, converted to upright 8-bit RGB.

Arrays may be a single picture or an iterable. With a frame rate, an iterable is a film: its frames have times, and
faces keep their ids; without one, its pictures are unrelated. A generator is consumed lazily, a few frames ahead of the
results.
"""

import threading
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from femae.config.storage import is_remote
from femae.cores import num_cores
from femae.errors import InputError, MissingDependencyError
from femae.types import Frame, SourceInfo
from femae.video.discover import HEIF_SUFFIXES
from femae.video.storage import file_name, read_remote, version_of

__all__ = ["ArraySource", "Order", "PictureSource", "is_array", "read_picture", "rgb_of", "to_rgb"]

_THREADS: Final = 4  # for reading pictures
_Read = tuple[npt.NDArray[np.uint8] | None, str]  # the picture, or None and why

_ORIENTATION_TAG: Final = 0x0112
_TRANSPOSES: Final = {  # EXIF orientation -> transposition that makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureSource:
    """Picture files, each a Frame with index 1 and no time; `source` is the file's name.

    Where several files have the same name, `source` is the path as given. A picture that cannot be read is a Frame
    whose image is None, and is counted in `problems`. Of a file with several pictures (TIFF, animated WebP), the first
    is used.
    """

    def __init__(self, paths: Sequence[Path], *, name: str) -> None:
        self.paths = tuple(paths)
        self.info = SourceInfo(name=name, num_frames=len(self.paths))
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        self.problems.clear()
        name_counts = Counter(map(file_name, self.paths))
        unreadable: list[str] = []
        for path, (image, problem) in zip(self.paths, self._read_ahead(), strict=True):
            name = file_name(path)
            source = name if name_counts[name] == 1 else path.as_posix()
            if problem:
                unreadable.append(problem)
            yield Frame(index=1, time_s=None, image=image, source=source, problem=problem)
        if unreadable:
            self.problems.append(
                f"{len(unreadable)} of {len(self.paths)} pictures could not be read, the first: {unreadable[0]}"
            )

    def _read_ahead(self) -> Iterator[_Read]:
        """Yield each picture, or the error, in order; the next ones are prefetched by a thread pool."""
        threads = max(1, min(_THREADS, num_cores(), len(self.paths)))
        paths, pending = iter(self.paths), deque[Future[_Read]]()
        with ThreadPoolExecutor(threads, thread_name_prefix="femae-pictures") as pool:
            try:
                pending.extend(pool.submit(_read, path) for path in islice(paths, threads + 1))
                while pending:
                    yield pending.popleft().result()
                    pending.extend(pool.submit(_read, path) for path in islice(paths, 1))
            finally:
                for future in pending:
                    future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No file stays open between two pictures."""


def _read(path: Path) -> _Read:
    try:
        return read_picture(path), ""
    except Exception as error:  # decoders raise all kinds of exceptions for damaged pictures
        return None, f"'{path}' cannot be read as a picture: {_explain(path, error)}"


class _NoWarnings:
    """Suppresses warnings while any thread is inside the context; warnings.catch_warnings is not thread-safe."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_NO_WARNINGS: Final = _NoWarnings()


def _register_heif() -> None:
    """Enable HEIC and HEIF in Pillow. Raises MissingDependencyError without pillow-heif."""
    if find_spec("pillow_heif") is None:
        raise MissingDependencyError("HEIC needs the package pillow-heif: pip install 'femae[heic]'")
    import_module("pillow_heif").register_heif_opener()


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, MissingDependencyError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; make it smaller first"
    if isinstance(error, InputError):  # of an object store
        return str(error)
    if version_of(path)[1] == 0:
        return "it is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "it is an unknown kind of file, or damaged at its beginning"
    return "it is damaged or incomplete"


def read_picture(path: Path | IO[bytes]) -> npt.NDArray[np.uint8]:
    """Read a picture as u8[H, W, 3] RGB: EXIF orientation applied, transparent parts over white, 16 bits scaled to 8.

    Raises what Pillow raises for a file that it cannot read, InputError for a remote file that cannot be fetched, and
    MissingDependencyError for HEIC without pillow-heif.
    """
    if getattr(path, "suffix", "").lower() in HEIF_SUFFIXES:
        _register_heif()
    if is_remote(path):
        path = BytesIO(read_remote(cast(Path, path)))
    with _NO_WARNINGS, Image.open(path) as image:  # warnings of large pictures and odd tags; errors are raised
        transpose = _TRANSPOSES.get(_orientation(image))
        rgb = to_rgb(image)
    if transpose is not None:
        rgb = rgb.transpose(transpose)
    return np.array(rgb, np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block does not make the picture unreadable
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to 8-bit RGB: transparent parts over white, higher bit depths scaled."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(gray: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Gray [H, W] of 16-bit, 32-bit or float values to u8[H, W, 3]; floats are 0..1, or 0..255 if any exceeds 1.

    The range of 32-bit integers is the smallest of 8, 16 and 31 bits that holds the largest value.
    """
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


Order = Literal["rgb", "bgr"]


def is_array(value: Any) -> bool:
    """Whether a value is a picture in memory: an array, or a Pillow image."""
    return isinstance(value, np.ndarray | Image.Image)


def rgb_of(value: Any, *, order: Order, name: str) -> npt.NDArray[np.uint8]:
    """Convert an array u8[H, W] or u8[H, W, 1, 3 or 4], or a Pillow image, to u8[H, W, 3] RGB.

    `order`: of the channels of an array; a fourth channel is opacity, blended over white. `name`: for messages. Raises
    InputError for anything else.
    """
    if isinstance(value, Image.Image):
        return np.asarray(to_rgb(value), np.uint8)
    if not isinstance(value, np.ndarray):
        raise InputError(
            f"{name} is a {type(value).__name__}; expected an array u8[height, width, 3], or an image of Pillow"
        )
    shape = "x".join(map(str, value.shape)) or "a single number"
    if value.ndim not in (2, 3) or 0 in value.shape or (value.ndim == 3 and value.shape[2] not in (1, 3, 4)):
        hint = "; its first axis seems to be the colours: move it to the end" if value.shape[:1] in ((3,), (1,)) else ""
        raise InputError(f"{name} has the shape {shape}; expected height x width x 3 (or 1, or 4 colours){hint}")
    if value.dtype != np.uint8:
        scaled = " (multiply values of 0 to 1 by 255 first)" if value.dtype.kind == "f" else ""
        raise InputError(
            f"{name} has the type {value.dtype}; expected uint8, 0 to 255: call .astype(numpy.uint8){scaled}"
        )
    if value.ndim == 2 or value.shape[2] == 1:
        return np.repeat(value.reshape(*value.shape[:2], 1), 3, axis=2)
    colours = value[..., :3] if order == "rgb" else value[..., 2::-1]
    if value.shape[2] == 4:
        return np.asarray(to_rgb(Image.fromarray(np.concatenate([colours, value[..., 3:]], axis=2))), np.uint8)
    return np.ascontiguousarray(colours)


class ArraySource:
    """Frames from one array or an iterable of arrays (see `rgb_of`); a generator can be iterated only once.

    `frame_rate`: frames per second, above 0; None: unrelated pictures. Raises InputError for an invalid order or rate,
    and during iteration for a value that is not a picture.
    """

    def __init__(self, arrays: Any, *, order: Order = "rgb", frame_rate: float | None = None) -> None:
        if order not in ("rgb", "bgr"):
            raise InputError(f"order cannot be '{order}'; expected rgb, or bgr as in OpenCV")
        if frame_rate is not None and not 0 < frame_rate < float("inf"):
            raise InputError(f"frame_rate cannot be {frame_rate}; expected frames per second, above 0")
        self._arrays: Iterable[Any] = [arrays] if is_array(arrays) else arrays
        self._order: Order = order
        self._rate = None if frame_rate is None else Fraction(frame_rate).limit_denominator(1_000_000)
        self.info = SourceInfo(name="arrays", frame_rate=self._rate)
        self.problems: list[str] = []

    @property
    def film(self) -> bool:
        """Whether the arrays are frames of a film, as they have a frame rate."""
        return self._rate is not None

    def __iter__(self) -> Iterator[Frame]:
        for number, value in enumerate(self._arrays, 1):
            image = rgb_of(value, order=self._order, name=f"array {number}")
            if self._rate is None:
                yield Frame(index=1, time_s=None, image=image, source=f"array {number}")
            else:
                yield Frame(index=number, time_s=float((number - 1) / self._rate), image=image, source="arrays")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to close."""
