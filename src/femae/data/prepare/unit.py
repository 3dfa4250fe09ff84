"""Processes one work unit of `prepare`: pictures or frames -> detector -> crop -> rows of one shard."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from femae.data import quality
from femae.data.duplicates import perceptual_hash
from femae.data.prepare.crop_store import crop_with_margin
from femae.data.prepare.find_faces import FaceFinder, choose_faces
from femae.data.prepare.plan import ExclusionCounts, PrepareSettings, Unit
from femae.data.samples import RawSample, VideoFrame
from femae.data.store.manifest import file_sha256
from femae.data.store.pictures import LoadedPicture, encode_picture, load_pictures_of
from femae.data.store.shards import ShardSample, ShardWriter, action_unit_arrays
from femae.errors import InputError
from femae.types import Face

__all__ = ["UnitResult", "UnitWorker"]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitResult:
    """The result of a unit."""

    source: str
    number: int
    num_rows: int
    num_bytes: int
    sha256: str
    left_out: dict[str, Any]  # ExclusionCounts.as_json


class UnitWorker:
    """Makes shards, one unit at a time."""

    def __init__(self, settings: PrepareSettings, *, detector_path: Path | None) -> None:
        self.settings = settings
        self._finder = FaceFinder(settings, detector_path=detector_path)

    def run(self, unit: Unit, *, on_sample: Callable[[int], None]) -> UnitResult:
        """Make the shard of a unit. `on_sample` is called with the number of faces after each sample."""
        exclusions = ExclusionCounts()
        with ShardWriter(path=unit.path) as writer:
            for sample, loaded in load_pictures_of(unit.samples()):
                rows = self._rows(sample, loaded, unit.source, exclusions)
                for row in rows:
                    writer.add(row)
                on_sample(len(rows))
            note = {"fingerprint": unit.fingerprint, "source": unit.source, "number": unit.number}
            note |= {"num_rows": writer.num_rows, "left_out": exclusions.as_json()}
            writer.commit(note)
        return UnitResult(
            source=unit.source,
            number=unit.number,
            num_rows=writer.num_rows,
            num_bytes=unit.path.stat().st_size,
            sha256=file_sha256(unit.path),
            left_out=exclusions.as_json(),
        )

    def _rows(
        self, sample: RawSample, loaded: LoadedPicture, source: str, exclusions: ExclusionCounts
    ) -> list[ShardSample]:
        if loaded.image is None:
            exclusions.add(loaded.cause, f"{sample.key}: {loaded.detail}" if loaded.detail else sample.key)
            return []
        if self.settings.crops or (sample.is_crop and not self.settings.redetect):
            return [self._passthrough_row(sample, loaded, source)]
        keep_all = self.settings.all_faces and not sample.mask.any() and not sample.action_units
        faces, cause = self._find(sample, loaded, all_faces=keep_all)
        if not faces:
            exclusions.add(cause, sample.key)
        rows = []
        for number, face in enumerate(faces, start=1):
            try:
                rows.append(self._face_row(sample, loaded, source, face=face, number=number if keep_all else 0))
            except InputError as error:
                exclusions.add("face cannot be cropped", f"{sample.key}: {error}")
        return rows

    def _find(self, sample: RawSample, loaded: LoadedPicture, *, all_faces: bool) -> tuple[list[Face], str]:
        """The faces to keep of a sample, and the cause if there is none."""
        assert loaded.image is not None
        picture = sample.picture
        if not isinstance(picture, VideoFrame):
            return self._finder.in_picture(loaded.image, box_xyxy=sample.box_xyxy, all_faces=all_faces)
        faces = self._finder.in_frame(loaded.image, film=picture.path, frame=picture.frame, time_s=loaded.time_s)
        height, width = loaded.image.shape[:2]
        return choose_faces(faces, width=width, height=height, box_xyxy=sample.box_xyxy, all_faces=all_faces)

    def _passthrough_row(self, sample: RawSample, loaded: LoadedPicture, source: str) -> ShardSample:
        """The row of a picture that is a crop already: with its original bytes if possible, else encoded as png."""
        assert loaded.image is not None
        data, suffix = loaded.original, loaded.suffix
        if data is None:
            data, suffix = encode_picture(loaded.image, jpeg_quality=None)
        height, width = loaded.image.shape[:2]
        box = np.array([0, 0, width, height], np.float32)
        return ShardSample(
            **_labels(sample, source, number=0),
            **_measures(loaded.image, loaded.image),
            image=data,
            image_path=_file_name(sample.key, suffix),
            width=width,
            height=height,
            margin=1.0,
            framing="whole",
            face_size_px=quality.face_size_px(box),
            sha256=hashlib.sha256(data).hexdigest(),
        )

    def _face_row(
        self, sample: RawSample, loaded: LoadedPicture, source: str, *, face: Face, number: int
    ) -> ShardSample:
        """The row of a detected face; the stored picture has `margin` times the side of the network's input frame."""
        assert loaded.image is not None
        crop = crop_with_margin(loaded.image, face=face, settings=self.settings)
        data, suffix = encode_picture(crop.image, jpeg_quality=self.settings.jpeg_quality)
        pose = quality.head_pose(face.landmarks) if face.landmarks is not None else None
        return ShardSample(
            **_labels(sample, source, number=number),
            **_measures(crop.image, crop.inner),
            image=data,
            image_path=_file_name(f"{sample.key}@{number}" if number else sample.key, suffix),
            width=crop.image.shape[1],
            height=crop.image.shape[0],
            margin=crop.margin,
            framing="face",
            box_xyxy=face.box_xyxy,
            landmarks=face.landmarks,
            frame_to_crop=crop.frame_to_crop,
            detection_score=face.score,
            face_size_px=quality.face_size_px(face.box_xyxy),
            yaw_deg=pose.yaw_deg if pose else None,
            pitch_deg=pose.pitch_deg if pose else None,
            roll_deg=pose.roll_deg if pose else None,
            sha256=hashlib.sha256(data).hexdigest(),
        )


def _labels(sample: RawSample, source: str, *, number: int) -> dict[str, Any]:
    au_targets, au_mask = action_unit_arrays(sample)
    return {
        "key": f"{sample.key}@{number}" if number else sample.key,
        "source": source,
        "group": sample.group,
        "split": sample.split,
        "class_name": sample.class_name,
        "targets": sample.targets,
        "mask": sample.mask,
        "au_targets": au_targets,
        "au_mask": au_mask,
        "frame": sample.picture.frame if isinstance(sample.picture, VideoFrame) else None,
        "face": number,
    }


def _measures(stored: Any, inner: Any) -> dict[str, Any]:
    """Quality measures of the network's input frame, and the perceptual hash of the stored picture."""
    return {
        "blur": quality.blur(inner),
        "darkness": quality.darkness(inner),
        "contrast": quality.contrast(inner),
        "phash": perceptual_hash(stored),
    }


def _file_name(key: str, suffix: str) -> str:
    """A file name for a sample: its key with special characters replaced, at most 120 characters and the suffix."""
    stem = key.rsplit(".", 1)[0] if Path(key).suffix.lower() in (".jpg", ".jpeg", ".png") else key
    return "".join(c if c.isalnum() or c in "-_@#=" else "_" for c in stem)[-120:] + suffix
