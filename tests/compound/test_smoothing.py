"""Smoothing and gap filling: properties, and values computed by hand."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femae.compound.smoothing import interpolate_gaps, smooth
from femae.errors import ConfigError

Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


@st.composite
def series(draw: st.DrawFn) -> tuple[Times, Floats]:
    """Ascending times with irregular steps (some 0, some long) and one row of six values for each."""
    steps = draw(st.lists(st.sampled_from([0.0, 0.033, 0.04, 0.1, 0.37, 2.0]), max_size=25))
    times = np.cumsum([draw(st.floats(0, 100)), *steps])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return times, rng.random((len(times), 6), np.float32)


few = settings(max_examples=40, deadline=None)
WINDOWS = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 5.0])


@few
@given(data=series())
def test_window_zero_changes_nothing(data: tuple[Times, Floats]) -> None:
    times, probs = data
    smoothed = smooth(times, probs, window_s=0)
    np.testing.assert_array_equal(smoothed, probs)
    assert smoothed is not probs


@few
@given(data=series(), window=WINDOWS, value=st.floats(0, 1, width=32))
def test_constant_stays_constant(data: tuple[Times, Floats], window: float, value: float) -> None:
    times, probs = data
    constant = np.full_like(probs, value)
    np.testing.assert_array_equal(smooth(times, constant, window_s=window), constant)


@few
@given(data=series(), window=WINDOWS)
def test_equals_a_plain_computation(data: tuple[Times, Floats], window: float) -> None:
    times, probs = data
    smoothed = smooth(times, probs, window_s=window)
    assert smoothed.dtype == np.float32 and smoothed.shape == probs.shape
    if window == 0:
        return
    for i, time in enumerate(times):
        total, mean = 0.0, np.zeros(6)
        for j, other in enumerate(times):
            away = (other - time) / window
            weight = max(math.exp(-2 * away * away) - math.exp(-2), 0.0) if abs(away) < 1 else 0.0
            total += weight
            mean += weight * probs[j].astype(np.float64)
        np.testing.assert_allclose(smoothed[i], mean / total, atol=2e-7)


@few
@given(data=series(), window=WINDOWS)
def test_stays_within_the_range_of_its_neighbours(data: tuple[Times, Floats], window: float) -> None:
    times, probs = data
    smoothed = smooth(times, probs, window_s=window)
    for i, time in enumerate(times):
        near = probs[np.abs(times - time) <= window]
        assert np.all(smoothed[i] >= near.min(axis=0)) and np.all(smoothed[i] <= near.max(axis=0))


@few
@given(data=series(), window=WINDOWS)
def test_time_may_run_backwards(data: tuple[Times, Floats], window: float) -> None:
    times, probs = data
    forwards = smooth(times, probs, window_s=window)
    backwards = smooth(-times[::-1], probs[::-1], window_s=window)[::-1]
    np.testing.assert_allclose(forwards, backwards, atol=2e-7)


@few
@given(data=series(), window=st.sampled_from([0.1, 0.5, 1.0]))
def test_nothing_is_mixed_across_a_gap_of_a_window(data: tuple[Times, Floats], window: float) -> None:
    times, probs = data
    later = times + (times[-1] - times[0]) + window + 1e-6  # the same series again, one window after its end
    both = smooth(np.concatenate([times, later]), np.concatenate([probs, 1 - probs]), window_s=window)
    np.testing.assert_array_equal(both[: len(times)], smooth(times, probs, window_s=window))


def test_irregular_times_weigh_by_seconds_and_not_by_frames() -> None:
    times = np.array([0.0, 0.09, 0.1, 0.11, 0.3])
    probs = np.zeros((5, 6), np.float32)
    probs[4] = 1
    smoothed = smooth(times, probs, window_s=0.4)
    weights = np.exp(-2 * ((times - 0.1) / 0.4) ** 2) - math.exp(-2)
    np.testing.assert_allclose(smoothed[2], weights[4] / weights.sum(), rtol=1e-6)


def test_jitter_of_presentation_times_shows_only_as_jitter() -> None:
    """Times rounded to milliseconds, as in Matroska, with the window's edge on the grid of frames."""
    exact = np.arange(300) / 30
    rng = np.random.default_rng(3)
    probs = rng.random((300, 6), np.float32)
    smoothed, rounded = (smooth(times, probs, window_s=0.1) for times in (exact, exact.round(3)))
    np.testing.assert_allclose(smoothed, rounded, atol=5e-3)


def test_smoothing_quietens_noise() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(250) / 25
    truth = 0.5 + 0.3 * np.sin(times)[:, None].repeat(6, axis=1)
    noisy = (truth + rng.normal(0, 0.05, truth.shape)).astype(np.float32)
    before, after = (np.abs(values - truth).mean() for values in (noisy, smooth(times, noisy, window_s=0.5)))
    assert after < 0.5 * before


def test_no_samples() -> None:
    smoothed = smooth(np.zeros(0), np.zeros((0, 6), np.float32), window_s=1)
    assert smoothed.shape == (0, 6)
    filled, known = interpolate_gaps(np.zeros(0), np.zeros((0, 6), np.float32), np.zeros(0, bool), max_gap_s=1)
    assert filled.shape == (0, 6) and known.shape == (0,)


@pytest.mark.parametrize("seconds", [-1, math.nan])
def test_wrong_seconds_are_refused(seconds: float) -> None:
    times, probs = np.arange(3.0), np.zeros((3, 6), np.float32)
    with pytest.raises(ConfigError, match="expected 0 or more seconds"):
        smooth(times, probs, window_s=seconds)
    with pytest.raises(ConfigError, match="expected 0 or more seconds"):
        interpolate_gaps(times, probs, np.ones(3, bool), max_gap_s=seconds)


def rows(*values: float) -> Floats:
    return np.array(values, np.float32)[:, None].repeat(6, axis=1)


def test_gap_is_filled_in_proportion_to_time() -> None:
    times = np.array([0.0, 0.1, 0.4, 0.5])
    filled, known = interpolate_gaps(times, rows(0, 9, 9, 1), np.array([True, False, False, True]), max_gap_s=0.5)
    np.testing.assert_allclose(filled, rows(0, 0.2, 0.8, 1), atol=1e-7)
    assert known.all()


def test_gap_is_measured_between_the_known_sides() -> None:
    times = np.arange(6) * 0.04 + 12.34  # not exact in binary: 0.2 s between the outer two
    known = np.array([True, False, False, False, False, True])
    for max_gap, is_filled in ((0.2, True), (0.19, False), (0.0, False), (math.inf, True)):
        filled, now_known = interpolate_gaps(times, rows(0, 0, 0, 0, 0, 1), known, max_gap_s=max_gap)
        assert bool(now_known.all()) == is_filled
        assert bool(np.isnan(filled[1:-1]).any()) == (not is_filled)


def test_ends_are_left_or_copied() -> None:
    times = np.arange(6.0)
    known = np.array([False, False, True, True, False, False])
    filled, now_known = interpolate_gaps(times, rows(7, 7, 0.25, 0.75, 7, 7), known, max_gap_s=1)
    np.testing.assert_array_equal(now_known, known)
    assert np.isnan(filled[[0, 1, 4, 5]]).all()
    filled, now_known = interpolate_gaps(times, rows(7, 7, 0.25, 0.75, 7, 7), known, max_gap_s=1, ends="copy")
    np.testing.assert_array_equal(now_known, [False, True, True, True, True, False])
    np.testing.assert_array_equal(filled[1:5], rows(0.25, 0.25, 0.75, 0.75))
    filled, now_known = interpolate_gaps(times, rows(7, 7, 0.25, 0.75, 7, 7), known, max_gap_s=math.inf, ends="copy")
    np.testing.assert_array_equal(filled, rows(0.25, 0.25, 0.25, 0.75, 0.75, 0.75))
    assert now_known.all()


def test_nothing_known_stays_unknown() -> None:
    filled, known = interpolate_gaps(np.arange(3.0), rows(1, 2, 3), np.zeros(3, bool), max_gap_s=math.inf, ends="copy")
    assert not known.any() and np.isnan(filled).all()


@few
@given(data=series(), mask=st.integers(0, 2**26 - 1), max_gap=st.sampled_from([0.0, 0.05, 0.2, 2.0, math.inf]))
def test_filling_keeps_the_known_and_stays_on_the_line(data: tuple[Times, Floats], mask: int, max_gap: float) -> None:
    times, probs = data
    known = np.array([bool(mask >> i & 1) for i in range(len(times))], np.bool_)
    filled, now_known = interpolate_gaps(times, probs, known, max_gap_s=max_gap)
    np.testing.assert_array_equal(filled[known], probs[known])
    assert np.all(now_known >= known)
    for i in np.flatnonzero(now_known & ~known):
        before, after = np.flatnonzero(known[:i])[-1], i + 1 + np.flatnonzero(known[i + 1 :])[0]
        assert times[after] - times[before] <= max_gap + 1e-6
        if times[after] > times[before]:
            share = (times[i] - times[before]) / (times[after] - times[before])
            np.testing.assert_allclose(filled[i], probs[before] * (1 - share) + probs[after] * share, atol=1e-6)
    for i in np.flatnonzero(~now_known):
        sides = np.flatnonzero(known[:i]), np.flatnonzero(known[i:])
        if len(sides[0]) and len(sides[1]):
            assert max_gap == 0 or times[i + sides[1][0]] - times[sides[0][-1]] > max_gap
