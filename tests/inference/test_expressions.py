"""The label for people in a stream: smoothed, with hysteresis, and causal in live streams."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from femae.compound.expression import ExpressionRule
from femae.errors import ConfigError
from femae.inference.temporal import ExpressionStage
from femae.labels import ABAW_COMPOUNDS, EMOTIONS
from femae.types import Face, FaceResult, Frame, FrameResult

RULE = ExpressionRule(ABAW_COMPOUNDS)
# happiness alone at which none and happiness are as likely
EVEN = float(
    min(
        np.linspace(0.2, 0.8, 601),
        key=lambda p: abs(
            np.diff(RULE.probabilities(np.array([[0.01, 0.01, 0.01, p, 0.01, 0.01]], np.float32))[0, [0, 4]])[0]
        ),
    )
)
QUIET: dict[str, float] = {}
SMILE = {"happiness": 0.95}


def face(shown: dict[str, float], *, face_id: int = 1) -> FaceResult:
    return FaceResult(
        face=Face(box_xyxy=np.array([0, 0, 9, 9], np.float32), landmarks=None, score=0.9),
        face_id=face_id,
        probs=np.array([shown.get(name, 0.01) for name in EMOTIONS], np.float32),
        scores=np.zeros(7, np.float32),
        compound="Sadly Angry",
        compound_score=0.1,
    )


def film(shown: list[dict[str, float] | None], *, rate: float = 25.0, start: int = 0) -> list[FrameResult]:
    """A frame each; None: no face."""
    results = []
    for i, probs in enumerate(shown):
        frame = Frame(index=start + i + 1, time_s=(start + i) / rate, image=None, source="clip.mp4")
        faces = () if probs is None else (face(probs),)
        results.append(FrameResult(frame=frame, status="ok" if faces else "no_face", faces=faces))
    return results


def labels(results: Iterator[FrameResult] | list[FrameResult]) -> list[str]:
    return [result.faces[0].expression if result.faces else "" for result in results]


def stage(mode: str = "film", window_s: float = 0.25) -> ExpressionStage:
    return ExpressionStage(RULE, window_s=window_s, mode=mode)  # type: ignore[arg-type]


def changes(names: list[str]) -> int:
    return sum(a != b for a, b in itertools.pairwise(names))


def test_single_frames_are_judged_by_themselves() -> None:
    frames = film([QUIET, SMILE, QUIET, None, SMILE])
    assert labels(stage("single")(iter(frames))) == ["none", "happiness", "none", "", "happiness"]


@pytest.mark.parametrize("mode", ["film", "live"])
def test_one_frame_does_not_make_an_expression(mode: str) -> None:
    frames = film([QUIET] * 20 + [SMILE] + [QUIET] * 20)
    assert set(labels(stage(mode)(iter(frames)))) == {"none"}


@pytest.mark.parametrize("mode", ["film", "live"])
def test_what_lasts_is_said_within_the_window(mode: str) -> None:
    names = labels(stage(mode)(iter(film([QUIET] * 30 + [SMILE] * 30))))
    assert changes(names) == 1
    assert abs(names.index("happiness") - 30) <= 0.25 * 25


def test_a_face_between_two_labels_does_not_flicker() -> None:
    rng = np.random.default_rng(0)
    noisy = [{"happiness": float(p)} for p in np.clip(rng.normal(EVEN, 0.12, 500), 0.05, 0.95)]
    by_itself, steady = (labels(stage(mode)(iter(film(noisy)))) for mode in ("single", "film"))
    assert changes(by_itself) > 150 and changes(steady) < 20


def test_probabilities_boxes_and_compounds_stay_as_they_were() -> None:
    frames = film([QUIET, SMILE, QUIET, None, SMILE])
    for before, after in zip(frames, stage()(iter(frames)), strict=True):
        assert after.frame is before.frame and after.status == before.status
        for a, b in zip(before.faces, after.faces, strict=True):
            assert b.probs is a.probs and b.raw_probs is None and b.compound == a.compound and b.face is a.face
            assert b.expression in RULE.names and 0 <= b.expression_probability <= 1


def test_live_gives_each_frame_before_the_next_is_taken() -> None:
    taken: list[int] = []

    def source() -> Iterator[FrameResult]:
        for result in film([QUIET, SMILE] * 5):
            taken.append(result.frame.index)
            yield result

    for result in stage("live")(source()):
        assert taken[-1] == result.frame.index


def test_live_does_not_depend_on_what_comes_later() -> None:
    rng = np.random.default_rng(1)
    shown = [{name: float(p) for name, p in zip(EMOTIONS, rng.random(6) ** 3, strict=True)} for _ in range(60)]
    whole = labels(stage("live")(iter(film(shown))))
    assert labels(stage("live")(iter(film(shown[:35])))) == whole[:35]


def test_a_film_is_held_back_no_longer_than_its_window() -> None:
    taken: list[int] = []

    def source() -> Iterator[FrameResult]:
        for result in film([SMILE] * 100):
            taken.append(result.frame.index)
            yield result

    behind = [taken[-1] - result.frame.index for result in stage()(source())]
    assert max(behind) == 7  # 0.25 s are 6.25 frames


def test_after_a_second_out_of_sight_a_face_is_judged_afresh() -> None:
    between = {"happiness": EVEN - 0.02}  # by itself none; after happiness, happiness is kept
    assert labels(stage()(iter(film([between] * 20))))[-1] == "none"
    assert labels(stage()(iter(film([SMILE] * 20 + [between] * 20))))[-1] == "happiness"
    assert labels(stage()(iter(film([SMILE] * 20 + [None] * 40 + [between] * 20))))[-1] == "none"


def test_a_step_back_in_time_and_unknown_times_begin_anew() -> None:
    twice = film([SMILE] * 20) + film([QUIET] * 20)
    assert labels(stage()(iter(twice))) == ["happiness"] * 20 + ["none"] * 20
    timeless = [
        FrameResult(frame=Frame(index=i, time_s=None, image=None, source="x"), status="ok", faces=(face(shown),))
        for i, shown in enumerate([QUIET, SMILE, QUIET], 1)
    ]
    assert labels(stage()(iter(timeless))) == ["none", "happiness", "none"]
    assert labels(stage("live")(iter(timeless))) == ["none", "happiness", "none"]


def test_people_do_not_share_their_labels() -> None:
    def pair(first: dict[str, float], second: dict[str, float], index: int) -> FrameResult:
        frame = Frame(index=index, time_s=index / 25, image=None, source="x")
        return FrameResult(frame=frame, status="ok", faces=(face(first), face(second, face_id=2)))

    frames = [pair(SMILE, QUIET, i) for i in range(1, 30)]
    for result in stage()(iter(frames)):
        assert [f.expression for f in result.faces] == ["happiness", "none"]


@pytest.mark.parametrize("window_s", [-1.0, float("nan"), float("inf")])
def test_impossible_windows_are_refused(window_s: float) -> None:
    with pytest.raises(ConfigError, match="window"):
        stage(window_s=window_s)
