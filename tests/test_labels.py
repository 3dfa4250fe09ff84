"""Orders and names of the labels, against the published tables."""

import pytest

from femae.errors import LabelError
from femae.labels import (
    ABAW_COMPOUNDS,
    EMOTIONS,
    RAF_DB_COMPOUNDS,
    compound_from_pair,
    emotion_indices,
    parse_class_set,
)

# 6th ABAW: integers 0..6 of the submission file
ABAW_HEADER = (
    "Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,Angrily_Surprised,"
    "Sadly_Fearful,Sadly_Angry"
)
RAF_DB = (
    "Happily Surprised,Happily Disgusted,Sadly Fearful,Sadly Angry,Sadly Surprised,Sadly Disgusted,Fearfully Angry,"
    "Fearfully Surprised,Angrily Surprised,Angrily Disgusted,Disgustedly Surprised"
)


def test_emotions_stand_in_the_papers_order() -> None:
    assert EMOTIONS == ("surprise", "fear", "disgust", "happiness", "sadness", "anger")


def test_abaw_compounds_stand_in_the_challenges_order() -> None:
    assert ",".join(c.name.replace(" ", "_") for c in ABAW_COMPOUNDS) == ABAW_HEADER
    assert [c.column for c in ABAW_COMPOUNDS] == [name.lower() for name in ABAW_HEADER.split(",")]


def test_raf_db_compounds_stand_in_its_own_order() -> None:
    assert ",".join(c.name for c in RAF_DB_COMPOUNDS) == RAF_DB


def test_indices_point_to_the_two_emotions_of_each_pair() -> None:
    for compound, (first, second) in zip(RAF_DB_COMPOUNDS, emotion_indices(RAF_DB_COMPOUNDS), strict=True):
        assert (EMOTIONS[first], EMOTIONS[second]) == compound.pair


def test_own_pairs_are_parsed_and_named() -> None:
    compounds = parse_class_set("fear+surprise, Anger+disgust")
    assert [c.name for c in compounds] == ["Fearfully Surprised", "Angrily Disgusted"]
    assert parse_class_set("abaw") is ABAW_COMPOUNDS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ekman", "not a class set"),
        ("fear+joy", "'joy' is not a basic emotion"),
        ("fear+fear", "two different emotions"),
        ("fear+surprise,surprise+fear", "twice"),
        ("", "not a class set"),
    ],
)
def test_wrong_class_sets_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        parse_class_set(text)


def test_pair_names_keep_the_order_given() -> None:
    assert compound_from_pair("surprise", "fear").name == "Surprisedly Fearful"
