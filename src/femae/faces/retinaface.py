"""RetinaFace (Deng et al. 2020): one network, any backbone, in the ONNX form of the common PyTorch export.

Three outputs over all anchors: box offsets [1, N, 4], class probabilities [1, N, 2] and landmark offsets [1, N, 10].
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from femae.errors import ModelError
from femae.faces.nms import nms
from femae.faces.onnx_net import OnnxNet, PixelFormat
from femae.types import Face

__all__ = ["DEFAULT_SCORE_THRESHOLD", "RetinaFace", "is_retinaface"]

DEFAULT_SCORE_THRESHOLD: Final = 0.7
_PIXELS: Final = PixelFormat(bgr=True, mean_rgb=(127.0, 117.0, 104.0), multiple=1)
_STRIDES: Final = (8, 16, 32)
_ANCHOR_PX: Final = np.array([[16, 32], [64, 128], [256, 512]], np.float32)
_CENTER_VARIANCE: Final = 0.1
_SIZE_VARIANCE: Final = 0.2


def num_anchors(height: int, width: int) -> list[int]:
    """Anchors of each stride for an input of this size: two in each cell, cells cut by the border counted."""
    return [2 * -(-height // stride) * -(-width // stride) for stride in _STRIDES]


def is_retinaface(net: OnnxNet) -> bool:
    """Whether the network's outputs are those of a RetinaFace."""
    expected = sum(num_anchors(*net.probe_hw))
    return sorted(net.output_shapes) == [(1, expected, 2), (1, expected, 4), (1, expected, 10)]


class RetinaFace:
    """Faces of about 12 to 500 pixels, with five landmarks."""

    name = "retinaface"

    def __init__(
        self, net: OnnxNet, *, score_threshold: float = DEFAULT_SCORE_THRESHOLD, nms_threshold: float = 0.4
    ) -> None:
        if not is_retinaface(net):
            raise ModelError(f"not a RetinaFace network: its outputs have the shapes {net.output_shapes}")
        self._net = net
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        widths = [shape[-1] for shape in net.output_shapes]
        self._order = [widths.index(width) for width in (4, 2, 10)]

    @property
    def input_hw(self) -> tuple[int, int] | None:
        return self._net.input_hw

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """u8[B, H, W, 3] RGB -> faces of each picture, by falling score."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        outputs, input_hw = self._net.run(image, pixels=_PIXELS)
        offsets, classes, points = (outputs[position][0] for position in self._order)
        probs = classes[:, 1]
        found = np.flatnonzero(probs > self._score_threshold)
        centers, sizes = _anchors(found, input_hw=input_hw)
        boxes = _decode_boxes(offsets[found], centers=centers, sizes=sizes)
        landmarks = centers[:, None] + points[found].reshape(-1, 5, 2) * (_CENTER_VARIANCE * sizes[:, None, None])
        scores = probs[found]
        return [
            Face(box_xyxy=boxes[one], landmarks=landmarks[one], score=float(scores[one]))
            for one in nms(boxes, scores, iou_threshold=self._nms_threshold)
        ]


def _anchors(
    positions: npt.NDArray[np.intp], *, input_hw: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Centres f32[K, 2] (x, y) and sides f32[K], in pixels, of the anchors at these positions of the outputs."""
    counts = num_anchors(*input_hw)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    levels = np.searchsorted(starts, positions, side="right") - 1
    strides = np.asarray(_STRIDES)[levels]
    cells, kinds = np.divmod(positions - starts[levels], 2)
    rows, columns = np.divmod(cells, -(-input_hw[1] // strides))
    centers = (np.stack([columns, rows], axis=1) + 0.5) * strides[:, None]
    return centers.astype(np.float32), _ANCHOR_PX[levels, kinds]


def _decode_boxes(
    offsets: npt.NDArray[np.float32], *, centers: npt.NDArray[np.float32], sizes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Offsets f32[K, 4] to anchors -> boxes f32[K, 4] in pixels."""
    middles = centers + offsets[:, :2] * (_CENTER_VARIANCE * sizes[:, None])
    halves = np.exp(offsets[:, 2:] * _SIZE_VARIANCE) * (sizes[:, None] / 2)
    return np.concatenate([middles - halves, middles + halves], axis=1)
