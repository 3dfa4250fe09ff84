"""The mapping from blendshapes to action units: shapes, scaling, and masked units."""

import numpy as np
import numpy.typing as npt
import pytest

from femae.data.pseudo_aus.arkit_aus import AU_RULES, AuRule, action_units_from_blendshapes, raw_action_unit
from femae.data.pseudo_aus.blendshapes import BLENDSHAPES
from femae.data.store.shards import ACTION_UNITS

GIVEN = [rule for rule in AU_RULES if not rule.masked]


def coefficients(**values: float) -> npt.NDArray[np.float32]:
    """f32[1, 52] with the named shapes at a value, both sides alike."""
    out = np.zeros((1, len(BLENDSHAPES)), np.float32)
    for name, value in values.items():
        places = [BLENDSHAPES.index(name + side) for side in ("", "Left", "Right") if name + side in BLENDSHAPES]
        out[0, places] = value
    return out


def units(blendshapes: npt.NDArray[np.float32]) -> dict[str, float]:
    """The known units of the first row."""
    targets, mask = action_units_from_blendshapes(blendshapes)
    assert targets.dtype == np.float32 and mask.dtype == np.bool_
    assert targets.shape == mask.shape == (len(blendshapes), len(ACTION_UNITS))
    return {name: float(targets[0, i]) for i, name in enumerate(ACTION_UNITS) if mask[0, i]}


def test_the_table_names_real_shapes_and_units_once() -> None:
    names = [rule.unit for rule in AU_RULES]
    assert names == sorted(set(names)) and set(names) <= set(ACTION_UNITS)
    for rule in AU_RULES:
        for shape in (*rule.shapes, *([rule.unless[0]] if rule.unless else [])):
            assert shape in BLENDSHAPES or {f"{shape}Left", f"{shape}Right"} <= set(BLENDSHAPES), shape
        assert 0 <= rule.rest < rule.full <= 1
        assert rule.shapes[0] in rule.words() and rule.masked in rule.words()


@pytest.mark.parametrize("rule", GIVEN, ids=lambda rule: rule.unit)
def test_each_given_unit_follows_its_shapes_from_rest_to_full(rule: AuRule) -> None:
    middle = (rule.rest + rule.full) / 2
    for shape in rule.shapes:
        values = [units(coefficients(**{shape: value}))[rule.unit] for value in (rule.rest, middle, rule.full)]
        assert values == pytest.approx([0, 0.5, 1], abs=1e-5)
        assert units(coefficients(**{shape: 1.0}))[rule.unit] == 1
        assert raw_action_unit(coefficients(**{shape: 0.25}), rule=rule)[0] == pytest.approx(0.25)


def test_a_face_at_rest_has_all_given_units_at_zero() -> None:
    known = units(coefficients())
    assert list(known) == [rule.unit for rule in GIVEN] and not any(known.values())


def test_a_smile_a_surprise_and_a_frown_are_what_facs_calls_them() -> None:
    def strong(**values: float) -> set[str]:
        return {name for name, value in units(coefficients(**values)).items() if value >= 0.5}

    assert strong(mouthSmile=0.9) == {"AU12"}
    surprise = strong(browInnerUp=0.8, browOuterUp=0.7, eyeWide=0.3, jawOpen=0.6)
    assert surprise == {"AU01", "AU02", "AU05", "AU25", "AU26", "AU27"}
    assert strong(browDown=0.6, eyeSquint=0.6) == {"AU04", "AU07"}
    assert strong(mouthFrown=0.3) == {"AU15"}
    assert strong(eyeBlink=0.6) == {"AU43", "AU45"}


def test_one_side_counts_half() -> None:
    one_side = coefficients()
    one_side[0, BLENDSHAPES.index("browDownLeft")] = 0.8
    rule = next(rule for rule in AU_RULES if rule.unit == "AU04")
    assert raw_action_unit(one_side, rule=rule)[0] == pytest.approx(0.4)


def test_flat_and_unreliable_units_are_unknown() -> None:
    known = units(coefficients(cheekSquint=1.0, noseSneer=1.0, mouthDimple=1.0))
    assert {"AU06", "AU09", "AU14"}.isdisjoint(known)
    assert {"AU03", "AU11", "AU30"}.isdisjoint(known)  # not in the table


@pytest.mark.parametrize("rule", [rule for rule in GIVEN if rule.unless], ids=lambda rule: rule.unit)
def test_a_stronger_movement_makes_a_unit_unknown(rule: AuRule) -> None:
    assert rule.unless is not None
    shape, limit = rule.unless
    shown = {rule.shapes[0]: rule.full}
    assert rule.unit in units(coefficients(**shown, **{shape: limit - 0.01}))
    blendshapes = coefficients(**shown, **{shape: limit + 0.01})
    targets, mask = action_units_from_blendshapes(blendshapes)
    unit = ACTION_UNITS.index(rule.unit)
    assert not mask[0, unit] and targets[0, unit] == 0
