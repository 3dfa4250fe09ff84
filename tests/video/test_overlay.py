"""Annotations stay inside the picture, show what they should, and leave the original alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from femae.labels import ABAW_COMPOUNDS, EMOTIONS, RAF_DB_COMPOUNDS, compound_from_pair
from femae.types import Face, FaceResult, Frame, FrameResult, LabelView
from femae.video.overlay import draw
from femae.video.palette import DASH, EMOTION_COLOURS, NONE_COLOUR, Layer, line_mask, line_width, text_mask

Picture = npt.NDArray[np.uint8]
VIEWS: list[LabelView] = ["expression", "compound"]
SIZES = [(36, 64), (20, 300), (300, 20), (144, 176), (360, 640), (1080, 1920), (1, 1)]


def face(
    box: Sequence[float],
    *,
    face_id: int = 1,
    expression: str = "Sadly Angry",
    compound: str = "Sadly Angry",
    probs: Sequence[float] = (),
) -> FaceResult:
    return FaceResult(
        face=Face(box_xyxy=np.array(box, np.float32), landmarks=None, score=0.9),
        face_id=face_id,
        probs=np.array(probs or [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32),
        scores=np.zeros(7, np.float32),
        compound=compound,
        compound_score=1.234,
        expression=expression,
        expression_probability=0.62,
    )


def result(*faces: FaceResult, status: str = "ok") -> FrameResult:
    frame = Frame(index=1, time_s=0.0, image=None, source="x")
    return FrameResult(frame=frame, status=status if not faces else "ok", faces=faces)  # type: ignore[arg-type]


def ground(height: int, width: int, level: int = 128) -> Picture:
    return np.full((height, width, 3), level, np.uint8)


def changed(before: Picture, after: Picture) -> npt.NDArray[np.bool_]:
    return (before != after).any(axis=2)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_box_shows_on_any_ground_and_the_original_stays(height: int, width: int, level: int) -> None:
    picture = ground(height, width, level)
    drawn = draw(picture, result(face([width * 0.3, height * 0.2, width * 0.6, height * 0.8])), ABAW_COMPOUNDS)
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8
    assert (picture == level).all()
    assert changed(picture, drawn).any() or picture.size == 3


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    "box",
    [(-500, -500, 9000, 9000), (-50, -50, 5, 5), (1e9, 1e9, 2e9, 2e9), (10, 10, 10, 10), (30, 30, 5, 5), (np.nan,) * 4],
)
def test_boxes_beyond_the_border_and_senseless_ones(height: int, width: int, box: tuple[float, ...]) -> None:
    assert draw(ground(height, width), result(face(box)), ABAW_COMPOUNDS).shape == (height, width, 3)


def test_bars_are_as_long_as_the_probabilities() -> None:
    probs = [0.0, 0.25, 0.5, 0.75, 1.0, 0.1]
    drawn = draw(ground(360, 640), result(face([100, 80, 220, 240], probs=probs)), ABAW_COMPOUNDS)
    lengths = []
    for emotion in EMOTIONS:
        rows = (drawn == EMOTION_COLOURS[emotion]).all(axis=2).sum(axis=1)
        lengths.append(int(rows.max()))
    full = lengths[4]
    assert full > 30
    assert lengths == pytest.approx([full * prob for prob in probs], abs=1)


def test_probabilities_out_of_range_do_no_harm() -> None:
    probs = [float("nan"), -1.0, 7.0, float("inf"), 0.5, 0.5]
    assert draw(ground(360, 640), result(face([100, 80, 220, 240], probs=probs)), ABAW_COMPOUNDS).any()


def test_panels_hide_no_face_and_no_other_panel() -> None:
    boxes = [(60, 60, 160, 200), (480, 60, 580, 200), (60, 320, 160, 460), (480, 320, 580, 460)]
    picture = ground(540, 720)
    drawn = draw(picture, result(*(face(box, face_id=n) for n, box in enumerate(boxes, 1))), ABAW_COMPOUNDS)
    for x1, y1, x2, y2 in boxes:
        assert not changed(picture, drawn)[y1 + 10 : y2 - 10, x1 + 10 : x2 - 10].any()
    happy = (drawn == EMOTION_COLOURS["happiness"]).all(axis=2)
    assert happy.any(axis=0).sum() > 40 and happy.any(axis=1).sum() > 8


def test_bars_go_before_texts_and_texts_before_boxes() -> None:
    def shows_bars(height: int, width: int) -> bool:
        seen = face([width * 0.4, height * 0.3, width * 0.5, height * 0.7], expression="none")
        drawn = draw(ground(height, width), result(seen), ABAW_COMPOUNDS)
        return bool((drawn == EMOTION_COLOURS["anger"]).all(axis=2).any())

    def num_changed(height: int, width: int) -> int:
        box = face([width * 0.4, height * 0.3, width * 0.5, height * 0.7])
        return int(changed(ground(height, width), draw(ground(height, width), result(box), ABAW_COMPOUNDS)).sum())

    assert shows_bars(360, 640) and not shows_bars(144, 176) and not shows_bars(36, 64)
    assert num_changed(144, 176) > 900  # box and label
    assert 0 < num_changed(36, 64) < 90  # box alone


def test_many_overlapping_faces() -> None:
    faces = [face([20 * n, 10 * n, 20 * n + 90, 10 * n + 90], face_id=n + 1) for n in range(20)]
    drawn = draw(ground(360, 640), result(*faces), RAF_DB_COMPOUNDS)
    assert drawn.shape == (360, 640, 3)


def test_abstained_compound_is_a_dash() -> None:
    box = [100, 80, 220, 240]
    named = draw(ground(360, 640), result(face(box)), ABAW_COMPOUNDS, labels="compound")
    abstained = draw(ground(360, 640), result(face(box, compound="")), ABAW_COMPOUNDS, labels="compound")
    undecided = draw(ground(360, 640), result(face(box, expression="")), ABAW_COMPOUNDS)
    assert (named != abstained).any() and (abstained == undecided).all()
    dash = text_mask(DASH, 20)
    assert dash.shape == (25, 20) and (dash.max(axis=1) > 0).sum() <= 3 and dash.any(axis=0).all()


@pytest.mark.parametrize("labels", VIEWS)
def test_the_two_emotions_of_the_compound_are_bright(labels: LabelView) -> None:
    box = [100, 80, 220, 240]
    own = (compound_from_pair("sadness", "anger"),)
    plain = draw(ground(360, 640), result(face(box)), (compound_from_pair("fear", "anger"),), labels=labels)
    bright = draw(ground(360, 640), result(face(box)), own, labels=labels)
    assert bright.astype(int).sum() > plain.astype(int).sum()


@pytest.mark.parametrize("height", [72, 360])  # a label alone, and a panel
@pytest.mark.parametrize("labels", VIEWS)
def test_the_label_of_a_face_that_shows_nothing_is_faint(height: int, labels: LabelView) -> None:
    box = [10, 30, 60, 60] if height == 72 else [100, 80, 220, 240]
    faces = [
        face(box, probs=[0, 0, 0, 0, 0.2, top], expression=expression)
        for top, expression in ((0.35, "Sadly Angry"), (0.25, "none"))
    ]
    clear, weak = (draw(ground(height, 640, 0), result(f), ABAW_COMPOUNDS, labels=labels) for f in faces)
    letters = [(picture >= 200).all(axis=2).sum() for picture in (clear, weak)]
    box_alone = 2 * (50 + 30) if height == 72 else 2 * (120 + 160)
    assert letters[0] > letters[1] + 8 and letters[1] >= box_alone - 8


def test_a_label_has_a_mark_in_its_colours() -> None:
    """The mark is one block for an emotion, two halves for a compound, a thin gray block for none."""

    def rows_of(expression: str, colour: tuple[int, int, int]) -> npt.NDArray[np.intp]:
        """Rows with this colour in the drawing of a face whose bars are empty."""
        seen = result(face([100, 80, 220, 240], expression=expression, probs=[1e-9] * 6))
        drawn = draw(ground(360, 640), seen, ABAW_COMPOUNDS)
        return np.flatnonzero((drawn == colour).all(axis=2).any(axis=1))

    whole = rows_of("anger", EMOTION_COLOURS["anger"])
    upper, lower = (rows_of("Sadly Angry", EMOTION_COLOURS[name]) for name in ("sadness", "anger"))
    assert len(whole) == len(upper) + len(lower) and upper[-1] + 1 == lower[0] and whole[0] == upper[0]
    assert 0 < len(rows_of("none", NONE_COLOUR)) <= len(whole) / 3
    assert not any(len(rows_of("none", colour)) for colour in EMOTION_COLOURS.values())


@pytest.mark.parametrize("labels", VIEWS)
def test_a_panel_keeps_its_place_when_the_label_changes(labels: LabelView) -> None:
    def bar(name: str) -> npt.NDArray[np.bool_]:
        seen = result(face([100, 80, 220, 240], compound=name, expression=name))
        drawn = draw(ground(360, 640), seen, ABAW_COMPOUNDS, labels=labels)
        return np.asarray((drawn == EMOTION_COLOURS["disgust"]).all(axis=2))

    assert (bar("Sadly Angry") == bar("Happily Surprised")).all()


@pytest.mark.parametrize("status", ["no_face", "unreadable"])
def test_frames_without_a_face_have_a_small_word_in_a_corner(status: str) -> None:
    picture = ground(360, 640)
    touched = changed(picture, draw(picture, result(status=status), ABAW_COMPOUNDS))
    assert 200 < touched.sum() < 3000
    assert not touched[:300].any() and not touched[:, 200:].any()
    tiny = ground(36, 64)
    assert not changed(tiny, draw(tiny, result(status=status), ABAW_COMPOUNDS)).any()


def test_sheet_blends_by_its_opacity() -> None:
    sheet = Layer.empty(2, 2, opacity=51)
    sheet.fill(x=0, y=0, width=1, height=1, colour=(10, 20, 30))
    picture = ground(4, 4, 100)
    sheet.blend_onto(picture, x=1, y=1)
    assert tuple(picture[1, 1]) == (10, 20, 30) and tuple(picture[2, 2]) == (80, 80, 80)
    assert (picture[0] == 100).all() and (picture[3] == 100).all()


def test_width_of_a_line_is_known_without_painting_it() -> None:
    parts = ("#12", "Happily Surprised", DASH)
    assert line_width(parts, 17) == line_mask(parts, 17).shape[1]


def test_texts_differ_and_lines_have_space_between() -> None:
    assert text_mask("surprise", 13).shape[0] == text_mask("fear", 13).shape[0]
    assert not np.array_equal(text_mask("0.12", 13), text_mask("0.34", 13))
    line = line_mask(("a", "b"), 12)
    assert line.shape[1] == text_mask("a", 12).shape[1] + 6 + text_mask("b", 12).shape[1]
