"""One emotion or one pair from shares of votes."""

import numpy as np

from femae.metrics.hard_labels import top_emotion, top_pair

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
