"""Non-maximum suppression: of overlapping boxes, only the best stays."""

import numpy as np
import numpy.typing as npt

__all__ = ["group_overlapping", "iou_of_one", "nms", "share_inside"]

_Boxes = npt.NDArray[np.float32]
_Areas = npt.NDArray[np.float64]  # of boxes however small: their products would vanish in 32 bits


def _areas(boxes_xyxy: npt.NDArray[np.floating]) -> _Areas:
    """f[..., 4] -> f64[...], 0 for empty boxes."""
    boxes = boxes_xyxy.astype(np.float64)
    return np.asarray(np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1), np.float64)


def _shared_areas(boxes_xyxy: _Boxes, box_xyxy: _Boxes) -> _Areas:
    """Areas f64[N] that boxes f32[N, 4] have in common with one box f32[4]."""
    low = np.maximum(boxes_xyxy[:, :2], box_xyxy[:2])
    high = np.minimum(boxes_xyxy[:, 2:], box_xyxy[2:])
    return _areas(np.concatenate([low, high], axis=1))


def iou_of_one(box_xyxy: _Boxes, boxes_xyxy: _Boxes) -> _Boxes:
    """Intersection over union of one box f32[4] with many f32[N, 4] -> f32[N], 0..1; empty boxes give 0."""
    shared = _shared_areas(boxes_xyxy, box_xyxy)
    union = _areas(boxes_xyxy) + _areas(box_xyxy) - shared
    return np.asarray(shared / np.maximum(union, np.finfo(np.float64).tiny), np.float32)


def share_inside(boxes_xyxy: _Boxes, box_xyxy: _Boxes) -> _Boxes:
    """Share of each box f32[N, 4] that lies inside one box f32[4] -> f32[N], 0..1; empty boxes give 0."""
    shares = _shared_areas(boxes_xyxy, box_xyxy) / np.maximum(_areas(boxes_xyxy), np.finfo(np.float64).tiny)
    return np.asarray(shares, np.float32)


def group_overlapping(
    boxes_xyxy: _Boxes, scores: npt.NDArray[np.float32], *, iou_threshold: float
) -> list[npt.NDArray[np.intp]]:
    """Positions of boxes, grouped: the best one of each group first, groups by falling score of their best.

    boxes_xyxy f32[N, 4] in pixels, scores f32[N]. A box joins the group of the best box with which its intersection
    over union is above `iou_threshold`. Of equal scores the earlier is the better, so the result is always the same.
    The cost is one pass over the remaining boxes for each group.
    """
    rest = np.argsort(-scores, kind="stable")
    groups: list[npt.NDArray[np.intp]] = []
    while rest.size:
        joins = iou_of_one(boxes_xyxy[rest[0]], boxes_xyxy[rest]) > iou_threshold
        joins[0] = True  # also an empty box belongs to its own group
        groups.append(rest[joins])
        rest = rest[~joins]
    return groups


def nms(boxes_xyxy: _Boxes, scores: npt.NDArray[np.float32], *, iou_threshold: float) -> npt.NDArray[np.intp]:
    """Positions of the boxes that stay, by falling score: the best one of each group of group_overlapping."""
    groups = group_overlapping(boxes_xyxy, scores, iou_threshold=iou_threshold)
    return np.asarray([group[0] for group in groups], np.intp)
