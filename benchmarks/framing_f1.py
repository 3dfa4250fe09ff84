"""The effect of the framing of a crop on F1: part of benchmarks/framing.py, which detects the faces."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ferplus_arrays import read_ferplus
from PIL import Image

from femae.engine.onnx import OnnxEngine
from femae.faces.crop import FERPLUS_FRAMING, Framing, crop_face
from femae.labels import EMOTIONS
from femae.types import Face

Picture = npt.NDArray[np.uint8]
Locate = Callable[[Sequence[Picture]], list[Face | None]]


class Judge:
    """Evaluates a trained model on crops of FER+ PublicTest in the six-emotion task.

    `locate` returns the face in each gray picture, in pixels. A picture without a face is used whole.
    """

    def __init__(self, folder: Path, model: Path, locate: Locate, *, limit: int | None) -> None:
        test = read_ferplus(folder, split="PublicTest")
        six = test.votes[:, :6]
        keep = (six.max(1) >= 3) & (six.max(1) > test.votes[:, 6]) & (test.votes[:, 9] == 0) & ~test.in_training
        self.pictures, self.top = test.pictures[keep][:limit], six[keep].argmax(1)[:limit]
        self.engine, self.locate = OnnxEngine(model), locate
        self.base: npt.NDArray[np.bool_] | None = None

    def rotated(self, angle_deg: float) -> list[Picture]:
        """The pictures rotated about their centre, mirrored beyond the border."""
        padded = [Image.fromarray(np.pad(picture, 48, mode="symmetric")) for picture in self.pictures]
        rotated = [np.asarray(picture.rotate(-angle_deg, Image.Resampling.BICUBIC)) for picture in padded]
        return [picture[48:96, 48:96] for picture in rotated]

    def crops(self, pictures: Sequence[Picture], faces: Sequence[Face | None], framing: Framing | None) -> Picture:
        size, crops = self.engine.spec.image_size, []
        for picture, face in zip(pictures, faces, strict=True):
            rgb = picture[..., None].repeat(3, 2)
            whole = face is None or framing is None
            crops.append(rgb if whole else crop_face(rgb, face=face, size=size, framing=framing).image)
        return np.stack(crops)

    def row(
        self, name: str, pictures: Sequence[Picture], faces: Sequence[Face | None], framing: Framing | None = None
    ) -> str:
        """A line of the table: macro-F1, accuracy, and its difference to the first line since `base` was reset."""
        crops = self.crops(pictures, faces, framing)
        probs = np.concatenate([self.engine.run(crops[i : i + 256])[0] for i in range(0, len(crops), 256)])
        pred, f1 = probs.argmax(1), []
        for j in range(len(EMOTIONS)):
            hits = int(((pred == j) & (self.top == j)).sum())
            f1.append(2 * hits / max(1, int((pred == j).sum() + (self.top == j).sum())))
        hit = pred == self.top
        self.base = hit if self.base is None else self.base
        gain = hit.astype(float) - self.base
        error = 100 * gain.std() / math.sqrt(len(gain))
        return f"| {name} | {np.mean(f1):.3f} | {hit.mean():.3f} | {100 * gain.mean():+.1f} +- {error:.1f} |"

    def table(self) -> list[str]:
        spec = self.engine.spec
        lines = [f"{len(self.top)} pictures of the six-emotion task, model {spec.name} {spec.version}.", ""]
        lines += ["| crop | macro-F1 | accuracy | against whole pictures, points |", "|---|---|---|---|"]
        pictures = list(self.pictures)
        faces = self.locate(pictures)
        plain = [face and Face(box_xyxy=face.box_xyxy, landmarks=None, score=face.score) for face in faces]
        default = FERPLUS_FRAMING
        lines.append(self.row("whole pictures", pictures, faces))
        lines.append(self.row("**detector crops, default framing**", pictures, faces, default))
        lines.append(self.row("box alone, no landmarks", pictures, plain, default))
        variants = {f"roll kept up to {keep} degrees": {"keep_roll_deg": keep} for keep in (180, 15, 10, 0)}
        for factor in (0.8, 0.9, 0.95, 1.05, 1.1, 1.25):
            variants[f"side x {factor}"] = {"side_per_box": default.side_per_box * factor}
        for weight in (0, 1):
            variants[f"eyes' share of the anchor {weight}"] = {"eyes_weight": weight}
        for lower in (-0.06, -0.03, 0.03, 0.06):
            moved = {"below_eyes": default.below_eyes + lower, "below_box": default.below_box + lower}
            variants[f"lower by {lower:+}"] = moved
        for name, values in variants.items():
            lines.append(self.row(name, pictures, faces, dataclasses.replace(default, **values)))
        for angle in (20, 30, 45):
            lines += self.rotated_rows(angle)
        return lines

    def rotated_rows(self, angle: int) -> list[str]:
        pictures, self.base = self.rotated(angle), None
        faces = self.locate(pictures)
        found = f"{100 * np.mean([face is not None for face in faces]):.0f} % found"
        lines = [self.row(f"turned by {angle} degrees ({found}): whole", pictures, faces)]
        for keep in (180, 15, 10, 5, 0):
            framing = dataclasses.replace(FERPLUS_FRAMING, keep_roll_deg=keep)
            lines.append(self.row(f"turned by {angle}: roll kept up to {keep}", pictures, faces, framing))
        return lines
