"""The stored picture of a face: the network's input frame in `predict`, with a margin of real pixels around it.

`predict` crops a square of `size` pixels from a picture (faces/crop.py). The stored picture is a larger crop with the
same centre, angle and resolution: before jpg its central `size` x `size` pixels equal those of `predict` to one gray
level (for heads that are rotated by more than 15 degrees: to one level on average). So augmentation finds real pixels
when it rotates, shifts or zooms out. With the default margin of 1.25 a frame of 112 is stored as 140: enough for any
rotation by 15 degrees (which needs 1.22), or a zoom out by 1.15 with a shift of 5 % of the frame; only extreme
combinations reach the border, which augmentation mirrors. Without a margin (1.0) nearly every rotation would fill
corners with mirrored pixels; 1.5 would cover every augmentation, for 1.44 times the disk space.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from femae.data.prepare.plan import PrepareSettings
from femae.faces.crop import Framing, crop_face
from femae.types import Face

__all__ = ["StoredCrop", "crop_with_margin", "widened"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCrop:
    """A face crop to store."""

    image: npt.NDArray[np.uint8]  # u8[S, S, 3] RGB
    inner: npt.NDArray[np.uint8]  # u8[size, size, 3]: its centre, the network's input frame in predict
    frame_to_crop: npt.NDArray[np.float32]  # f32[2, 3]: stored = M @ (x, y, 1) of the original picture
    margin: float  # S / size


def widened(framing: Framing, *, margin: float) -> Framing:
    """The framing of a square with the same centre and angle, `margin` times as wide."""
    return replace(
        framing,
        side_per_box=framing.side_per_box * margin,
        below_eyes=framing.below_eyes / margin,
        below_box=framing.below_box / margin,
    )


def crop_with_margin(image: npt.NDArray[np.uint8], *, face: Face, settings: PrepareSettings) -> StoredCrop:
    """Crop a face from a picture u8[H, W, 3] RGB. Raises InputError when its box cannot be cropped."""
    size = settings.size
    pad = round(size * (settings.margin - 1) / 2)  # whole pixels on each side
    side = size + 2 * pad
    framing = widened(Framing.from_json(settings.framing), margin=side / size)
    crop = crop_face(image, face=face, size=side, framing=framing)
    inner = np.ascontiguousarray(crop.image[pad : pad + size, pad : pad + size])
    return StoredCrop(image=crop.image, inner=inner, frame_to_crop=crop.frame_to_crop, margin=side / size)
