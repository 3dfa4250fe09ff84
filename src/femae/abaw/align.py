"""Which frame of a film a row of the organisers' template means.

Extracting the frames of the 56 videos with another tool gives one frame more or fewer in fifteen of them, and which
frame is the odd one is not known. So the choice is the user's.
"""

from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from femae.errors import DataError

__all__ = ["Alignment", "align_frames"]

Alignment = Literal["clip", "shift", "nearest"]
_WAYS: Final = get_args(Alignment)


def align_frames(
    wanted: npt.NDArray[np.int64], *, num_frames: int, way: Alignment, tolerance: int, name: str
) -> npt.NDArray[np.int64]:
    """The frame i64[M] of the film, 1 .. num_frames, for each wanted frame i64[M] of the template.

    The template's film is as long as its largest wanted frame. clip: the films begin together; what the film has more
    is dropped, what it lacks is its last frame again. shift: they end together, the same at the start. nearest: both
    are stretched over the same time. Raises DataError when the lengths differ by more than `tolerance` frames.
    """
    assert way in _WAYS and num_frames >= 1 and len(wanted)
    length = int(wanted.max())
    more = num_frames - length
    if abs(more) > tolerance:
        raise DataError(
            f"{name} has {num_frames} frames and the template {length}: is it the right film? To align them all the "
            f"same, give --tolerance {abs(more)}"
        )
    if more == 0 or way == "clip":
        frames = wanted
    elif way == "shift":
        frames = wanted + more
    else:
        frames = 1 + np.floor((wanted - 0.5) * num_frames / length).astype(np.int64)
    return np.clip(frames, 1, num_frames)
