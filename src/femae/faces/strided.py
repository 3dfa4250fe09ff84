"""SCRFD and YuNet: detectors with separate outputs for the cells of strides 8, 16 and 32.

SCRFD (Guo et al. 2021) in InsightFace's ONNX form has six outputs, or nine with landmarks. For each stride, with two
anchors per cell: scores [N, 1], distances to the four sides [N, 4] and five landmarks [N, 10], in units of the stride
and relative to the upper left corner of the cell. Some files have a leading batch axis.

YuNet (Wu et al. 2023) in the form of OpenCV's model zoo (face_detection_yunet_2023mar and similar) has twelve outputs.
For each stride, with one anchor per cell: class and object scores [1, N, 1], whose geometric mean is the score, boxes
[1, N, 4] (centre in strides relative to the cell, logarithms of the sides) and five landmarks [1, N, 10].
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from femae.errors import ModelError
from femae.faces.nms import nms
from femae.faces.onnx_net import OnnxNet, PixelFormat
from femae.types import Face

__all__ = ["SCRFD", "YuNet"]

_STRIDES: Final = (8, 16, 32)

_Floats = npt.NDArray[np.float32]


class _Strided(ABC):
    """Base class: decodes the detections of each stride above a threshold, and applies non-maximum suppression."""

    name: ClassVar[str]
    default_score_threshold: ClassVar[float]
    _title: ClassVar[str]  # with an article, for messages
    _pixels: ClassVar[PixelFormat]
    _per_cell: ClassVar[int]  # anchors
    _nms_threshold: ClassVar[float]

    def __init__(self, net: OnnxNet, *, score_threshold: float | None = None) -> None:
        """`score_threshold` 0..1; None: default_score_threshold. Raises ModelError for a network of another kind."""
        if not self.fits(net):
            raise ModelError(f"not {self._title} network: its outputs have the shapes {net.output_shapes}")
        self._net = net
        self._score_threshold = self.default_score_threshold if score_threshold is None else score_threshold
        self._positions = net.by_width(strides=_STRIDES, per_cell=self._per_cell)

    @classmethod
    def fits(cls, net: OnnxNet) -> bool:
        """Whether the network's outputs are those of this kind."""
        positions = net.by_width(strides=_STRIDES, per_cell=cls._per_cell)
        return cls._counts_fit({width: [len(level) for level in levels] for width, levels in positions.items()})

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Height and width fixed by the file; None: any."""
        return self._net.input_hw

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """Faces of each picture of u8[B, H, W, 3] RGB, by descending score."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        outputs, input_hw = self._net.run(image, pixels=self._pixels)
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

    def _decode_level(self, outputs: list[_Floats], *, level: int, width: int) -> tuple[_Floats, _Floats, _Floats]:
        """Scores f32[K], boxes f32[K, 4] and landmarks f32[K, 10] (or [K, 0]), in pixels, above the threshold."""
        scores = self._scores([outputs[one].reshape(-1) for one in self._positions[1][level]])
        found = np.flatnonzero(scores > self._score_threshold)
        rows, columns = np.divmod(found // self._per_cell, width // _STRIDES[level])
        cells, stride = np.stack([columns, rows], axis=1).astype(np.float32), np.float32(_STRIDES[level])
        boxes = self._boxes(outputs[self._positions[4][level][0]].reshape(-1, 4)[found], cells, stride)
        if 10 not in self._positions:
            return scores[found], boxes, np.zeros((len(found), 0), np.float32)
        raw = outputs[self._positions[10][level][0]].reshape(-1, 10)[found]
        return scores[found], boxes, (raw + np.tile(cells, 5)) * stride

    @staticmethod
    @abstractmethod
    def _counts_fit(counts: dict[int, list[int]]) -> bool:
        """Whether these are the outputs of this kind: their number for each width and stride."""

    @staticmethod
    @abstractmethod
    def _scores(heads: list[_Floats]) -> _Floats:
        """Scores f32[N], 0..1, from the outputs f32[N] of width 1."""

    @staticmethod
    @abstractmethod
    def _boxes(raw: _Floats, cells: _Floats, stride: np.float32) -> _Floats:
        """Boxes f32[K, 4] in pixels from the outputs f32[K, 4] and their cells f32[K, 2] (column, row)."""


class SCRFD(_Strided):
    """Detects faces with five landmarks, or without for files that have no landmark outputs."""

    name = "scrfd"
    default_score_threshold = 0.5  # InsightFace's default
    _title = "an SCRFD"
    _pixels = PixelFormat(bgr=False, mean_rgb=(127.5, 127.5, 127.5), scale=1 / 128)
    _per_cell = 2
    _nms_threshold = 0.4

    @staticmethod
    def _counts_fit(counts: dict[int, list[int]]) -> bool:
        one_each = all(count == [1, 1, 1] for count in counts.values())
        return one_each and set(counts) in ({1, 4}, {1, 4, 10})

    @staticmethod
    def _scores(heads: list[_Floats]) -> _Floats:
        return heads[0]

    @staticmethod
    def _boxes(raw: _Floats, cells: _Floats, stride: np.float32) -> _Floats:
        return np.concatenate([cells - raw[:, :2], cells + raw[:, 2:]], axis=1) * stride


class YuNet(_Strided):
    """Detects faces of about 10 to 300 pixels, with five landmarks."""

    name = "yunet"
    default_score_threshold = 0.7  # OpenCV's samples use 0.6 to 0.9
    _title = "a YuNet"
    _pixels = PixelFormat(bgr=True, mean_rgb=(0.0, 0.0, 0.0))
    _per_cell = 1
    _nms_threshold = 0.3

    @staticmethod
    def _counts_fit(counts: dict[int, list[int]]) -> bool:
        return counts == {1: [2, 2, 2], 4: [1, 1, 1], 10: [1, 1, 1]}

    @staticmethod
    def _scores(heads: list[_Floats]) -> _Floats:
        classes, objects = (np.clip(head, 0, 1) for head in heads)
        scores: _Floats = np.sqrt(classes * objects)
        return scores

    @staticmethod
    def _boxes(raw: _Floats, cells: _Floats, stride: np.float32) -> _Floats:
        middles, halves = (cells + raw[:, :2]) * stride, np.exp(raw[:, 2:]) * (stride / 2)
        return np.concatenate([middles - halves, middles + halves], axis=1)
