"""From a decoded frame to the RGB picture a viewer sees: colours, alpha, rotation and mirroring.

Colours follow the tags of the stream (BT.601, BT.709, BT.2020; limited or full range); an untagged stream is read as
BT.601, limited range, as FFmpeg does. Transfer curves are left alone: HDR films come out flat, not tone-mapped.
"""

import struct
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, VideoReformatter

__all__ = ["RgbConverter", "as_fraction", "orient", "orientation_of"]

# Display matrix [[a, b], [c, d]]: pixel (x, y) is shown at (a x + c y, b x + d y).
Orientation = tuple[int, int, int, int]
_UPRIGHT: Final[Orientation] = (1, 0, 0, 1)
_BY_ROTATION: Final[dict[int, Orientation]] = {  # degrees counter-clockwise
    0: _UPRIGHT,
    90: (0, -1, 1, 0),
    180: (-1, 0, 0, -1),
    270: (0, 1, -1, 0),
}

# Limited-range gray (16..235) to 0..255; the scaler leaves the range of gray frames as it is.
_EXPAND_GRAY: Final = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class RgbConverter:
    """Turns decoded frames into u8[H, W, 3] RGB; keep one per film, so that the scaler's tables are made once."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._has_alpha: dict[str, bool] = {}
        self._turned: tuple[int, Orientation] | None = None  # rotation and orientation of the frame last asked

    def __call__(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """Picture as displayed, u8[H, W, 3] RGB; where it is transparent, white shows through."""
        name = frame.format.name
        if name not in self._has_alpha:
            self._has_alpha[name] = any(component.is_alpha for component in frame.format.components)
        if self._has_alpha[name]:
            picture = _over_white(np.asarray(self._scaler.reformat(frame, format="rgba", threads=1).to_ndarray()))
        else:
            picture = np.asarray(self._scaler.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)
        if name.startswith("gray") and frame.color_range == ColorRange.MPEG:
            picture = _EXPAND_GRAY[picture]
        return orient(picture, self._orientation_of(frame))

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        """As orientation_of, asked again only where the rotation changes.

        A frame whose side data were looked at holds itself alive until Python's collector comes (PyAV 18): of a film of
        4K that was a gigabyte.
        """
        if self._turned is None or self._turned[0] != frame.rotation:
            self._turned = (frame.rotation, orientation_of(frame))
        return self._turned[1]


def _over_white(rgba: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """u8[H, W, 4] -> u8[H, W, 3]. Alpha that is 0 all over carries no meaning (32-bit AVI) and is not applied."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255 or alpha.max() == 0:
        return np.ascontiguousarray(rgb)
    weighted = rgb.astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return np.asarray((weighted + 127) // 255, np.uint8)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """How the file wants the frame to be turned or mirrored, to the nearest quarter turn."""
    try:
        side_data: Any = frame.side_data
        matrix = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return _UPRIGHT
    except ValueError:  # a kind of side data that PyAV does not know stands beside it
        return _BY_ROTATION[round(frame.rotation / 90) * 90 % 360]
    a, b, _, c, d = struct.unpack("9i", bytes(matrix))[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def orient(picture: npt.NDArray[np.uint8], orientation: Orientation) -> npt.NDArray[np.uint8]:
    """Turn u8[H, W, 3] by whole quarter turns, exactly; u8[W, H, 3] for the odd ones."""
    if orientation == _UPRIGHT:
        return picture
    a, b, c, d = orientation
    if a == 0:
        picture = picture.transpose(1, 0, 2)  # [W, H, 3]
    flip_x, flip_y = (c if a == 0 else a) < 0, (b if a == 0 else d) < 0
    return np.ascontiguousarray(picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def as_fraction(value: Any) -> Fraction | None:
    """PyAV's rational (a Fraction or its own type, by version) as a Fraction; None where it is unset or zero."""
    if not value:
        return None
    return Fraction(value.numerator, value.denominator)
