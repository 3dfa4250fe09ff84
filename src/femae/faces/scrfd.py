"""SCRFD (Guo et al. 2021) in InsightFace's ONNX form: six outputs, or nine with landmarks.

For each stride 8, 16, 32: scores [N, 1], distances to the four sides [N, 4] and five points [N, 10], in strides from
the upper left corner of the cell. Two anchors in each cell. Some files carry a leading batch axis.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from femae.errors import ModelError
from femae.faces.nms import nms
from femae.faces.onnx_net import OnnxNet, PixelFormat
from femae.types import Face

__all__ = ["SCRFD"]

_PIXELS: Final = PixelFormat(bgr=False, mean_rgb=(127.5, 127.5, 127.5), scale=1 / 128)
_STRIDES: Final = (8, 16, 32)
_PER_CELL: Final = 2


class SCRFD:
    """Faces with five landmarks, or without where the file has none."""

    name = "scrfd"
    default_score_threshold = 0.5  # InsightFace's own

    def __init__(
        self, net: OnnxNet, *, score_threshold: float = default_score_threshold, nms_threshold: float = 0.4
    ) -> None:
        """Raises ModelError when the network's outputs are not those of an SCRFD."""
        if not self.fits(net):
            raise ModelError(f"not an SCRFD network: its outputs have the shapes {net.output_shapes}")
        self._net = net
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._positions = net.by_width(strides=_STRIDES, per_cell=_PER_CELL)

    @staticmethod
    def fits(net: OnnxNet) -> bool:
        """Whether the network's outputs are those of an SCRFD."""
        positions = net.by_width(strides=_STRIDES, per_cell=_PER_CELL)
        one_each = all(len(level) == 1 for levels in positions.values() for level in levels)
        return one_each and set(positions) in ({1, 4}, {1, 4, 10})

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Height and width that the file fixes; None: any."""
        return self._net.input_hw

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """u8[B, H, W, 3] RGB -> faces of each picture, by falling score."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        outputs, input_hw = self._net.run(image, pixels=_PIXELS)
        rows = [self._decode_level(outputs, level=level, width=input_hw[1]) for level in range(len(_STRIDES))]
        scores, boxes, points = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        has_points = 10 in self._positions
        return [
            Face(
                box_xyxy=boxes[one],
                landmarks=points[one].reshape(5, 2) if has_points else None,
                score=float(scores[one]),
            )
            for one in nms(boxes, scores, iou_threshold=self._nms_threshold)
        ]

    def _decode_level(
        self, outputs: list[npt.NDArray[np.float32]], *, level: int, width: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scores f32[K], boxes f32[K, 4] and points f32[K, 10] (or [K, 0]) in pixels, above the threshold."""
        stride = np.float32(_STRIDES[level])
        scores = outputs[self._positions[1][level][0]].reshape(-1)
        found = np.flatnonzero(scores > self._score_threshold)
        rows, columns = np.divmod(found // _PER_CELL, width // _STRIDES[level])
        corners = np.stack([columns, rows], axis=1).astype(np.float32) * stride
        sides = outputs[self._positions[4][level][0]].reshape(-1, 4)[found] * stride
        boxes = np.concatenate([corners - sides[:, :2], corners + sides[:, 2:]], axis=1)
        if 10 not in self._positions:
            return scores[found], boxes, np.zeros((len(found), 0), np.float32)
        points = outputs[self._positions[10][level][0]].reshape(-1, 10)[found] * stride + np.tile(corners, 5)
        return scores[found], boxes, points
