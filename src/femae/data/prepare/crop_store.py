"""The stored picture of a face: the frame that `predict` feeds to the network, and a margin of real pixels around it.

`predict` cuts a square of `size` pixels out of a picture (faces/crop.py). The stored picture is the same cut with the
same centre, angle and resolution, only wider: its middle `size` x `size` pixels are those that `predict` would feed,
before jpg to one gray level (heads that are turned back from a tilt of over 15 degrees: to one level on average).
Augmentation then finds real pixels where it turns, shifts or zooms out. With the default margin of 1.25 a frame of 112
is stored as 140: enough for any rotation by 15 degrees (which needs 1.22), or a zoom out by 1.15 with a shift of 5 % of
the frame; only extreme draws of all at once reach the border, which augmentation mirrors. None at all (1.0) would fill
corners with mirrored pixels at nearly every rotation; 1.5 would cover every draw, for 1.44 times the disk.
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
    """A picture to store."""

    image: npt.NDArray[np.uint8]  # u8[S, S, 3] RGB
    inner: npt.NDArray[np.uint8]  # u8[size, size, 3]: its middle, what predict would feed
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
    """Cut a face out of a picture u8[H, W, 3] RGB. Raises InputError when its box cannot be cropped."""
    size = settings.size
    pad = round(size * (settings.margin - 1) / 2)  # whole pixels on each side
    side = size + 2 * pad
    framing = widened(Framing.from_json(settings.framing), margin=side / size)
    crop = crop_face(image, face=face, size=side, framing=framing)
    inner = np.ascontiguousarray(crop.image[pad : pad + size, pad : pad + size])
    return StoredCrop(image=crop.image, inner=inner, frame_to_crop=crop.frame_to_crop, margin=side / size)
