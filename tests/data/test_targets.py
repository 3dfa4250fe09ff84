"""Unified labels: names and numbers of every data set against published tables, votes, weights; properties."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from femae.data.targets import (
    MIN_NAMED_SHARE,
    action_unit_targets,
    class_weights,
    label_targets,
    unknown_targets,
    vote_targets,
)
from femae.errors import DataError, LabelError
from femae.labels import (
    AFFWILD2_AUS,
    BP4D_AUS,
    DISFA_AUS,
    EMOTIONS,
    LABEL_ORDERS,
    OTHER_EXPRESSIONS,
    RAF_DB_COMPOUNDS,
    action_unit_name,
    parse_label,
)

EXPRESSIONS = (*EMOTIONS, "neutral", "contempt")
counts = st.dictionaries(st.sampled_from((*EXPRESSIONS, "unknown")), st.integers(0, 20))


def positive(label: Any) -> list[str]:
    return [EMOTIONS[i] for i in np.flatnonzero(label.targets)]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (
            "affectnet",
            "0 Neutral 1 Happy 2 Sad 3 Surprise 4 Fear 5 Disgust 6 Anger 7 Contempt 8 None 9 Uncertain 10 No-Face",
        ),
        ("affwild2", "0 Neutral 1 Anger 2 Disgust 3 Fear 4 Happiness 5 Sadness 6 Surprise 7 Other"),
        ("raf-db-basic", "1 Surprise 2 Fear 3 Disgust 4 Happiness 5 Sadness 6 Anger 7 Neutral"),
        ("fer2013", "0 Angry 1 Disgust 2 Fear 3 Happy 4 Sad 5 Surprise 6 Neutral"),
    ],
)
def test_orders_of_data_sets(order: str, words: str) -> None:
    cells = words.split()
    published = {int(number): parse_label(word) for number, word in zip(cells[::2], cells[1::2], strict=True)}
    assert dict(LABEL_ORDERS[order]) == published


def test_raf_db_compounds_map_to_the_challenges_integers() -> None:
    raf, abaw = LABEL_ORDERS["raf-db-compound"], LABEL_ORDERS["abaw-compound"]
    published = {8: 0, 1: 1, 5: 2, 11: 3, 9: 4, 3: 5, 4: 6}
    assert {number: next(k for k, v in abaw.items() if v == raf[number]) for number in published} == published
    assert abaw[7] == "other" and len(raf) == 11


def test_units_of_data_sets() -> None:
    assert ",".join(AFFWILD2_AUS) == "AU01,AU02,AU04,AU06,AU07,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
    assert len(BP4D_AUS) == len(DISFA_AUS) == 12 and "AU09" in DISFA_AUS and "AU17" in BP4D_AUS


@pytest.mark.parametrize(
    ("text", "name"),
    [("1", "AU01"), (1, "AU01"), ("AU1", "AU01"), ("au_01", "AU01"), (" AU 26 ", "AU26"), ("AU045", "AU45")],
)
def test_names_of_action_units(text: str | int, name: str) -> None:
    assert action_unit_name(text) == name


@pytest.mark.parametrize("text", ["", "AU", "AU0", "AU100", "AU1x", "1.0", "-1", "BU1"])
def test_what_is_no_action_unit(text: str) -> None:
    with pytest.raises(LabelError, match="not an action unit"):
        action_unit_name(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("Happy", "happiness"), ("JOY", "happiness"), ("afraid", "fear"), ("No-Face", "no face"), ("NF", "no face")),
        *(("Sadly_Angry", "Sadly Angry"), ("surprise, fear", "Fearfully Surprised"), ("fear+DISGUST", "disgust+fear")),
        *(("disgusted/fearful", "disgust+fear"), ("contemptuous", "contempt"), (" others ", "other")),
    ],
)
def test_words_of_labels(text: str, name: str) -> None:
    assert parse_label(text) == (name if "+" not in name else "Disgustedly Fearful")


@pytest.mark.parametrize("text", ["", "grumpy", "happy sad angry", "happy happy", "neutral sad", "7", "happily"[:4]])
def test_what_is_no_label(text: str) -> None:
    with pytest.raises(LabelError, match="is not a label"):
        parse_label(text)


def test_labels_become_targets_and_a_mask() -> None:
    for emotion in EMOTIONS:
        label = label_targets(emotion)
        assert positive(label) == [emotion] and label.mask.all() and label.class_name == emotion
    for compound in RAF_DB_COMPOUNDS:
        label = label_targets(compound.name)
        assert set(positive(label)) == set(compound.pair) and label.mask.all() and label.class_name == compound.name
    for word in ("neutral", "contempt"):
        assert label_targets(word).mask.all() and not positive(label_targets(word))
    for word in ("other", "none", "uncertain", "unknown", "no face"):
        assert not label_targets(word).mask.any() and not positive(label_targets(word))
    assert unknown_targets().class_name == "" and not unknown_targets().mask.any()


@given(st.sampled_from([*EXPRESSIONS, *OTHER_EXPRESSIONS, *(c.name for c in RAF_DB_COMPOUNDS)]))
def test_parsing_a_name_gives_the_name(name: str) -> None:
    assert parse_label(name) == name == parse_label(name.upper()) == parse_label(name.replace(" ", "_"))


@given(counts)
def test_votes_become_shares_of_the_votes_that_name_an_expression(votes: dict[str, int]) -> None:
    label = vote_targets(votes)
    every, named = sum(votes.values()), sum(count for name, count in votes.items() if name != "unknown")
    assert label.mask.all() == label.mask.any() == (every > 0 and named >= MIN_NAMED_SHARE * every)
    assert label.targets.min() >= 0 and label.targets.max() <= 1
    if label.mask.any():
        expected = [votes.get(emotion, 0) / named for emotion in EMOTIONS]
        assert np.allclose(label.targets, expected, atol=1e-6)
        assert votes[label.class_name] == max(count for name, count in votes.items() if name != "unknown")
    else:
        assert not label.targets.any()


@given(st.sampled_from(EXPRESSIONS), st.integers(1, 50))
def test_one_voice_is_the_basic_label(name: str, count: int) -> None:
    voted, basic = vote_targets({name: count}), label_targets(name)
    assert np.array_equal(voted.targets, basic.targets) and np.array_equal(voted.mask, basic.mask)


@given(counts, st.integers(2, 9))
def test_votes_and_shares_say_the_same(votes: dict[str, int], factor: int) -> None:
    once, many = vote_targets(votes), vote_targets({name: count * factor for name, count in votes.items()})
    assert np.allclose(once.targets, many.targets, atol=1e-6) and np.array_equal(once.mask, many.mask)


def test_votes_for_compounds_and_wrong_votes() -> None:
    label = vote_targets({"fear+surprise": 3, "Surprised": 1})
    assert label.targets.tolist() == [1, 0.75, 0, 0, 0, 0] and label.class_name == "Fearfully Surprised"
    for votes in ({"fear": -1}, {"fear": float("nan")}, {"grumpy": 1}):
        with pytest.raises(LabelError):
            vote_targets(votes)


def test_action_units_in_any_order() -> None:
    targets, mask = action_unit_targets({"AU12": 1, "AU01": 0.25, "AU45": 1}, names=("AU01", "AU02", "AU12"))
    assert targets.tolist() == [0.25, 0, 1] and mask.tolist() == [True, False, True]
    with pytest.raises(LabelError, match="AU01 is 2"):
        action_unit_targets({"AU01": 2}, names=("AU01",))


def test_weights_of_equation_1() -> None:
    targets = np.array([[1, 0, 0.5], [1, 1, 0.5], [1, 0, 0], [1, 0, 0]], np.float32)
    mask = np.ones((4, 3), np.bool_)
    names = ("a", "b", "c")
    assert class_weights(targets, mask, names=names, mode="n_max").tolist() == [1, 4, 4]
    assert class_weights(targets, mask, names=names, mode="pos_weight").tolist() == [0, 3, 3]
    assert class_weights(targets, mask, names=names, mode="none").tolist() == [1, 1, 1]
    mask[1, 1] = False
    with pytest.raises(DataError, match="no sample shows b,"):
        class_weights(targets, mask, names=names, mode="n_max")
    assert class_weights(targets, mask, names=names, mode="none").tolist() == [1, 1, 1]
    mask[0] = False
    targets[0, 0] = 99  # masked targets are ignored
    mask[1, 1] = True
    assert class_weights(targets, mask, names=names, mode="n_max").tolist() == [1, 3, 6]
    # three samples are known: 3, 1 and 1/2 of them positive
    assert class_weights(targets, mask, names=names, mode="pos_weight").tolist() == [0, 2, 5]


@given(st.lists(st.sampled_from(EMOTIONS), min_size=1, max_size=60))
def test_weights_are_one_for_the_largest_class_and_undo_the_imbalance(names: list[str]) -> None:
    labels = [label_targets(name) for name in [*names, *EMOTIONS]]
    targets, mask = np.stack([label.targets for label in labels]), np.stack([label.mask for label in labels])
    weights = class_weights(targets, mask, mode="n_max")
    assert weights.min() == 1
    assert np.allclose(weights * targets.sum(0), targets.sum(0).max())
