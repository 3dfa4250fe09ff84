"""Merging of faces, filling of frames and alignment, against independent computations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femae.abaw.film import Film, empty_film
from femae.abaw.frames import align_frames, fill_frames, merge_faces, side_of
from femae.abaw.labelling import AuLabels, CeLabels, ExprLabels
from femae.errors import ConfigError, DataError

# Pairs of each compound, in the paper's order of emotions: surprise, fear, disgust, happiness, sadness, anger.
PAIRS = [(1, 0), (3, 0), (4, 0), (2, 0), (5, 0), (4, 1), (4, 5)]


def film_of(num_frames: int, *, seed: int, face_rate: float = 1.2) -> Film:
    """Random faces, up to three a frame, ids without order."""
    rng = np.random.default_rng(seed)
    faces = [
        (t, i) for t in range(1, num_frames + 1) for i in sorted(rng.permutation(4)[: min(3, rng.poisson(face_rate))])
    ]
    corners = rng.uniform(0, 200, (len(faces), 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 80, (len(faces), 2))])
    return replace(
        empty_film("film", num_frames=num_frames),
        frames=np.array([t for t, _ in faces], np.int64),
        face_ids=np.array([i + 1 for _, i in faces], np.int64),
        boxes_xyxy=boxes.astype(np.float32).reshape(-1, 4),
        probs=rng.uniform(0, 1, (len(faces), 6)).astype(np.float32),
        au_probs=np.zeros((len(faces), 0), np.float32),
        times_s=np.arange(num_frames) / 25,
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), num_frames=st.integers(1, 30))
def test_max_and_mean_over_faces_equal_a_loop(seed: int, num_frames: int) -> None:
    film = film_of(num_frames, seed=seed)
    values = CeLabels().values(film)
    largest, known = merge_faces(film, values, several="max")
    mean, _ = merge_faces(film, values, several="mean")
    for frame in range(1, num_frames + 1):
        own = film.probs[film.frames == frame].astype(np.float64)
        assert known[frame - 1] == bool(len(own))
        if len(own):
            scores = np.stack([own[:, a] + own[:, b] for a, b in PAIRS], axis=1).astype(np.float32)
            np.testing.assert_array_equal(largest[frame - 1], scores.max(axis=0))
            np.testing.assert_allclose(mean[frame - 1], scores.mean(axis=0), rtol=1e-6)
        else:
            assert np.isnan(largest[frame - 1]).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_largest_face_and_the_longest_track(seed: int) -> None:
    film = film_of(20, seed=seed)
    largest, _ = merge_faces(film, film.probs, several="largest")
    longest, known = merge_faces(film, film.probs, several="track")
    width, height = (film.boxes_xyxy[:, 2 + k].astype(float) - film.boxes_xyxy[:, k] for k in (0, 1))
    counts = np.bincount(film.face_ids, minlength=5)
    best = counts.argmax()
    for frame in range(1, 21):
        rows = np.flatnonzero(film.frames == frame)
        if len(rows):
            np.testing.assert_array_equal(largest[frame - 1], film.probs[rows[np.argmax((width * height)[rows])]])
        own = [row for row in rows if film.face_ids[row] == best]
        assert known[frame - 1] == bool(own)
        if own:
            np.testing.assert_array_equal(longest[frame - 1], film.probs[own[0]])


@settings(max_examples=60, deadline=None)
@given(known=st.lists(st.booleans(), min_size=1, max_size=40).filter(any), seed=st.integers(0, 999))
def test_interpolation_is_linear_between_neighbours_and_copies_the_ends(known: list[bool], seed: int) -> None:
    mask = np.array(known)
    values = np.random.default_rng(seed).integers(0, 64, (len(mask), 3)).astype(np.float32) / 64
    holes = np.where(mask[:, None], values, np.float32(np.nan))
    filled = fill_frames(holes, mask, how="interpolate")
    places = np.flatnonzero(mask)
    expected = np.stack([np.interp(np.arange(len(mask)), places, values[places, c]) for c in range(3)], axis=1)
    np.testing.assert_array_equal(filled, expected.astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(known=st.lists(st.booleans(), min_size=1, max_size=40).filter(any))
def test_the_nearest_frame_of_two_the_earlier(known: list[bool]) -> None:
    mask = np.array(known)
    values = np.arange(len(mask), dtype=np.float32)[:, None]
    filled = fill_frames(np.where(mask[:, None], values, np.nan), mask, how="nearest")
    for frame, got in enumerate(filled[:, 0]):
        assert got == min(np.flatnonzero(mask), key=lambda place: (abs(place - frame), place))


def test_ids_of_pictures_are_no_tracks() -> None:
    with pytest.raises(ConfigError, match="pictures"):
        merge_faces(replace(film_of(3, seed=0), is_pictures=True), film_of(3, seed=0).probs, several="track")


def test_two_people_are_told_apart_by_side() -> None:
    boxes = np.array([[0, 0, 40, 40], [100, 0, 140, 40], [10, 0, 50, 40], [90, 0, 130, 40]], np.float32)
    film = replace(
        empty_film("two", num_frames=2),
        frames=np.array([1, 1, 2, 2]),
        face_ids=np.array([1, 2, 1, 2]),
        boxes_xyxy=boxes,
        probs=np.arange(24, dtype=np.float32).reshape(4, 6) / 24,
        au_probs=np.zeros((4, 0), np.float32),
    )
    assert side_of(film, side="left").face_ids.tolist() == [1, 1]
    assert side_of(film, side="right").face_ids.tolist() == [2, 2]
    assert side_of(empty_film("none", num_frames=3), side="left").num_frames == 3


def test_alignment_of_one_frame_more_and_one_fewer() -> None:
    wanted = np.arange(1, 6)

    def aligned(num_frames: int, way: str) -> list[int]:
        return align_frames(wanted, num_frames=num_frames, way=way, tolerance=1, name="v").tolist()  # type: ignore[arg-type]

    for way in ("clip", "shift", "nearest"):
        assert aligned(5, way) == [1, 2, 3, 4, 5]
    assert aligned(6, "clip") == [1, 2, 3, 4, 5]
    assert aligned(4, "clip") == [1, 2, 3, 4, 4]
    assert aligned(6, "shift") == [2, 3, 4, 5, 6]
    assert aligned(4, "shift") == [1, 1, 2, 3, 4]
    assert aligned(6, "nearest") == [1, 2, 4, 5, 6]
    assert aligned(4, "nearest") == [1, 2, 3, 3, 4]
    with pytest.raises(DataError, match=r"v has 7 frames and the template 5.*--tolerance 2"):
        align_frames(wanted, num_frames=7, way="clip", tolerance=1, name="v")


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 500), more=st.integers(-3, 3), way=st.sampled_from(["clip", "shift", "nearest"]))
def test_alignment_ascends_and_stays_within_the_film(length: int, more: int, way: str) -> None:
    num_frames = max(1, length + more)
    frames = align_frames(np.arange(1, length + 1), num_frames=num_frames, way=way, tolerance=3, name="v")  # type: ignore[arg-type]
    assert frames.min() >= 1 and frames.max() <= num_frames
    assert (np.diff(frames) >= 0).all()
    assert np.abs(frames - np.arange(1, length + 1)).max() <= 3


def test_neutral_and_other_are_explicit_thresholds() -> None:
    #                  surprise fear disgust happiness sadness anger
    probs = np.array(
        [
            [0.9, 0.1, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.9, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.9, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.9, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.9, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.9],
            [0.49, 0.0, 0.0, 0.48, 0.0, 0.0],
            [0.7, 0.0, 0.0, 0.8, 0.0, 0.0],
            [0.5, 0.0, 0.0, 0.0, 0.0, 0.0],
        ],
        np.float32,
    )
    # Aff-Wild2: 0 Neutral 1 Anger 2 Disgust 3 Fear 4 Happiness 5 Sadness 6 Surprise 7 Other
    assert ExprLabels().decide(probs)[:, 0].tolist() == [6, 3, 2, 4, 5, 1, 0, 4, 6]
    assert ExprLabels(neutral_below=0).decide(probs)[:, 0].tolist() == [6, 3, 2, 4, 5, 1, 6, 4, 6]
    assert ExprLabels(other_above=0.6).decide(probs)[:, 0].tolist() == [6, 3, 2, 4, 5, 1, 0, 7, 6]
    assert ExprLabels(other_above=0.4).decide(probs)[:, 0].tolist() == [6, 3, 2, 4, 5, 1, 0, 7, 6]  # not 7: Neutral
    weights = np.array([2, 1, 1, 1, 1, 1], np.float32)
    assert ExprLabels(weights=weights).decide(probs)[7, 0] == 6


def test_compounds_by_rule_and_of_equal_scores_the_lowest_integer() -> None:
    film = replace(film_of(1, seed=1), frames=np.ones(2, np.int64), probs=np.zeros((2, 6), np.float32))
    film.probs[1] = [0.8, 0.0, 0.0, 0.1, 0.5, 0.5]
    assert CeLabels().decide(CeLabels().values(film))[:, 0].tolist() == [0, 2]
    product = CeLabels(rule="product")
    assert product.decide(product.values(film))[:, 0].tolist() == [0, 2]
    heavy = CeLabels(weights=np.array([0.1, 1, 1, 1, 1, 1], np.float32))
    assert heavy.decide(heavy.values(film))[1, 0] == 6


def test_units_are_taken_by_name_and_their_lack_is_said() -> None:
    names = [f"AU{number:02d}" for number in (26, 25, 24, 23, 15, 12, 10, 9, 7, 6, 4, 2, 1)]
    probs = np.linspace(0, 1, 13, dtype=np.float32)[None]
    film = replace(film_of(1, seed=1), frames=np.ones(1, np.int64), au_names=tuple(names), au_probs=probs)
    values = AuLabels().values(film)
    by_name = dict(zip(names, probs[0], strict=True))
    order = "AU01 AU02 AU04 AU06 AU07 AU10 AU12 AU15 AU23 AU24 AU25 AU26".split()
    np.testing.assert_array_equal(values[0], [by_name[name] for name in order])
    assert AuLabels().decide(values)[0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match="no column AU25"):
        AuLabels().values(replace(film, au_names=tuple(name.replace("25", "20") for name in names)))
    with pytest.raises(DataError, match="has no action units; the AU track needs"):
        AuLabels().values(replace(film, au_names=(), au_probs=np.zeros((1, 0), np.float32)))
