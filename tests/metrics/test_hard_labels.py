"""Hard labels from vote shares: one emotion or one pair."""

import numpy as np

from femae.metrics.hard_labels import top_emotion, top_expression, top_pair

PAIRS = [(1, 0), (3, 0), (4, 1)]


def shares(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32) / 10


def test_top_emotion() -> None:
    got = top_emotion(
        shares(
            [3, 2, 0, 1, 0, 1],  # three of ten, neutral 3: not above
            [4, 2, 0, 0, 0, 1],  # above neutral's 3
            [2, 2, 2, 2, 2, 0],  # fewer than three
            [0, 5, 0, 0, 5, 0],  # equal: the first in order
            [0, 0, 0, 0, 0, 0],  # neutral, or nothing at all
            [0, 0, 10, 0, 0, 0],
            [10, 10, 0, 0, 0, 0],  # two labels at once
        )
    )
    assert got.tolist() == [-1, 0, -1, 1, -1, 2, -1]


def test_top_emotion_needs_all_six_known_and_takes_neutral_where_it_is_given() -> None:
    rows = shares([4, 2, 0, 0, 0, 0], [4, 2, 0, 0, 0, 0])
    assert top_emotion(rows, neutral=np.array([0.4, 0.3])).tolist() == [-1, 0]
    mask = np.ones((2, 6), bool)
    mask[1, 5] = False
    assert top_emotion(rows, mask=mask, neutral=np.array([0.3, 0.3])).tolist() == [0, -1]


def test_top_pair() -> None:
    got = top_pair(
        shares(
            [5, 4, 1, 0, 0, 0],
            [4, 5, 1, 0, 0, 0],  # either order
            [6, 2, 0, 0, 0, 2],  # the second not above the third
            [8, 2, 0, 0, 0, 0],  # the second under 30 %
            [2, 1, 0, 0, 0, 0],  # too few votes
            [3, 0, 0, 3, 0, 0],  # neutral 4 above the first
            [0, 5, 5, 0, 0, 0],  # not of the class set
            [0, 3, 0, 0, 4, 0],
            [10, 10, 0, 0, 0, 0],  # a compound's label
        ),
        pairs=PAIRS,
    )
    assert got.tolist() == [0, 0, -1, -1, -1, -1, -1, 2, 0]


def test_top_expression() -> None:
    rows = shares(
        [0, 0, 0, 4, 0, 0],  # neutral 6
        [0, 0, 0, 5, 0, 0],  # neutral 5: unclear
        [0, 0, 0, 6, 0, 0],
        [0, 0, 1, 7, 0, 2],
        [5, 4, 1, 0, 0, 0],  # a pair of the set
        [0, 5, 5, 0, 0, 0],  # one that is not: unclear
        [6, 4, 0, 0, 0, 0],  # a pair, though one has six
        [0, 0, 0, 0, 0, 0],
        [10, 10, 0, 0, 0, 0],  # a compound's label
        [0, 10, 10, 0, 0, 0],  # of another set
    )
    assert top_expression(rows, pairs=PAIRS).tolist() == [0, -1, 4, 4, 7, -1, 7, 0, 7, -1]
    neutral = np.array([0.4, 0.5, 0.6, 0, 0, 0, 0, 0.3, 0, 0])
    assert top_expression(rows, pairs=PAIRS, neutral=neutral).tolist() == [-1, -1, 0, 4, 7, -1, 7, -1, 7, -1]
    mask = np.ones((10, 6), bool)
    mask[[2, 4], 5] = False
    assert top_expression(rows, pairs=PAIRS, mask=mask).tolist() == [0, -1, -1, 4, -1, -1, 7, 0, 7, -1]
