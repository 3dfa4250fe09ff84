"""The order of rows: no repetitions, no gaps, reproducible from any step."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs femae[train]")

from femae.training.loader.loader import BatchShare
from femae.training.loader.sampler import RowStream, StreamOrder, epoch_order, row_weights
from femae.training.loader.sets import RowMask


def test_an_epoch_shows_every_row_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(1000, seed=0, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(1000))
    assert orders[0].tolist() != orders[1].tolist()
    assert epoch_order(1000, seed=0, epoch=1).tolist() == orders[1].tolist()
    assert epoch_order(1000, seed=1, epoch=1).tolist() != orders[1].tolist()


def test_steps_run_through_the_epochs_without_a_gap() -> None:
    stream = RowStream(103, batch_size=16, seed=5)
    rows = np.concatenate([stream.rows(step) for step in range(stream.first_step(5))])
    for epoch in range(4):
        assert sorted(rows[103 * epoch : 103 * (epoch + 1)].tolist()) == list(range(103))
    assert [stream.first_step(epoch) for epoch in range(4)] == [0, 7, 13, 20]
    again = RowStream(103, batch_size=16, seed=5)
    assert again.rows(17).tolist() == rows[17 * 16 : 18 * 16].tolist()
    small = RowStream(5, batch_size=16, seed=0)
    assert len(small.rows(0)) == 16 and set(small.rows(0)) == set(range(5))


def test_blocks_stay_near_each_other_and_still_every_row_comes_once() -> None:
    blocks = np.repeat(np.arange(100), 20)
    order = epoch_order(2000, seed=0, epoch=0, blocks=np.arange(0, 2001, 20), window=4)
    assert sorted(order.tolist()) == list(range(2000))
    for start in range(0, 2000, 80):
        window = blocks[order[start : start + 80]]
        assert len(set(window.tolist())) == 4  # four blocks at a time
        assert len(set(window[:20].tolist())) > 1  # mixed among themselves
    assert order[:80].tolist() != sorted(order[:80].tolist())


@pytest.mark.parametrize("window", [1, 4, 16])
def test_the_order_of_a_stream_drawn_window_by_window_is_that_of_the_whole(window: int) -> None:
    """From any position on, for blocks of any size."""
    blocks = np.concatenate([[0], np.cumsum(np.random.default_rng(1).integers(1, 60, 50))])
    total = int(blocks[-1])
    for epoch in range(3):
        whole = epoch_order(total, seed=7, epoch=epoch, blocks=blocks, window=window)
        order = StreamOrder(blocks, seed=7, epoch=epoch, window=window)
        assert order[0 : total + 5].tolist() == whole.tolist()
        for first in (total - 3, 0, 517, 1):
            assert order[first : first + 100].tolist() == whole[first : first + 100].tolist()


@given(st.lists(st.booleans(), max_size=3000), st.randoms(use_true_random=False))
def test_chosen_rows_are_those_of_the_mask(mask: list[bool], random: Any) -> None:
    chosen, rows = RowMask.of(np.array(mask, np.bool_)), np.flatnonzero(mask)
    assert len(chosen) == len(rows)
    assert chosen[np.arange(len(rows))].tolist() == rows.tolist()
    assert np.concatenate([np.zeros(0, np.int64), *chosen.chunks()]).tolist() == rows.tolist()
    places = np.arange(len(mask) + 1) if mask else np.zeros(0, np.int64)
    assert chosen.before(places).tolist() == [sum(mask[:place]) for place in places]
    first = random.randrange(len(mask) + 1)
    assert chosen.mask(first, 700).tolist()[: len(mask) - first] == mask[first : first + 700]
    some = np.flatnonzero(np.arange(len(rows)) % 3 == 1)
    assert chosen.keep(some)[np.arange(len(some))].tolist() == rows[some].tolist()


def test_weights_give_each_row_its_share_rounded() -> None:
    weights = np.array([0.3, 1.0, 2.5] * 200)
    counts = np.bincount(epoch_order(600, seed=0, epoch=0, weights=weights), minlength=600)
    share = weights / weights.sum() * 600
    assert (counts >= np.floor(share)).all() and (counts <= np.ceil(share)).all()
    assert counts.sum() == 600


def test_rare_labels_weigh_more() -> None:
    shown = np.eye(6, dtype=np.float32)[[3] * 90 + [1] * 10]
    weights = row_weights(shown, balance=1.0)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())
    assert len(set(row_weights(shown, balance=0.0))) == 1
    none = np.concatenate([shown, np.zeros((900, 6), np.float32)])
    assert row_weights(none, balance=1.0)[100:].sum() == pytest.approx(row_weights(none, balance=1.0)[:90].sum())
    by_source = row_weights(shown, balance=0.0, source_weight=np.array([1.0] * 50 + [3.0] * 50))
    assert by_source[-1] / by_source[0] == pytest.approx(3)


@pytest.mark.parametrize(("world", "accumulate", "total"), [(1, 1, 16), (2, 1, 16), (3, 2, 17), (4, 1, 3)])
def test_processes_share_a_step_without_doubles_or_gaps(world: int, accumulate: int, total: int) -> None:
    pieces = [
        piece
        for rank in range(world)
        for piece in BatchShare(rank=rank, world_size=world, accumulate=accumulate).pieces(total)
    ]
    assert len(pieces) == world * accumulate
    covered = [row for first, count in pieces for row in range(first, first + count)]
    assert covered == list(range(total))
