"""The label for people: one answer among none, six emotions and the compounds of a class set."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from femae.compound.expression import NO_EXPRESSION, ExpressionRule
from femae.config.model import ExpressionParams
from femae.errors import ConfigError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, RAF_DB_COMPOUNDS, parse_class_set

PARAMS = ExpressionParams(
    none_bias=-0.9,
    none_slope=0.8,
    stronger=0.4,
    weaker=1.1,
    compound_bias=0.6,
    scale=1.7,
    compound_gain=2.0,
    num_faces=500,
)
six = st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6)


def face(**shown: float) -> np.ndarray:
    return np.array([[shown.get(name, 0.02) for name in EMOTIONS]], np.float32)


def said(probs: np.ndarray, classes: str = "abaw", params: ExpressionParams | None = None) -> str:
    return ExpressionRule(parse_class_set(classes), params=params).decide(probs)[0][0]


def by_hand(probs: list[float], params: ExpressionParams, pairs: list[tuple[int, int]]) -> list[float]:
    """The formula of the module, in plain Python."""
    logits = [math.log(p / (1 - p)) for p in probs]
    scores = [params.none_bias - params.none_slope * math.log(sum(math.exp(z) for z in logits)), *logits]
    for a, b in pairs:
        high, low = max(logits[a], logits[b]), min(logits[a], logits[b])
        scores.append(params.stronger * high + params.weaker * low + params.compound_bias)
    odds = [math.exp(params.scale * score) for score in scores]
    return [value / sum(odds) for value in odds]


def test_answers_are_none_the_six_and_the_class_set_in_order() -> None:
    rule = ExpressionRule(RAF_DB_COMPOUNDS)
    assert rule.names == (NO_EXPRESSION, *EMOTIONS, *(compound.name for compound in RAF_DB_COMPOUNDS))


def test_probabilities_are_those_of_the_formula() -> None:
    probs = [0.3, 0.25, 0.01, 0.02, 0.1, 0.04]
    pairs = [(EMOTIONS.index(c.pair[0]), EMOTIONS.index(c.pair[1])) for c in ABAW_COMPOUNDS]
    given_ = ExpressionRule(ABAW_COMPOUNDS, params=PARAMS).probabilities(np.array([probs], np.float32))
    np.testing.assert_allclose(given_[0], by_hand(probs, PARAMS, pairs), rtol=1e-5)


@pytest.mark.parametrize("params", [None, PARAMS])
def test_what_is_there_is_said(params: ExpressionParams | None) -> None:
    assert said(face(), params=params) == "none"
    assert said(face(happiness=0.9), params=params) == "happiness"
    assert said(face(happiness=0.9, surprise=0.05), params=params) == "happiness"
    assert said(face(fear=0.5, surprise=0.45), params=params) == "Fearfully Surprised"
    assert said(face(sadness=0.4, anger=0.45), params=params) == "Sadly Angry"


def test_a_pair_that_is_not_in_the_set_is_never_said() -> None:
    mixed = face(anger=0.55, disgust=0.5)
    assert said(mixed) == "anger"
    assert said(mixed, "raf-db") == "Angrily Disgusted"
    assert said(mixed, "disgust+anger") == "Disgustedly Angry"


def test_all_pairs_are_treated_alike() -> None:
    rule = ExpressionRule(ABAW_COMPOUNDS)
    found = [rule.decide(face(**{c.pair[0]: 0.5, c.pair[1]: 0.4})) for c in ABAW_COMPOUNDS]
    assert [names[0] for names, _ in found] == [c.name for c in ABAW_COMPOUNDS]
    np.testing.assert_allclose([values[0] for _, values in found], found[0][1][0], rtol=0.05)


def test_gain_moves_the_label_and_not_the_probability() -> None:
    between = face(fear=0.45, surprise=0.2)
    low, high = (PARAMS.model_copy(update={"compound_gain": gain}) for gain in (0.1, 50.0))
    assert (said(between, params=low), said(between, params=high)) == ("fear", "Fearfully Surprised")
    first, second = (ExpressionRule(ABAW_COMPOUNDS, params=p).probabilities(between) for p in (low, high))
    np.testing.assert_array_equal(first, second)


@given(st.lists(six, min_size=1, max_size=4))
def test_every_face_has_one_answer_with_its_probability(rows: list[list[float]]) -> None:
    probs = np.array(rows, np.float32)
    rule = ExpressionRule(ABAW_COMPOUNDS, params=PARAMS)
    answers = rule.probabilities(probs)
    assert answers.shape == (len(rows), len(rule.names)) and np.isfinite(answers).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-9)
    names, values = rule.decide(probs)
    expected = [answers[i, rule.names.index(name)] for i, name in enumerate(names)]
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    together, alone = rule.decide(probs)[0], [rule.decide(row[None])[0][0] for row in probs]
    assert together == alone


@given(six, st.integers(0, 6), st.floats(0.01, 0.3))
def test_more_of_the_weaker_emotion_makes_the_compound_likelier(row: list[float], which: int, more: float) -> None:
    a, b = (EMOTIONS.index(name) for name in ABAW_COMPOUNDS[which].pair)
    probs = np.clip(np.array([row], np.float32), 0.01, 0.6)
    weaker = a if probs[0, a] < probs[0, b] else b
    raised = probs.copy()
    raised[0, weaker] = min(raised[0, weaker] + more, raised[0, [a, b]].max())
    rule = ExpressionRule(ABAW_COMPOUNDS, params=PARAMS)
    before, after = rule.probabilities(probs)[0], rule.probabilities(raised)[0]
    strongest = 1 + (a if weaker == b else b)
    assert after[7 + which] * before[strongest] >= before[7 + which] * after[strongest] * (1 - 1e-9)


def test_the_description_says_whether_the_numbers_were_fitted() -> None:
    default = json.loads(ExpressionRule(ABAW_COMPOUNDS).describe())
    fitted = json.loads(ExpressionRule(ABAW_COMPOUNDS, params=PARAMS).describe())
    assert default["rule"] == "default numbers, not calibrated" and fitted["rule"] == "fitted on 500 faces"
    assert fitted["compound_gain"] == 2.0


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="scale"):
        ExpressionParams(scale=0)
    with pytest.raises(ConfigError, match=r"compound-gian.*compound_gain"):
        ExpressionParams(compound_gian=2)
