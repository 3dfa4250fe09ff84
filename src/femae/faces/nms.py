"""Non-maximum suppression of overlapping boxes, and the overlap measures that it needs."""

import numpy as np
import numpy.typing as npt

__all__ = ["group_overlapping", "iou_of_one", "nms", "share_inside"]

_Boxes = npt.NDArray[np.float32]
_Areas = npt.NDArray[np.float64]  # areas of tiny boxes would underflow in float32


def _areas(boxes_xyxy: npt.NDArray[np.floating]) -> _Areas:
    """Areas f64[...] of boxes f[..., 4], 0 for empty ones."""
    boxes = boxes_xyxy.astype(np.float64)
    return np.asarray(np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1), np.float64)


def _shared_areas(boxes_xyxy: _Boxes, box_xyxy: _Boxes) -> _Areas:
    """Areas f64[N] of the intersections of boxes f32[N, 4] with one box f32[4]."""
    low = np.maximum(boxes_xyxy[:, :2], box_xyxy[:2])
    high = np.minimum(boxes_xyxy[:, 2:], box_xyxy[2:])
    return _areas(np.concatenate([low, high], axis=1))


def iou_of_one(box_xyxy: _Boxes, boxes_xyxy: _Boxes) -> _Boxes:
    """Intersection over union f32[N], 0..1, of one box f32[4] with boxes f32[N, 4]; 0 for empty boxes."""
    shared = _shared_areas(boxes_xyxy, box_xyxy)
    union = _areas(boxes_xyxy) + _areas(box_xyxy) - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float64).tiny), np.float32)


def share_inside(boxes_xyxy: _Boxes, box_xyxy: _Boxes) -> _Boxes:
    """Fraction f32[N], 0..1, of each box f32[N, 4] that lies inside one box f32[4]; 0 for empty boxes."""
    shares = _shared_areas(boxes_xyxy, box_xyxy) / np.maximum(_areas(boxes_xyxy), np.finfo(np.float64).tiny)
    return np.asarray(shares, np.float32)


def group_overlapping(
    boxes_xyxy: _Boxes, scores: npt.NDArray[np.float32], *, iou_threshold: float
) -> list[npt.NDArray[np.intp]]:
    """Group overlapping boxes: indices of each group, its best box first; groups by descending score of that box.

    boxes_xyxy f32[N, 4] in pixels, scores f32[N]. A box joins the group of the best box with which its intersection
    over union exceeds `iou_threshold`. Ties are broken by position, so the result is deterministic. Costs one pass over
    the remaining boxes for each group.
    """
    rest = np.argsort(-scores, kind="stable")
    groups: list[npt.NDArray[np.intp]] = []
    while rest.size:
        joins = iou_of_one(boxes_xyxy[rest[0]], boxes_xyxy[rest]) > iou_threshold
        joins[0] = True  # an empty box, too, belongs to its own group
        groups.append(rest[joins])
        rest = rest[~joins]
    return groups


def nms(boxes_xyxy: _Boxes, scores: npt.NDArray[np.float32], *, iou_threshold: float) -> npt.NDArray[np.intp]:
    """Indices of the boxes to keep, by descending score: the best box of each group of `group_overlapping`."""
    groups = group_overlapping(boxes_xyxy, scores, iou_threshold=iou_threshold)
    return np.asarray([group[0] for group in groups], np.intp)
