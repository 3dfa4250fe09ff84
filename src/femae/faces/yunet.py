"""YuNet (Wu et al. 2023) in the ONNX form of OpenCV's model zoo (face_detection_yunet_2023mar and its kin).

For each stride 8, 16, 32 and one anchor in each cell: class and object scores [1, N, 1], whose geometric mean is the
score, boxes [1, N, 4] (middle in strides from the cell, logarithms of the sides) and five points [1, N, 10].
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from femae.errors import ModelError
from femae.faces.nms import nms
from femae.faces.onnx_net import OnnxNet, PixelFormat
from femae.types import Face

__all__ = ["YuNet"]

_PIXELS: Final = PixelFormat(bgr=True, mean_rgb=(0.0, 0.0, 0.0))
_STRIDES: Final = (8, 16, 32)


class YuNet:
    """Faces of about 10 to 300 pixels, with five landmarks."""

    name = "yunet"
    default_score_threshold = 0.7  # OpenCV's lie between 0.6 and 0.9

    def __init__(
        self, net: OnnxNet, *, score_threshold: float = default_score_threshold, nms_threshold: float = 0.3
    ) -> None:
        """Raises ModelError when the network's outputs are not those of a YuNet."""
        if not self.fits(net):
            raise ModelError(f"not a YuNet network: its outputs have the shapes {net.output_shapes}")
        self._net = net
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._positions = net.by_width(strides=_STRIDES, per_cell=1)

    @staticmethod
    def fits(net: OnnxNet) -> bool:
        """Whether the network's outputs are those of a YuNet."""
        positions = net.by_width(strides=_STRIDES, per_cell=1)
        counts = {width: [len(level) for level in levels] for width, levels in positions.items()}
        return counts == {1: [2, 2, 2], 4: [1, 1, 1], 10: [1, 1, 1]}

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
        return [
            Face(box_xyxy=boxes[one], landmarks=points[one].reshape(5, 2), score=float(scores[one]))
            for one in nms(boxes, scores, iou_threshold=self._nms_threshold)
        ]

    def _decode_level(
        self, outputs: list[npt.NDArray[np.float32]], *, level: int, width: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Scores f32[K], boxes f32[K, 4] and points f32[K, 10] in pixels, above the threshold."""
        stride = np.float32(_STRIDES[level])
        classes, objects = (np.clip(outputs[one].reshape(-1), 0, 1) for one in self._positions[1][level])
        scores = np.sqrt(classes * objects)
        found = np.flatnonzero(scores > self._score_threshold)
        rows, columns = np.divmod(found, width // _STRIDES[level])
        cells = np.stack([columns, rows], axis=1).astype(np.float32)
        raw = outputs[self._positions[4][level][0]].reshape(-1, 4)[found]
        middles, halves = (cells + raw[:, :2]) * stride, np.exp(raw[:, 2:]) * (stride / 2)
        points = (outputs[self._positions[10][level][0]].reshape(-1, 10)[found] + np.tile(cells, 5)) * stride
        return scores[found], np.concatenate([middles - halves, middles + halves], axis=1), points
