"""The protocol every face detector follows."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from femae.types import Face

__all__ = ["FaceDetector"]


class FaceDetector(Protocol):
    """Finds the faces of pictures at one scale, as they are given. Many threads may call one detector at once."""

    @property
    def name(self) -> str:
        """Kind of network in one word, for messages and tables."""

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Largest height and width in pixels that `detect` takes; None: any."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """u8[B, H, W, 3] RGB -> for each picture its faces by falling score, in pixels of that picture.

        A picture's faces do not depend on the others of the batch.
        """
