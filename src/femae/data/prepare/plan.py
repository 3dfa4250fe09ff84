"""The plan of `prepare`: a data set divided into work units, each of which becomes one shard.

A unit is `shard_size` samples in the reader's order, except that the frames of one film stay together, so that a film
is decoded only once. The division depends on the reader's order alone: the same input gives the same units for any
number of workers. Each unit has a fingerprint of its settings, labels and file sizes; a shard on disk whose note has
the same fingerprint is done and is not made again.
"""

import hashlib
import json
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from femae.data.samples import InlinePicture, RawSample, Reading, VideoFrame
from femae.data.store.shards import action_unit_arrays, read_shard_note, shard_path
from femae.errors import DataError
from femae.faces.crop import FERPLUS_FRAMING

__all__ = ["ExclusionCounts", "PrepareSettings", "Unit", "plan_units", "reading_exclusions"]

NUM_EXAMPLES: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareSettings:
    """Settings that determine the content of shards, together with the data itself."""

    size: int = 112  # side in pixels of the network's input frame
    margin: float = 1.25  # side of the stored picture / side of that frame
    framing: str = FERPLUS_FRAMING.to_json()  # framing of a face: predict's default
    crops: bool = False  # every picture is a face crop already: pass it through untouched
    redetect: bool = False  # detect the face even in pictures that their data set calls crops
    all_faces: bool = False  # keep every face of unlabelled pictures
    min_face: float = 16.0  # smallest face, pixels of its shorter box side
    detection_threshold: float | None = None  # lowest detection score; None: the detector's default
    detector: str = "built-in"  # or the sha256 of the detector file
    jpeg_quality: int = 95  # of the stored pictures, without chroma subsampling
    shard_size: int = 1024  # samples in a unit

    def digest(self) -> str:
        """The sha256 of all settings, in hex."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(kw_only=True, slots=True)
class ExclusionCounts:
    """Numbers of samples that were left out, by cause, with the first few names of each."""

    left_out: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, cause: str, example: str, *, count: int = 1) -> None:
        self.left_out[cause] = self.left_out.get(cause, 0) + count
        names = self.examples.setdefault(cause, [])
        if len(names) < NUM_EXAMPLES:
            names.append(example)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add counts from `as_json`."""
        for cause, entry in other.items():
            self.left_out[cause] = self.left_out.get(cause, 0) + entry["count"]
            names = self.examples.setdefault(cause, [])
            names += entry["examples"][: NUM_EXAMPLES - len(names)]

    def as_json(self) -> dict[str, Any]:
        return {
            cause: {"count": self.left_out[cause], "examples": self.examples.get(cause, [])}
            for cause in sorted(self.left_out)
        }


def reading_exclusions(reading: Reading) -> ExclusionCounts:
    """The exclusions of a reader as ExclusionCounts."""
    examples = {cause: list(names[:NUM_EXAMPLES]) for cause, names in reading.examples.items()}
    return ExclusionCounts(left_out=dict(reading.excluded), examples=examples)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """The work for one shard; its samples are sent to a worker as compressed bytes, to keep millions of them small."""

    source: str
    number: int  # from 0 within the source
    path: Path
    fingerprint: str
    num_samples: int
    payload: bytes | None  # None: the shard exists already

    def samples(self) -> list[RawSample]:
        """The samples; only of a unit with a payload."""
        assert self.payload is not None
        samples: list[RawSample] = pickle.loads(zlib.decompress(self.payload))
        return samples


def plan_units(
    reader: Iterable[RawSample],
    *,
    source: str,
    out: Path,
    settings: PrepareSettings,
    exclusions: ExclusionCounts,
    on_sample: Callable[[int], None] | None = None,
) -> list[Unit]:
    """Read a whole data set and divide it into units; samples with a repeated key are left out and counted.

    `on_sample` is called with the number of samples read so far, once per unit. Raises DataError when `source` cannot
    be part of a file name, LabelError for an unknown action unit.
    """
    if source != Path(source).name or source.startswith("."):
        raise DataError(f"'{source}' cannot name a data set: it becomes part of file names")
    units: list[Unit] = []
    count = 0
    digest = settings.digest()
    for samples in _split(_unique_samples(reader, exclusions), size=settings.shard_size):
        fingerprint = _fingerprint(samples, digest=digest, source=source)
        path = shard_path(out, source=source, number=len(units))
        done = _is_done(path, fingerprint)
        payload = None if done else zlib.compress(pickle.dumps(samples, protocol=5), 1)
        units.append(
            Unit(
                source=source,
                number=len(units),
                path=path,
                fingerprint=fingerprint,
                num_samples=len(samples),
                payload=payload,
            )
        )
        count += len(samples)
        if on_sample is not None:
            on_sample(count)
    return units


def _unique_samples(reader: Iterable[RawSample], exclusions: ExclusionCounts) -> Iterator[RawSample]:
    seen: set[bytes] = set()
    for raw in reader:
        sample = _escape_text(raw)
        digest = hashlib.blake2b(sample.key.encode(), digest_size=12).digest()
        if digest in seen:
            exclusions.add("key given twice by the reader", sample.key)
            continue
        seen.add(digest)
        action_unit_arrays(sample)  # raises now for an unknown action unit, not in a worker
        yield sample


def _escape_text(sample: RawSample) -> RawSample:
    """The sample with bytes that are not UTF-8 escaped, since tables cannot hold them."""
    texts = {name: getattr(sample, name) for name in ("key", "group", "split", "class_name")}
    escaped = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
    return sample if escaped == texts else replace(sample, **escaped)


def _film(sample: RawSample) -> Path | None:
    return sample.picture.path if isinstance(sample.picture, VideoFrame) else None


def _split(samples: Iterable[RawSample], *, size: int) -> Iterator[list[RawSample]]:
    unit: list[RawSample] = []
    for sample in samples:
        if len(unit) >= size and (_film(sample) is None or _film(sample) != _film(unit[-1])):
            yield unit
            unit = []
        unit.append(sample)
    if unit:
        yield unit


def _fingerprint(samples: list[RawSample], *, digest: str, source: str) -> str:
    """Fingerprint of labels, keys and file sizes; not of folders, so that a data set can move."""
    total = hashlib.sha256(f"{digest}\0{source}".encode())
    sizes: dict[Path, int] = {}
    for sample in samples:
        picture = sample.picture
        if isinstance(picture, InlinePicture):
            content = hashlib.sha256(picture.pixels).hexdigest() + f" {picture.width}x{picture.height}"
        else:
            if picture.path not in sizes:
                sizes[picture.path] = _file_size(picture.path)
            part = [getattr(picture, name) for name in ("frame", "left", "top", "size") if hasattr(picture, name)]
            content = f"{picture.path.name} {sizes[picture.path]} {part}"
        texts = (sample.key, content, sample.group, sample.split, sample.class_name, str(sample.is_crop))
        units = sorted(sample.action_units.items())
        total.update("\0".join((*texts, repr(units), repr(sample.box_xyxy))).encode("utf-8", "backslashreplace"))
        total.update(sample.targets.tobytes() + sample.mask.tobytes())
    return total.hexdigest()


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _is_done(path: Path, fingerprint: str) -> bool:
    """Whether `path` is a complete shard with this fingerprint."""
    if not path.is_file():
        return False
    try:
        return bool(read_shard_note(path).get("fingerprint") == fingerprint)
    except DataError:
        return False
