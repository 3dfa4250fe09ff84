"""Linear assignment, compared with scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from femae.faces.track import assign

costs = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=st.floats(0, 10, width=32))
)


@given(costs)
def test_the_cost_is_the_least_there_is(cost: np.ndarray) -> None:
    pairs = assign(cost)
    assert len(pairs) == min(cost.shape)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert pairs == sorted(pairs)
    rows, columns = linear_sum_assignment(cost)
    assert sum(cost[pair] for pair in pairs) == pytest.approx(cost[rows, columns].sum(), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 7), (7, 2), (40, 40)])
def test_where_only_one_is_cheapest_it_is_that_of_scipy(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        cost = rng.random(shape)
        rows, columns = linear_sum_assignment(cost)
        assert assign(cost) == list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_equal_costs_give_one_answer_and_nothing_gives_nothing() -> None:
    assert assign(np.ones((3, 3))) == assign(np.ones((3, 3)))
    assert assign(np.zeros((0, 4))) == assign(np.zeros((4, 0))) == []
    assert assign(np.array([[5.0, 1.0], [5.0, 1.0]])) in ([(0, 0), (1, 1)], [(0, 1), (1, 0)])
