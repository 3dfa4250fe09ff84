"""Non-maximum suppression against a plain double loop."""

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from femae.faces.nms import group_overlapping, iou_of_one, nms, share_inside


def slow_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    width = max(0.0, float(min(a[2], b[2]) - max(a[0], b[0])))
    height = max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
    areas = [max(0.0, float(c[2] - c[0])) * max(0.0, float(c[3] - c[1])) for c in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


def slow_nms(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], threshold: float) -> list[int]:
    kept: list[int] = []
    for one in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(slow_iou(boxes[one], boxes[better]) <= threshold for better in kept):
            kept.append(one)
    return kept


def random_boxes(seed: int, *, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.choice(np.linspace(0, 1, 6), count).astype(np.float32)  # with equal scores


@given(seed=st.integers(0, 10_000), count=st.integers(0, 40), threshold=st.sampled_from([0.2, 0.4, 0.7]))
@settings(max_examples=60, deadline=None)
def test_it_keeps_what_a_double_loop_keeps(seed: int, count: int, threshold: float) -> None:
    boxes, scores = random_boxes(seed, count=count)
    assert nms(boxes, scores, iou_threshold=threshold).tolist() == slow_nms(boxes, scores, threshold)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_groups_share_out_all_boxes(seed: int, count: int) -> None:
    boxes, scores = random_boxes(seed, count=count)
    groups = group_overlapping(boxes, scores, iou_threshold=0.4)
    assert sorted(np.concatenate(groups).tolist()) == list(range(count))
    for group in groups:
        assert scores[group[0]] == scores[group].max()
        assert all(slow_iou(boxes[group[0]], boxes[one]) > 0.4 for one in group[1:])


@given(arrays.arrays(np.float32, (5, 4), elements=st.floats(-100, 100, width=32)))
@settings(max_examples=40, deadline=None)
def test_overlap_is_between_nothing_and_all(boxes: npt.NDArray[np.float32]) -> None:
    overlaps = iou_of_one(boxes[0], boxes)
    assert overlaps.dtype == np.float32 and (overlaps >= 0).all() and (overlaps <= 1 + 1e-5).all()
    assert overlaps == pytest.approx([slow_iou(boxes[0], box) for box in boxes], abs=1e-3)


def test_the_share_of_a_box_inside_another() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [2, 2, 4, 4], [20, 0, 30, 10], [3, 3, 3, 9]], np.float32)
    np.testing.assert_allclose(share_inside(boxes, boxes[0]), [1, 0.25, 1, 0, 0])


def test_nothing_stays_nothing() -> None:
    assert nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), iou_threshold=0.4).tolist() == []


def test_boxes_however_small_overlap_as_large_ones_do() -> None:
    large = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [8, 8, 9, 9]], np.float32)
    for scale in (1e-20, 1e-40, 1e-44):
        small = (large * np.float64(scale)).astype(np.float32)
        expected = [slow_iou(small[0], box) for box in small]
        assert iou_of_one(small[0], small) == pytest.approx(expected, rel=1e-6)
        assert iou_of_one(small[0], small)[0] == 1 and share_inside(small, small[0])[0] == 1
