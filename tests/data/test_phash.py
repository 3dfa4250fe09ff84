"""Perceptual hashes and the search for near duplicates."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from femae.data.duplicates import (
    HASH_DISTANCE,
    HASH_ONLY_DISTANCE,
    NO_HASH,
    SAME_PICTURE,
    duplicate_pairs,
    hamming,
    mirrored_hash,
    near_pairs,
    perceptual_hash,
    similarity,
    thumbnail,
)

Pixels = npt.NDArray[np.uint8]


def jpeg(image: Pixels, quality: int) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data), np.uint8)


def resized(image: Pixels, factor: float) -> Pixels:
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), np.uint8)


def cropped(image: Pixels, share: float) -> Pixels:
    side = image.shape[0]
    edge = side * share
    whole = Image.fromarray(image)
    return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC, box=(edge, edge, side - edge, side - edge)))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg": lambda image: jpeg(image, 30),
    "half": lambda image: resized(image, 0.5),
    "double": lambda image: resized(image, 2),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "noise": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 5, image.shape), 0, 255).astype(np.uint8),
    "gray": lambda image: np.repeat(np.asarray(Image.fromarray(image).convert("L"))[..., None], 3, 2),
    "framed anew": lambda image: cropped(image, 0.015),
}


@pytest.fixture(scope="module")
def face(astronaut: Pixels) -> Pixels:
    return np.ascontiguousarray(astronaut[20:212, 130:322])


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_a_candidate_and_looks_the_same(face: Pixels, copy: str) -> None:
    other = COPIES[copy](face)
    hashes = np.array([perceptual_hash(face), perceptual_hash(other)], np.uint64)
    assert hamming(hashes[:1], hashes[1:])[0] <= (HASH_DISTANCE if copy == "framed anew" else HASH_ONLY_DISTANCE)
    assert similarity(thumbnail(face)[None], thumbnail(other)[None])[0] >= SAME_PICTURE


def test_another_picture_is_neither(face: Pixels, astronaut: Pixels) -> None:
    other = np.ascontiguousarray(astronaut[300:492, 130:322])
    hashes = np.array([perceptual_hash(face), perceptual_hash(other)], np.uint64)
    assert hamming(hashes[:1], hashes[1:])[0] > 16
    assert similarity(thumbnail(face)[None], thumbnail(other)[None])[0] < 0.4


def test_gray_and_rgb_of_equal_channels_have_one_hash(face: Pixels) -> None:
    gray = np.asarray(Image.fromarray(face).convert("L"))
    assert perceptual_hash(gray) == perceptual_hash(np.repeat(gray[..., None], 3, 2))
    assert 0 < perceptual_hash(gray) < 2**64


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_have_no_hash_and_no_duplicates(level: int) -> None:
    flat = np.full((48, 48, 3), level, np.uint8)
    flat[3, 3] = np.uint8(min(level + 3, 255))
    assert perceptual_hash(flat) == NO_HASH
    assert len(near_pairs(np.full(5, NO_HASH, np.uint64), max_distance=4)) == 0


def test_the_hash_of_the_mirror_image_follows_from_the_hash(face: Pixels) -> None:
    own, mirrored = perceptual_hash(face), perceptual_hash(np.ascontiguousarray(face[:, ::-1]))
    assert hamming(mirrored_hash(np.array([own], np.uint64)), np.array([mirrored], np.uint64))[0] <= 1


def hashes_with_copies(rng: np.random.Generator, count: int, copies: int, distance: int) -> npt.NDArray[np.uint64]:
    """Random hashes, and copies of some of them with up to `distance` changed bits."""
    hashes = rng.integers(1, 2**63, count, np.uint64)
    for _ in range(copies):
        value = int(rng.choice(hashes))
        for bit in rng.choice(64, rng.integers(0, distance + 1), replace=False):
            value ^= 1 << int(bit)
        hashes = np.append(hashes, np.uint64(value))
    return hashes


def classes(count: int, pairs: npt.NDArray[np.int64]) -> set[frozenset[int]]:
    """Sets of positions that pairs link."""
    label = list(range(count))
    for a, b in pairs.tolist():
        old, new = label[b], label[a]
        label = [new if one == old else one for one in label]
    return {frozenset(i for i in range(count) if label[i] == mark) for mark in set(label)}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 40), st.integers(0, 12))
def test_the_search_links_what_comparing_all_links(seed: int, count: int, copies: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = hashes_with_copies(rng, count, copies if count else 0, distance)
    found = near_pairs(hashes, max_distance=distance)
    assert (found[:, 0] < found[:, 1]).all() and len(np.unique(found, axis=0)) == len(found)
    all_pairs = np.argwhere(np.triu(np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance, 1))
    assert set(map(tuple, found.tolist())) <= set(map(tuple, all_pairs.tolist()))
    assert classes(len(hashes), found) == classes(len(hashes), all_pairs)


@pytest.mark.parametrize("distance", [2, 4, 8, 10])
def test_the_search_misses_nothing_among_many(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = hashes_with_copies(rng, 2500, 400, distance)
    found = near_pairs(hashes, max_distance=distance)
    expected = []
    for start in range(0, len(hashes), 500):
        near = np.bitwise_count(hashes[start : start + 500, None] ^ hashes[None]) <= distance
        expected.append(np.argwhere(near) + np.array([start, 0]))
    all_pairs = np.concatenate(expected)
    all_pairs = all_pairs[all_pairs[:, 0] < all_pairs[:, 1]]
    linked, wanted = classes_fast(len(hashes), found), classes_fast(len(hashes), all_pairs)
    assert np.array_equal(linked, wanted) and len(all_pairs) >= 400


def classes_fast(count: int, pairs: npt.NDArray[np.int64]) -> Any:
    """Smallest position of each sample's linked set, i64[N]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    return np.unique(labels, return_index=True)[1][labels]


def test_samples_of_one_group_need_no_pair_and_films_stay_cheap() -> None:
    rng = np.random.default_rng(3)
    start = int(rng.integers(1, 2**63))
    film = [start]
    for _ in range(3000):  # a slow film: one bit changes at a time, and comes back
        film.append(film[-1] ^ (1 << int(rng.integers(0, 12))))
    hashes = np.array([*film, film[17] ^ (1 << 40), int(rng.integers(1, 2**63))], np.uint64)
    groups = np.array([0] * len(film) + [1, 2])
    found = near_pairs(hashes, max_distance=8, groups=groups)
    assert len(found) and set(groups[found].ravel().tolist()) == {0, 1}


def test_pictures_decide_where_they_are_at_hand(face: Pixels) -> None:
    mirrored = np.ascontiguousarray(face[:, ::-1])
    pictures = [face, jpeg(face, 40), mirrored, np.full_like(face, 9), np.full_like(face, 9)]
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    small = np.stack([thumbnail(picture) for picture in pictures])
    with_pictures = duplicate_pairs(hashes, thumbnails=lambda positions: small[positions])
    assert with_pictures.tolist() == [[0, 1], [0, 2], [1, 2]]  # flat pictures are not duplicates
    assert duplicate_pairs(hashes).tolist() == [[0, 1], [0, 2], [1, 2]]
    unlike = small.copy()
    unlike[1] = unlike[1][::-1]
    assert duplicate_pairs(hashes, thumbnails=lambda positions: unlike[positions]).tolist() == [[0, 2]]
    assert len(duplicate_pairs(hashes, groups=np.zeros(5, np.int64))) == 0
    assert len(duplicate_pairs(np.zeros(0, np.uint64), thumbnails=lambda positions: small[positions])) == 0
