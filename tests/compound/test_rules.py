"""The rules against an independent computation, their properties, and the parsing of weights."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femae.compound.rules import RULES, Rule, combine, decide, parse_weights
from femae.errors import ConfigError, LabelError
from femae.labels import ABAW_COMPOUNDS, EMOTIONS, RAF_DB_COMPOUNDS, Compound, compound_from_pair

Floats = npt.NDArray[np.float32]


@st.composite
def random_probs(draw: st.DrawFn) -> Floats:
    """f32[N, 6] over the whole range of magnitudes, a third of them exactly 0 or 1."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(0, 6)), 6)
    probs = rng.random(shape) ** draw(st.sampled_from([0.2, 1, 5, 20]))
    special = rng.random(shape)
    return np.where(special < 0.2, 0, np.where(special > 0.87, 1, probs)).astype(np.float32)


@st.composite
def random_weights(draw: st.DrawFn) -> Floats:
    """f32[6]: 0, 1 and other values up to 8."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.where(rng.random(6) < 0.5, rng.integers(0, 2, 6), rng.random(6) * 8).astype(np.float32)


PROBS = random_probs()
WEIGHTS = random_weights()
few = settings(max_examples=30, deadline=None)


def reference(rule: Rule, p: float, q: float, v: float, w: float) -> float:
    """One score in double precision, from the definitions."""
    if v + w == 0:
        return 0.0
    if rule == "sum":
        return v * p + w * q
    if rule == "product":
        return math.pow(p, v) * math.pow(q, w)
    if rule == "arithmetic":
        return (v * p + w * q) / (v + w)
    if rule == "geometric":
        if (p == 0 and v > 0) or (q == 0 and w > 0):
            return 0.0
        log = (v * math.log(p) if v else 0.0) + (w * math.log(q) if w else 0.0)
        return math.exp(log / (v + w))
    terms = [(v, p), (w, q)]
    if any(weight > 0 and value == 0 for weight, value in terms):
        return 0.0
    return (v + w) / sum(weight / value for weight, value in terms if weight > 0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("compounds", [ABAW_COMPOUNDS, RAF_DB_COMPOUNDS], ids=["abaw", "raf-db"])
@few
@given(probs=PROBS, weights=WEIGHTS)
def test_equals_the_definition(rule: Rule, compounds: tuple[Compound, ...], probs: Floats, weights: Floats) -> None:
    for given_weights in (weights, None):
        scores = combine(probs, compounds=compounds, rule=rule, weights=given_weights)
        assert scores.dtype == np.float32 and scores.shape == (len(probs), len(compounds))
        used = np.ones(6) if given_weights is None else given_weights
        for row in range(len(probs)):
            for column, compound in enumerate(compounds):
                a, b = (EMOTIONS.index(emotion) for emotion in compound.pair)
                wanted = reference(rule, float(probs[row, a]), float(probs[row, b]), float(used[a]), float(used[b]))
                assert scores[row, column] == pytest.approx(wanted, rel=1e-6, abs=1e-37)


@pytest.mark.parametrize("rule", RULES)
@few
@given(probs=PROBS)
def test_weights_of_one_are_the_plain_rule(rule: Rule, probs: Floats) -> None:
    plain = combine(probs, compounds=ABAW_COMPOUNDS, rule=rule)
    weighted = combine(probs, compounds=ABAW_COMPOUNDS, rule=rule, weights=np.ones(6, np.float32))
    np.testing.assert_array_equal(plain, weighted)


@few
@given(probs=PROBS)
def test_plain_sum_and_product_are_exact(probs: Floats) -> None:
    a, b = EMOTIONS.index("fear"), EMOTIONS.index("surprise")
    first, second = probs[:, a], probs[:, b]
    np.testing.assert_array_equal(combine(probs, compounds=ABAW_COMPOUNDS)[:, 0], first + second)
    np.testing.assert_array_equal(combine(probs, compounds=ABAW_COMPOUNDS, rule="product")[:, 0], first * second)


@pytest.mark.parametrize("rule", RULES)
@few
@given(probs=PROBS, weights=WEIGHTS)
def test_order_of_a_pair_does_not_matter(rule: Rule, probs: Floats, weights: Floats) -> None:
    there = (compound_from_pair("fear", "anger"),)
    back = (compound_from_pair("anger", "fear"),)
    scores = [combine(probs, compounds=pair, rule=rule, weights=weights) for pair in (there, back)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@few
@given(probs=PROBS, weights=WEIGHTS, column=st.integers(0, 5), share=st.floats(0, 1, width=32))
def test_more_of_an_emotion_never_lowers_a_score(
    rule: Rule, probs: Floats, weights: Floats, column: int, share: float
) -> None:
    more = probs.copy()
    more[:, column] += np.float32(share) * (1 - more[:, column])
    before, after = (combine(p, compounds=ABAW_COMPOUNDS, rule=rule, weights=weights) for p in (probs, more))
    assert np.all(after >= before - 1e-6 * np.maximum(np.abs(before), 1e-30))


@pytest.mark.parametrize("rule", RULES)
@few
@given(probs=PROBS, weights=WEIGHTS)
def test_bounds(rule: Rule, probs: Floats, weights: Floats) -> None:
    scores = combine(probs, compounds=ABAW_COMPOUNDS, rule=rule, weights=weights)
    for column, compound in enumerate(ABAW_COMPOUNDS):
        a, b = (EMOTIONS.index(emotion) for emotion in compound.pair)
        total = weights[a] + weights[b]
        low, high = (pick(probs[:, a], probs[:, b]) for pick in (np.minimum, np.maximum))
        if total == 0:
            np.testing.assert_array_equal(scores[:, column], 0)
        elif rule == "sum":
            assert np.all((scores[:, column] >= 0) & (scores[:, column] <= total * (1 + 1e-6)))
        elif rule == "product":
            assert np.all((scores[:, column] >= 0) & (scores[:, column] <= 1))
        else:
            assert np.all(scores[:, column] >= low * (1 - 1e-6)) and np.all(scores[:, column] <= high * (1 + 1e-6))


@few
@given(probs=PROBS)
def test_means_stand_in_their_order(probs: Floats) -> None:
    rules: tuple[Rule, ...] = ("harmonic", "geometric", "arithmetic")
    scores = [combine(probs, compounds=ABAW_COMPOUNDS, rule=rule) for rule in rules]
    for smaller, larger in itertools.pairwise(scores):
        assert np.all(smaller <= larger * (1 + 1e-6))


@pytest.mark.parametrize("pair", [("sum", "arithmetic"), ("product", "geometric")])
@few
@given(probs=PROBS)
def test_rules_that_rank_alike(pair: tuple[Rule, Rule], probs: Floats) -> None:
    first, second = (combine(probs, compounds=ABAW_COMPOUNDS, rule=rule).astype(np.float64) for rule in pair)
    winners = first.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(second, winners, axis=1)[:, 0]
    assert np.all(chosen >= second.max(axis=1) * (1 - 1e-5))  # the same winner, up to rounding


@pytest.mark.parametrize("rule", RULES)
def test_zeros_and_large_weights_are_safe(rule: Rule) -> None:
    probs = np.array([[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], [1e-30] * 6], np.float32)
    weights = np.full(6, 1000, np.float32)
    with np.errstate(all="raise", under="ignore"):
        plain = combine(probs, compounds=ABAW_COMPOUNDS, rule=rule)
        weighted = combine(probs, compounds=ABAW_COMPOUNDS, rule=rule, weights=weights)
    assert np.all(np.isfinite(plain)) and np.all(np.isfinite(weighted))
    assert np.all(plain[0] == 0) and np.all(weighted[0] == 0)
    if rule in ("product", "geometric", "harmonic"):
        assert plain[1, 0] == weighted[1, 0] == 0  # surprise is absent
    if rule in ("arithmetic", "geometric", "harmonic"):
        np.testing.assert_allclose(weighted[2], 1e-30, rtol=1e-5)  # a mean of equal values, for any weights


def test_an_emotion_without_weight_leaves_the_other_alone() -> None:
    probs = np.array([[0.2, 0.9, 0.1, 0.3, 0.4, 0.7]], np.float32)
    weights = np.ones(6, np.float32)
    weights[EMOTIONS.index("surprise")] = 0
    for rule in RULES:
        assert combine(probs, compounds=ABAW_COMPOUNDS, rule=rule, weights=weights)[0, 0] == pytest.approx(0.9)
    weights[EMOTIONS.index("fear")] = 0
    for rule in RULES:
        assert combine(probs, compounds=ABAW_COMPOUNDS, rule=rule, weights=weights)[0, 0] == 0


def test_unknown_rule_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'median' is not a rule; expected one of sum, product"):
        combine(np.zeros((1, 6), np.float32), compounds=ABAW_COMPOUNDS, rule="median")  # type: ignore[arg-type]


def test_paper_example_is_decided_by_the_largest_sum() -> None:
    probs = np.array([[0.8, 0.7, 0.0, 0.1, 0.0, 0.0], [0.9, 0.0, 0.1, 0.8, 0.0, 0.0]], np.float32)
    names, best = decide(combine(probs, compounds=ABAW_COMPOUNDS), compounds=ABAW_COMPOUNDS)
    assert names == ["Fearfully Surprised", "Happily Surprised"]
    np.testing.assert_allclose(best, [1.5, 1.7], rtol=1e-6)


def test_ties_go_to_the_first_class() -> None:
    scores = np.zeros((3, 7), np.float32)
    scores[1, [6, 2]] = 0.5
    scores[2, [5, 4]] = 0.25
    names, _ = decide(scores, compounds=ABAW_COMPOUNDS)
    assert names == [ABAW_COMPOUNDS[0].name, ABAW_COMPOUNDS[2].name, ABAW_COMPOUNDS[4].name]


def test_threshold_is_inclusive_and_compared_as_float32() -> None:
    scores = np.zeros((2, 7), np.float32)
    scores[0, 3] = 0.9  # as float32 slightly below the double 0.9
    scores[1, 3] = np.nextafter(np.float32(0.9), np.float32(0))
    names, best = decide(scores, compounds=ABAW_COMPOUNDS, threshold=0.9)
    assert names == ["Disgustedly Surprised", ""]
    np.testing.assert_array_equal(best, scores[:, 3])  # kept when abstained


def test_nothing_in_nothing_out() -> None:
    scores = combine(np.zeros((0, 6), np.float32), compounds=ABAW_COMPOUNDS)
    assert scores.shape == (0, 7)
    names, best = decide(scores, compounds=ABAW_COMPOUNDS)
    assert names == [] and best.shape == (0,) and best.dtype == np.float32


def test_weights_are_read_in_any_order_case_and_spacing() -> None:
    weights = parse_weights(" Surprise=0.5 , fear = 2")
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, np.array([0.5, 2, 1, 1, 1, 1], np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("happy=2", "Did you mean 'happiness'"),
        ("fear=1,surprize=2", "Did you mean 'surprise'"),
        ("neutral=1", "The six are: surprise, fear"),
        ("fear", "expected emotion=number"),
        ("", "expected emotion=number"),
        ("fear=2,", "expected emotion=number"),
        ("=2", "expected emotion=number"),
        ("fear=two", "'fear' cannot be 'two'"),
        ("fear=-1", "'fear' cannot be '-1'"),
        ("fear=nan", "'fear' cannot be 'nan'"),
        ("fear=inf", "'fear' cannot be 'inf'"),
        ("fear=1,FEAR=2", "appears twice"),
        (",".join(f"{emotion}=0" for emotion in EMOTIONS), "at least one above 0"),
    ],
)
def test_wrong_weights_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        parse_weights(text)
